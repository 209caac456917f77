"""Fixed linear probes of hidden states."""

import torch
from torch import nn


def axes(width: int, *counts: int) -> list[torch.Tensor]:
    """Directions along which hidden states of a width are to tell what is known of an example: so many of each kind,
    [count, width] each, all orthonormal. They are always the same and are not learned, as a linear head would be: what
    is told along them is told as loudly as all else (the states are normed), and the layers above soon hear it."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([torch.randn(width, count, generator=generator) for count in counts], 1)
    return list(torch.linalg.qr(drawn).Q.T.split(counts))


def told(hidden: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """What hidden states [..., W] tell along some axes [count, W]: [..., count]."""
    return nn.functional.rms_norm(hidden.float(), hidden.shape[-1:]) @ along.T


LOGIT = 3.0  # what is told of a word, times this, is its logit
