"""How strongly each word of a prompt is bound in each block."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch

from bico.models.tensors import load_tensors
from bico.render.bound_prompt import read_header
from bico.report.sheets import palette
from bico.runtime.files import atomic

matplotlib.use("agg")
from matplotlib import pyplot as plt


def strengths(bound: str | Path) -> tuple[list[str], list[str], np.ndarray]:
    """The bound tokens of a bound prompt, the concept of each, and how far each block's binders move them: the length
    of what they add as a share of the token's own, [X N, n] of N blocks of X experts. Raises InputError."""
    header, tensors = read_header(bound), load_tensors(bound, "prompt", "rows", "bound")
    rows, moved = tensors["rows"], tensors["bound"].float()
    own = tensors["prompt"].float().reshape(-1, *tensors["prompt"].shape[-2:])[:, rows]
    own = own.repeat_interleave(len(moved) // len(own), 0)
    shares = torch.linalg.vector_norm(moved - own, dim=-1) / torch.linalg.vector_norm(own, dim=-1).clamp(min=1e-12)
    tokens, owners = ([header[name][row] for row in rows.tolist()] for name in ("tokens", "owner"))
    return tokens, owners, shares.numpy()


def plot_strength(bound: str | Path, output: str | Path) -> None:
    """A heat map: blocks from top to bottom, the bound tokens from left to right in the colours of their sources."""
    tokens, owners, shares = strengths(bound)
    width = max(4.0, 1.6 + 0.42 * len(tokens))
    figure, axis = plt.subplots(figsize=(width, max(2.6, 1.6 + 0.13 * len(shares))), layout="constrained")
    image = axis.imshow(shares, aspect="auto", cmap="viridis", vmin=0)
    axis.set(ylabel="block", xticks=range(len(tokens)))
    axis.set_xticklabels([token.replace("▁", " ").strip() or "␣" for token in tokens], rotation=60, ha="right")
    for label, colour in zip(axis.get_xticklabels(), _colours(owners), strict=True):
        label.set_color(colour)
    figure.colorbar(image, label="added, as a share\nof the token's length")
    with atomic(output) as part:
        figure.savefig(part, dpi=110)
    plt.close(figure)


def _colours(owners: Sequence[str]) -> list[str]:
    """Those of the concepts on the page, which counts them in the order of the prompt."""
    places = {concept: place for place, concept in enumerate(dict.fromkeys(owners))}
    return [palette(places[owner]) for owner in owners]
