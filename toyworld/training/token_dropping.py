"""Training on a part of a clip's tokens."""

import torch
from torch import nn


class TokenDropping:
    """Hooks of a transformer with patches of one, which then gets of each clip only the tokens whose numbers are `keep`
    (int [B, K]; None: all). Its velocity is 0 at the others.

    A quarter of the tokens costs a quarter, so a step can learn from four times as many clips or noise levels
    (MaskDiT, arXiv 2306.09305); a few steps with all tokens have to follow.
    """

    def __init__(self, transformer: nn.Module):
        self.keep: torch.Tensor | None = None
        transformer.rope.register_forward_hook(self._rotations)
        transformer.patch_embedding.register_forward_hook(self._patches)
        transformer.proj_out.register_forward_hook(self._velocities)

    def kept(self, x: torch.Tensor) -> torch.Tensor:
        """Those of [B or 1, tokens, ...] that are kept."""
        if self.keep is None:
            return x
        rows = torch.arange(len(self.keep), device=x.device)[:, None]
        return x.expand(len(self.keep), *x.shape[1:])[rows, self.keep]

    def _rotations(self, module, given, rotations):
        return tuple(self.kept(each) for each in rotations)

    def _patches(self, module, given, patches):
        flat = patches.flatten(2)
        self.count = flat.shape[-1]
        return patches if self.keep is None else self.kept(flat.mT).mT[..., None, None]

    def _velocities(self, module, given, velocities):
        if self.keep is None:
            return velocities
        everywhere = velocities.new_zeros(len(velocities), self.count, velocities.shape[-1])
        return everywhere.scatter(1, self.keep[..., None].expand_as(velocities), velocities)
