"""Noise levels: the time grid, what a phase of training draws from it, and the loss weight.

The grid runs from noise to data: step i of n has the unshifted level u = 1 - i/n, so index 0 is the noisiest. Its
position d = (n - 1 - i) / n lies in [0, 1): d >= 0.875 are exactly the noisiest 12.5 % of the steps.
"""

import torch

GRID_STEPS = 1000


def shift_sigma(u, shift: float):
    """Unshifted level u in [0, 1] to the noise level sigma in [0, 1]: shift u / (1 + (shift - 1) u)."""
    return shift * u / (1 + (shift - 1) * u)


def training_sigmas(shift: float, steps: int = GRID_STEPS) -> torch.Tensor:
    """[steps] float64, falling from 1; times 1000 they are the transformer's timesteps."""
    return shift_sigma(1 - torch.arange(steps, dtype=torch.float64) / steps, shift)


def phase_probabilities(draw: str, alpha: float, beta: float, steps: int = GRID_STEPS) -> torch.Tensor:
    """The probability of each grid step in a phase: [steps] float64, sums to 1.

    uniform:   every step alike (paper, phase 2).
    inverted:  with probability beta a step with d >= alpha, the noisiest 1 - alpha; else one below (paper, phase 1).
    reversed:  with probability beta one of the CLEANEST 1 - alpha steps; else another (release, phase 1: its list runs
               from noisy to clean and it takes the end).
    remainder: with probability beta one outside those cleanest steps; else one of them (release, phase 2).
    """
    index = torch.arange(steps, dtype=torch.float64)
    favoured = {
        "uniform": torch.ones(steps, dtype=torch.bool),
        "inverted": (steps - 1 - index) / steps >= alpha,
        "reversed": index >= alpha * steps,
        "remainder": index < alpha * steps,
    }[draw]
    if draw == "uniform":
        return torch.full((steps,), 1 / steps, dtype=torch.float64)
    inside, outside = int(favoured.sum()), int((~favoured).sum())
    if not inside or not outside:
        raise ValueError(f"alpha {alpha} leaves no step on one side of the grid of {steps}")
    return torch.full((steps,), (1 - beta) / outside, dtype=torch.float64).masked_fill_(favoured, beta / inside)


def draw_steps(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Grid steps by inverse transform of `uniform` in [0, 1), any shape: int64 of that shape."""
    cumulative = probabilities.cumsum(0)
    return torch.searchsorted(cumulative / cumulative[-1], uniform.double(), right=True).clamp_(max=len(cumulative) - 1)


def loss_weights(kind: str, sigmas: torch.Tensor) -> torch.Tensor:
    """The loss weight of each grid step, [steps] float64, mean 1. `none`: 1 (paper). `bell`: exp(-2 ((t-500)/1000)^2)
    of the timestep t = 1000 sigma, its minimum subtracted (release, after DiffSynth-Studio)."""
    if kind == "none":
        return torch.ones_like(sigmas)
    bell = torch.exp(-2 * ((1000 * sigmas - 500) / 1000) ** 2)
    bell = bell - bell.min()
    return bell * (len(bell) / bell.sum())
