"""The user study: a static page on which people rate results without knowing which method made them, and the table of
what several of them said.

What is rated lies beside the page under names that say nothing, in an order that the seed draws and that the page draws
anew for every rater; which method made what is in key.csv alone, which raters are not given.
"""

import csv
import hashlib
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import krippendorff
import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from bico import InputError
from bico.evaluate.comparison import mean_of
from bico.runtime.files import atomic, write_text

# The paper's three questions, on a scale from 1 to 5.
QUESTIONS = {
    "concept_preservation": "Are the things and motions of the sources kept?",
    "prompt_fidelity": "Does it show what the prompt says?",
    "motion_quality": "Does it move well: smoothly, and as the prompt says?",
}
COLUMNS = ("rater", "item", "question", "rating")
_PARTS = {part: Path(__file__).with_name(f"rating.{part}") for part in ("html", "css", "js")}


@dataclass(frozen=True)
class RatingSettings:
    """results: of each that is rated its method, composition and seed; sources: of each composition the concepts whose
    media is shown beside it; prompts: of each composition, without its links; seed: of the order; template: a digest of
    the page's files, which nothing here reads."""

    results: tuple[tuple[str, str, int], ...]
    sources: dict
    prompts: dict
    seed: int = 0
    template: str = ""


def write_rating_page(
    settings: RatingSettings, results: Sequence[str | Path], sources: Mapping[str, str | Path], page: str | Path,
    key: str | Path,
) -> None:  # fmt: skip
    """Writes the page, copies what it shows into its folder, and writes the key. results: in the settings' order;
    sources: the media of each concept."""
    folder = Path(page).parent
    copies = {name: _copied(path, folder, settings.seed, name) for name, path in sources.items()}
    items, rows = [], []
    for (method, composition, seed), path in zip(settings.results, results, strict=True):
        copy = _copied(path, folder, settings.seed, method, composition, seed)
        token = Path(copy).stem
        items.append(
            {
                "item": token,
                "media": copy,
                "prompt": settings.prompts[composition],
                "sources": [[name, copies[name]] for name in settings.sources[composition]],
                "moves": Path(path).suffix == ".mp4",
            }
        )
        rows.append((token, method, composition, seed))
    random.Random(settings.seed).shuffle(items)
    template, style, script = (_PARTS[part].read_text("utf-8") for part in ("html", "css", "js"))
    shown = {"items": items, "questions": QUESTIONS, "style": Markup(style), "script": Markup(script)}
    shown["study"] = _token(settings.seed, *sorted(item["item"] for item in items))
    with atomic(key) as part, open(part, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("item", "method", "composition", "seed"), *sorted(rows)])
    write_text(page, Environment(autoescape=True, trim_blocks=True).from_string(template).render(shown))


def _token(*parts) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def _copied(path: str | Path, folder: Path, *parts) -> str:
    """Copies media under a name that says nothing; returns the name."""
    name = f"{_token(*parts)}{Path(path).suffix}"
    with atomic(folder / name) as part:
        shutil.copyfile(path, part)
    return name


def read_ratings(key: str | Path, ratings: Sequence[str | Path]) -> pd.DataFrame:
    """What raters said, with what they did not know: rater, item, question, rating, method, composition, seed. Raises
    InputError that names file, row and field."""
    text = {"item": str, "method": str, "composition": str}
    known = pd.read_csv(key, dtype=text, keep_default_na=False)
    problems, rows = [], []
    for path in ratings:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                raise InputError(
                    f"{path}: has no column {', '.join(sorted(missing))}; it is what the rating page saves"
                )
            for number, row in enumerate(reader, 2):
                where = f"{path}, row {number}"
                allowed = {"question": tuple(QUESTIONS), "rating": tuple("12345"), "item": tuple(known.item)}
                strange = [name for name, values in allowed.items() if row[name] not in values]
                problems += [
                    f"{where}, {name}: found '{row[name]}'"
                    + (", which is not of this study" if name == "item" else f", allowed: {', '.join(allowed[name])}")
                    for name in strange
                ]
                if not strange:
                    rows.append({name: row[name] for name in COLUMNS} | {"rating": int(row["rating"])})
    if problems:
        raise InputError(*problems)
    found = pd.DataFrame(rows, columns=COLUMNS)
    twice = found[found.duplicated(["rater", "item", "question"])]
    if len(twice):
        raise InputError(f"rater '{twice.rater.iloc[0]}' rates item {twice.item.iloc[0]} twice; give each file once")
    return found.merge(known, on="item")


def agreement(ratings: pd.DataFrame, question: str) -> float | None:
    """Krippendorff's alpha of a question, on the ordinal scale: 1 is full agreement, 0 that of chance. None with one
    rater, or where all ratings are equal."""
    table = ratings[ratings.question == question].pivot_table("rating", "rater", "item")
    values = table.to_numpy()
    pairable = (~np.isnan(values)).sum(0) > 1
    if len(table) < 2 or not pairable.any() or len(np.unique(values[~np.isnan(values)])) < 2:
        return None
    return float(krippendorff.alpha(values, level_of_measurement="ordinal", value_domain=[1, 2, 3, 4, 5]))


def write_ratings(output: str | Path, ratings: pd.DataFrame) -> None:
    """Writes Markdown: the mean rating of each method and question with its 95 % interval over the items, those of all
    raters averaged first; and how far the raters agree."""
    methods = list(dict.fromkeys(ratings.method))
    lines = [["method", *QUESTIONS], ["---"] * (len(QUESTIONS) + 1)]
    for method in methods:
        of = ratings[ratings.method == method]
        means = (mean_of(of[of.question == question].groupby("item").rating.mean()) for question in QUESTIONS)
        lines.append([method, *(str(mean) if mean else "" for mean in means)])
    alphas = (agreement(ratings, question) for question in QUESTIONS)
    lines.append(["Krippendorff's alpha", *("" if alpha is None else f"{alpha:.2f}" for alpha in alphas)])
    raters = ratings.rater.nunique()
    head = f"Mean rating, 1 to 5 [95 % interval] (items), by {raters} rater{'s' if raters > 1 else ''}."
    write_text(output, head + "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
