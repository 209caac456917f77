"""The denoiser: a velocity from noisy latents, a time, a prompt for each block, and conditions where it has any.

Whoever trains or samples asks for no more than `project` and `forward`.
"""

from collections.abc import Sequence

import torch
from torch import nn

from bico import InputError


class BlockwiseTransformer(nn.Module):
    """A WanTransformer3DModel whose block i attends to its own prompt.

    Takes the transformer over: its text projection moves to `project`, and each cross-attention picks its own slice of
    the contexts. Those travel through the model as an ordinary argument, so gradient checkpointing works.
    """

    def __init__(self, transformer: nn.Module):
        super().__init__()
        self.project_text = transformer.condition_embedder.text_embedder
        transformer.condition_embedder.text_embedder = nn.Identity()
        for i, block in enumerate(transformer.blocks):
            block.attn2.register_forward_pre_hook(_pick_context(i))
        self.transformer = transformer
        self.blocks = len(transformer.blocks)

    @property
    def experts(self) -> "tuple[BlockwiseTransformer, ...]":
        return (self,)

    def project(self, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """e [B, L, E] to p [X, B, L, D] of each of X experts; here one."""
        return self.project_text(prompt_embeds)[None]

    def forward(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        contexts: torch.Tensor,
        conditions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The velocity at latents [B, C, F, H, W], timestep [B] in [0, 1000], contexts [N, B, L, D]: as latents.

        conditions [B, C', F, H, W]: what an image-to-video transformer, of C + C' input channels, is given besides.
        """
        dtype = self.transformer.dtype
        given = latents if conditions is None else torch.cat([latents, conditions], dim=1)
        return self.transformer(given.to(dtype), timestep, contexts.to(dtype), return_dict=False)[0]


def _pick_context(i: int):
    def pick(_module, args):
        hidden_states, contexts, *rest = args
        return (hidden_states, contexts[i], *rest)

    return pick


class Experts(nn.Module):
    """Two denoisers that share the noise levels, as Wan2.2-A14B has them: the first from the boundary on up, the second
    below it.

    boundary: in (0, 1], of the timestep's 1000. Each has a text projection of its own.
    """

    def __init__(self, first: BlockwiseTransformer, second: BlockwiseTransformer, boundary: float):
        super().__init__()
        self.first, self.second, self.boundary = first, second, boundary
        self.blocks = first.blocks

    @property
    def experts(self) -> tuple[BlockwiseTransformer, ...]:
        return (self.first, self.second)

    def project(self, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """e [B, L, E] to p [2, B, L, D]."""
        return torch.cat([expert.project(prompt_embeds) for expert in self.experts])

    def forward(self, latents, timestep, contexts, conditions=None) -> torch.Tensor:
        """As a single denoiser, of contexts [2 N, B, L, D], the first expert's before the second's. Each example of the
        batch goes to the expert of its own timestep."""
        above, velocity = timestep >= 1000 * self.boundary, None
        for expert, mine, own in zip(self.experts, (above, ~above), contexts.split(self.blocks), strict=True):
            rows = mine.nonzero().squeeze(1)
            if len(rows):
                given = None if conditions is None else conditions[rows]
                predicted = expert(latents[rows], timestep[rows], own[:, rows], given)
                velocity = torch.zeros_like(latents, dtype=predicted.dtype) if velocity is None else velocity
                velocity = velocity.index_copy(0, rows, predicted)
        return velocity


def require_boundary(experts: int, boundary: float | None) -> None:
    """Raises InputError unless two experts have a boundary and one has none."""
    if (experts == 2) != (boundary is not None):
        raise InputError(f"{experts} transformers and boundary {boundary}; two experts have one, one has none")


def denoiser(transformers: Sequence[nn.Module], boundary: float | None) -> BlockwiseTransformer | Experts:
    """The denoiser of one transformer or of two experts."""
    experts = [BlockwiseTransformer(transformer) for transformer in transformers]
    return experts[0] if len(experts) == 1 else Experts(*experts, boundary)
