"""The table of the ablations: what each leaves out, and what that does to the validation loss."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bico.files import write_text

LEGEND = """Change of the fixed-noise validation loss against the unbound model, without the absorbent tokens, mean over
nine noise quantiles and the concepts; lower is better. It says how well the words reproduce their own source, not how
well they compose: look at each method's page for that.
"""


@dataclass(frozen=True)
class Row:
    """One method. switches: those that differ from the reference. images, videos: the change of the last stage's mean
    validation loss against the unbound base, in %, the mean over those concepts; None without any."""

    method: str
    switches: dict
    images: float | None
    videos: float | None


def change_of_loss(log: str | Path) -> float:
    """How a stage ended: its last validation loss, the mean over the noise quantiles, against the unbound base's, %."""
    entries = [json.loads(line) for line in Path(log).read_text("utf-8").splitlines()]
    base = next(entry["validation_base"] for entry in entries if "validation_base" in entry)
    last = next(entry["validation"] for entry in reversed(entries) if "validation" in entry)
    return 100 * (fmean(last.values()) / fmean(base.values()) - 1)


def row(method: str, switches: dict, reference: dict, images: Sequence[str], videos: Sequence[str]) -> Row:
    """A method's row, from the logs of the last stages of its image and video concepts."""
    differs = {name: value for name, value in switches.items() if value != reference[name]}
    means = [fmean(map(change_of_loss, logs)) if logs else None for logs in (images, videos)]
    return Row(method, differs, *means)


def write_table(rows: Sequence[Row], markdown: str | Path, table: str | Path) -> None:
    """Writes the rows as Markdown and as CSV; the numbers are the same."""
    lines = ["| method | differs from the paper's in | images | videos |", "| --- | --- | --- | --- |"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "switches", "images_loss_change_percent", "videos_loss_change_percent"])
    for entry in rows:
        figures = ["" if value is None else f"{value:+.2f}" for value in (entry.images, entry.videos)]
        switches = ", ".join(f"{name}: {json.dumps(value)}" for name, value in entry.switches.items())
        lines.append(f"| {entry.method} | {switches or 'nothing'} | {figures[0]} % | {figures[1]} % |")
        writer.writerow([entry.method, switches, *figures])
    write_text(markdown, "\n".join([*lines, "", LEGEND]))
    write_text(table, text.getvalue())
