"""The table of the ablations: what each leaves out, and what that does to the validation loss."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from bico.runtime.files import write_text

LEGEND = """Change of the fixed-noise validation loss against the unbound model in %, without the absorbent tokens, mean
over nine noise quantiles and the concepts, with the 95 % bootstrap interval where there are several; lower is better.
It says how well the words reproduce their own source, not how well they compose: look at each method's page for that.
"""


@dataclass(frozen=True)
class AblationSettings:
    """methods: the switches of each ablation, by name; kinds: of the concepts, `image` or `video`."""

    methods: dict
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One method. switches: those that differ from the reference. images, videos: the change of the last stage's mean
    validation loss against the unbound base, in %, of each concept of the kind."""

    method: str
    switches: dict
    images: tuple[float, ...]
    videos: tuple[float, ...]


def ablation_rows(settings: AblationSettings, logs: Sequence[str | Path], reference: dict) -> list["Row"]:
    """A row for each ablation. logs: of the last stages of each one's concepts, one ablation after the other;
    reference: the switches that they are compared with."""
    concepts, rows = len(settings.kinds), []
    for first, (name, switches) in enumerate(settings.methods.items()):
        own = zip(settings.kinds, logs[first * concepts : (first + 1) * concepts], strict=True)
        by_kind = {"image": [], "video": []}
        for kind, log in own:
            by_kind[kind].append(log)
        rows.append(row(name, switches, reference, by_kind["image"], by_kind["video"]))
    return rows


def change_of_loss(log: str | Path) -> float:
    """How a stage ended: its last validation loss, the mean over the noise quantiles, against the unbound base's, %."""
    entries = [json.loads(line) for line in Path(log).read_text("utf-8").splitlines()]
    base = next(entry["validation_base"] for entry in entries if "validation_base" in entry)
    last = next(entry["validation"] for entry in reversed(entries) if "validation" in entry)
    return 100 * (fmean(last.values()) / fmean(base.values()) - 1)


def row(method: str, switches: dict, reference: dict, images: Sequence[str], videos: Sequence[str]) -> Row:
    """A method's row, from the logs of the last stages of its image and video concepts."""
    differs = {name: value for name, value in switches.items() if value != reference[name]}
    return Row(method, differs, *(tuple(map(change_of_loss, logs)) for logs in (images, videos)))


def interval(values: Sequence[float], draws: int = 10_000) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean."""
    means = np.random.default_rng(0).choice(values, (draws, len(values))).mean(1)
    return tuple(np.quantile(means, (0.025, 0.975)).tolist())


def write_table(rows: Sequence[Row], markdown: str | Path, table: str | Path) -> None:
    """Writes the rows as Markdown and as CSV; the numbers are the same."""
    lines = ["| method | differs from the paper's in | images, % | videos, % |", "| --- | --- | --- | --- |"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = [f"{kind}_{figure}" for kind in ("images", "videos") for figure in ("change_percent", "low", "high")]
    writer.writerow(["method", "switches", *figures])
    for entry in rows:
        switches = ", ".join(f"{name}: {json.dumps(value)}" for name, value in entry.switches.items())
        of_images, of_videos = map(_figures, (entry.images, entry.videos))
        lines.append(f"| {entry.method} | {switches or 'nothing'} | {_told(of_images)} | {_told(of_videos)} |")
        writer.writerow([entry.method, switches, *of_images, *of_videos])
    write_text(markdown, "\n".join([*lines, "", LEGEND]))
    write_text(table, text.getvalue())


def _figures(values: Sequence[float]) -> list[str]:
    """The mean and the ends of its interval; empty where there is none."""
    mean = [f"{fmean(values):+.2f}"] if values else [""]
    return mean + ([f"{end:+.2f}" for end in interval(values)] if len(values) > 1 else ["", ""])


def _told(figures: Sequence[str]) -> str:
    mean, low, high = figures
    return f"{mean} ({low} to {high})" if low else mean
