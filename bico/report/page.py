"""The results page: every rendered video beside its sources, one file of HTML that links to the media."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from bico.evaluate import MEANINGS
from bico.report.sheets import palette
from bico.runtime.files import write_text
from bico.text.grammar import link

PARTS = {part: Path(__file__).with_name(f"page.{part}") for part in ("html", "css", "js")}


@dataclass(frozen=True)
class PageSettings:
    """method: whose results are shown; config: the part of the configuration that says what these are; shown: a digest
    of all that the page shows, and of how."""

    method: str
    config: dict
    shown: str = ""


def write_page(
    output: str | Path, content: dict, phrases: Mapping[str, Sequence[str]] | None = None,
    metrics: Sequence[str | Path] = (),
) -> None:  # fmt: skip
    """Writes the page, its content as `bico.plan.plan.Plan.page_content` gives it; a sheet lies beside its result.

    phrases: of each concept, which words of a prompt can be linked to it. metrics: the metrics.csv of the method, and
    of its twins.
    """
    tables = [_cells(path) for path in metrics]
    words = {concept: [link(phrase, concept) for phrase in found] for concept, found in (phrases or {}).items()}
    compositions = [
        {
            **composition,
            "colours": {concept: palette(k) for k, concept in enumerate(_linked(composition["pieces"]))},
            "moves": any(path.endswith(".mp4") for _, path, *_ in (*composition["sources"], *composition["results"])),
            **_measured(composition, tables),
        }
        for composition in content["compositions"]
    ]
    template, style, script = (PARTS[part].read_text("utf-8") for part in ("html", "css", "js"))
    shown = {
        "compositions": compositions,
        "words": words,
        "names": sorted({concept for each in compositions for concept in each["colours"]}),
        "seeds": sorted({seed for each in compositions for seed, *_ in each["results"]}),
        "style": Markup(style),  # ours, not a user's
        "script": Markup(script),
    }
    write_text(output, Environment(autoescape=True, trim_blocks=True).from_string(template).render(content | shown))


def _cells(path: str | Path) -> dict[tuple[str, str], dict[str, tuple[str, str, str]]]:
    """What a metrics.csv says of each composition and seed: of each metric its value, why there is none, and what it
    means."""
    found = defaultdict(dict)
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = f"{row['metric']}: {row['concept']}" if row["concept"] else row["metric"]
            text = f"{float(row['value']):.3g}" if row["value"] else "–"
            meaning = row["meaning"] or MEANINGS.get(row["metric"], ("",))[0]
            found[row["composition"], row["seed"]][name] = (text, row["reason"], meaning)
    return found


def _measured(composition: dict, tables: Sequence[dict]) -> dict:
    """The table of a composition's metrics: a row for each metric, with a column for each seed and one for its twin."""
    seeds = [str(seed) for seed, *_ in composition["results"]]
    has_twins = len(tables) > 1 and all(twin for *_, twin in composition["results"])
    shown = tables if has_twins else tables[:1]
    columns = [table.get((composition["id"], seed), {}) for seed in seeds for table in shown]
    meanings = {name: meaning for column in columns for name, (*_, meaning) in column.items()}
    nothing = ("–", "not measured", "")
    rows = [
        [name, meaning, [column.get(name, nothing)[:2] for column in columns]] for name, meaning in meanings.items()
    ]
    return {"metrics": rows, "seeds": seeds, "compared": has_twins}


def _linked(pieces: list) -> list[str]:
    """The linked concepts, in the order of the prompt."""
    return list(dict.fromkeys(concept for _, concept, _ in pieces if concept))
