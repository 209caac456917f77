"""Fixed linear probes of hidden states, for deep supervision: a loss on what they read trains the layers below."""

import torch
from torch import nn

LOGIT = 3.0  # the logit of a word is this times its probe


def probe_directions(width: int, *counts: int) -> list[torch.Tensor]:
    """Orthonormal directions in the hidden states of a width, so many for each kind of target: [count, width] each.

    They are always the same and not learned, unlike a linear head: since `probe` normalises the states, the only way to
    lower a probe's loss is to put its target into the states at the scale of all else, where later layers read it.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([torch.randn(width, count, generator=generator) for count in counts], 1)
    return list(torch.linalg.qr(drawn).Q.T.split(counts))


def probe(hidden: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The projections of RMS-normed hidden states [..., W] on directions [count, W]: [..., count]."""
    return nn.functional.rms_norm(hidden.float(), hidden.shape[-1:]) @ directions.T
