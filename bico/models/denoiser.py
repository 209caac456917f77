"""The denoiser: a velocity from noisy latents, a time, a prompt for each block, and conditions where it has any.

Whoever trains or samples asks for no more than `project` and `forward`.
"""

import torch
from torch import nn


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

    def project(self, prompt_embeds: torch.Tensor) -> torch.Tensor:
        """e [B, L, E] to p [B, L, D]."""
        return self.project_text(prompt_embeds)

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
    """Two denoisers that share the noise levels, as Wan2.2-A14B has them: the first above the boundary, the second from
    there on down.

    boundary: in (0, 1), of the timestep's 1000. Each has a text projection of its own, so contexts come in pairs.
    """

    def __init__(self, high: BlockwiseTransformer, low: BlockwiseTransformer, boundary: float):
        super().__init__()
        self.high, self.low, self.boundary = high, low, boundary

    def project(self, prompt_embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """e [B, L, E] to the p [B, L, D] of each."""
        return self.high.project(prompt_embeds), self.low.project(prompt_embeds)

    def forward(self, latents, timestep, contexts, conditions=None) -> torch.Tensor:
        """As a single denoiser, with `contexts` of each; all of a batch stand on the same side of the boundary."""
        above = timestep >= 1000 * self.boundary
        if above.any() != above.all():
            raise ValueError(f"a batch on both sides of the boundary {self.boundary}: {timestep.tolist()}")
        expert, own = (self.high, contexts[0]) if above.all() else (self.low, contexts[1])
        return expert(latents, timestep, own, conditions)
