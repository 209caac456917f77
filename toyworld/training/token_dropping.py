"""Training on a part of a clip's tokens."""

import torch
from torch import nn


class SomeTokens:
    """Hooks of a transformer with patches of one, which then sees of each clip the tokens of the numbers `keep` (int
    [B, K]; None: all) only. Its velocity is 0 at the others.

    A quarter of the tokens costs a quarter, so a step can learn from four times as many clips or noise levels
    (MaskDiT, arXiv 2306.09305); a few steps with all tokens have to follow.
    """

    def __init__(self, transformer: nn.Module):
        self.keep: torch.Tensor | None = None
        transformer.rope.register_forward_hook(self._turns)
        transformer.patch_embedding.register_forward_hook(self._patches)
        transformer.proj_out.register_forward_hook(self._velocities)

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Those of [B or 1, tokens, ...] that are seen."""
        if self.keep is None:
            return x
        rows = torch.arange(len(self.keep), device=x.device)[:, None]
        return x.expand(len(self.keep), *x.shape[1:])[rows, self.keep]

    def _turns(self, module, given, turns):
        return tuple(self.of(each) for each in turns)

    def _patches(self, module, given, patches):
        flat = patches.flatten(2)
        self.count = flat.shape[-1]
        return patches if self.keep is None else self.of(flat.mT).mT[..., None, None]

    def _velocities(self, module, given, seen):
        if self.keep is None:
            return seen
        everywhere = seen.new_zeros(len(seen), self.count, seen.shape[-1])
        return everywhere.scatter(1, self.keep[..., None].expand_as(seen), seen)
