"""Plots of training."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from bico.runtime.files import atomic

matplotlib.use("agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True)
class PlotSettings:
    """title: of the plot."""

    title: str


def plot_training(path: str | Path, entries: list[dict], title: str) -> None:
    """A run's log as a picture: the training loss with the fixed-noise validation loss, the validation loss at each
    noise quantile against the unbound base, and gamma.
    """
    steps = [entry for entry in entries if "loss" in entry]
    base = next(entry["validation_base"] for entry in entries if "validation_base" in entry)
    validations = [(entry["step"], entry["validation"]) for entry in entries if "validation" in entry]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    figure.suptitle(title)

    at, loss = np.array([e["step"] for e in steps]), np.array([e["loss"] for e in steps])
    left.plot(at, loss, color="0.8", linewidth=0.6, label="training loss")
    window = max(1, len(loss) // 20)
    smooth = np.convolve(loss, np.ones(window) / window, "valid")
    left.plot(at[window - 1 :], smooth, color="tab:blue", label=f"its mean over {window} steps")
    means = [np.mean(list(validation.values())) for _, validation in validations]
    left.plot([s for s, _ in validations], means, "o-", color="tab:red", markersize=3, label="validation loss")
    left.axhline(np.mean(list(base.values())), color="tab:red", linestyle=":", label="validation loss, unbound")
    boundary = sum(entry["phase"] == 1 for entry in steps)
    if 0 < boundary < len(steps):
        left.axvline(steps[boundary]["step"], color="0.5", linewidth=0.8)
        left.text(steps[boundary]["step"], left.get_ylim()[1], " phase 2", va="top", color="0.4", fontsize=8)
    left.set(xlabel="step", ylabel="mean squared error")
    left.legend(fontsize=8)

    quantiles, last = [float(u) for u in base], validations[-1][1]
    change = [100 * (last[u] / base[u] - 1) for u in base]
    bars = middle.bar(quantiles, change, width=0.07, color=["tab:green" if c < 0 else "tab:red" for c in change])
    middle.bar_label(bars, [f"{last[u]:.3g}" for u in base], fontsize=7, padding=2)
    middle.axhline(0, color="0.3", linewidth=0.8)
    middle.margins(y=0.15)
    middle.set(xlabel="noise quantile u (1 is pure noise)", ylabel="validation loss against unbound, %")

    right.plot(at, [e["gamma_global"] for e in steps], color="tab:blue", label="global binder")
    for i, block in enumerate(zip(*(e["gamma_blocks"] for e in steps), strict=True)):
        right.plot(at, block, color="tab:orange", alpha=0.5, linewidth=0.8, label="block binders" if i == 0 else None)
    right.set(xlabel="step", ylabel="gamma")
    right.legend(fontsize=8)
    with atomic(path) as part:
        figure.savefig(part, dpi=110)
    plt.close(figure)


def plot_noise(path: str | Path, phases: dict[str, np.ndarray]) -> None:
    """What each phase of training draws, as densities over the noise level. phases: a title, sigmas drawn [n]."""
    figure, axes = plt.subplots(1, len(phases), figsize=(3.6 * len(phases), 3), sharey=True, layout="constrained")
    for axis, (title, sigmas) in zip(axes, phases.items(), strict=True):
        axis.hist(sigmas, bins=50, range=(0, 1), density=True, color="tab:blue")
        axis.set(title=title, xlabel="noise level s (1 is pure noise)")
    axes[0].set(ylabel="density of draws", yscale="log", ylim=(0.01, 100))
    with atomic(path) as part:
        figure.savefig(part, dpi=110)
    plt.close(figure)
