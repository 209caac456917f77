"""Binding a prompt: tokens with owners through their sources' binders, into what each block attends to.

The way of one prompt: e [B, L, E] -> the denoiser's `project` -> p [B, L, D], of each expert -> `bind` -> contexts
[N, B, L, D], where contexts[i] is p_u^i, the key/value input of block i's cross-attention. Training and rendering run
the same code.
"""

from collections.abc import Sequence

import torch
from torch import nn

from bico.methods.bico.binder import ConceptBinder


def bind(
    prompt: torch.Tensor,
    owner: torch.Tensor,
    binders: Sequence[ConceptBinder],
    blocks: int,
    scale: torch.Tensor | None = None,
    per_block: bool = True,
) -> torch.Tensor:
    """p to every block's bound prompt: p_g = f_g(p), p_u^i = f_l^i(p_g); each owned token by its own source's binders.

    prompt [B, L, D]; owner [B, L] int, k for binders[k-1], 0 for none; scale [B, L] multiplies the residuals; `blocks`
    is N. Without `per_block` every block gets p_g. Returns [N, B, L, D] in at least float32; tokens without an owner
    keep their values to the bit.
    """
    shape, width = prompt.shape, prompt.shape[-1]
    dtype = torch.promote_types(prompt.dtype, torch.float32)
    prompt, owner = prompt.to(dtype).reshape(-1, width), owner.reshape(-1)
    scale = torch.ones_like(owner, dtype=dtype) if scale is None else scale.to(dtype).reshape(-1)
    rows = [(owner == k).nonzero().squeeze(1) for k in range(1, len(binders) + 1)]

    def through(p: torch.Tensor, parts) -> torch.Tensor:
        bound = p
        for part, own in zip(parts, rows, strict=True):
            if part is not None and len(own):
                bound = bound.index_copy(0, own, part(p[own], scale[own, None]))
        return bound

    p_g = through(prompt, [binder.global_binder for binder in binders])
    if not (per_block and binders):
        return p_g.reshape(shape).expand(blocks, *shape)
    bound = [through(p_g, [_block_binder(binder, i) for binder in binders]) for i in range(blocks)]
    return torch.stack(bound).reshape(blocks, *shape)


def _block_binder(binder: ConceptBinder, i: int) -> nn.Module | None:
    return binder.block_binders[i] if binder.spec.per_block else None


def bind_experts(
    prompts: torch.Tensor | Sequence[torch.Tensor],
    owner: torch.Tensor,
    binders: Sequence[ConceptBinder],
    blocks: int,
    scale: torch.Tensor | None = None,
    per_block: bool = True,
) -> torch.Tensor:
    """`bind` for each of X experts: prompts p [X, B, L, D] through each one's own binders, to [X N, B, L, D]."""
    of_experts = zip(*(binder.experts() for binder in binders), strict=True) if binders else [()] * len(prompts)
    pairs = zip(prompts, of_experts, strict=True)
    contexts = [bind(p, owner, own, blocks, scale, per_block) for p, own in pairs]
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def training_prompt(
    prompt: torch.Tensor, lengths: torch.Tensor, absorbent: torch.Tensor | None, placement: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """One source's prompts for training: all words are its own, and the absorbent tokens stand in.

    prompt [B, L, D]; lengths [B], tokens with end-of-text; absorbent [A, D]. placement: `appended` behind end-of-text
    (paper), `end_of_text` in its place (release), `none`. Returns the prompt [B, L, D] and its owners [B, L] (0 or 1).
    """
    at = torch.arange(prompt.shape[1], device=prompt.device).expand(prompt.shape[:2])
    lengths = lengths.to(prompt.device)[:, None]
    owner = (at < lengths - 1).long()
    if placement == "none" or absorbent is None or not len(absorbent):
        return prompt, owner
    first = lengths if placement == "appended" else lengths - 1
    slot = at - first
    absorbs = (slot >= 0) & (slot < len(absorbent))
    tokens = absorbent[slot.clamp(0, len(absorbent) - 1)]
    return torch.where(absorbs[..., None], tokens.to(prompt.dtype), prompt), owner | absorbs
