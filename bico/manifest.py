"""The two manifests, config/concepts.csv and config/compositions.csv, into checked rows.

Every problem of both files is found before one InputError lists them all, each with its file, row and field.
"""

import csv
import re
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bico import InputError
from bico.grammar import ID, GrammarError, Piece, parse
from bico.phrases import bad_phrases
from bico.settings import ModelFile, size_problems
from bico.tokens import PromptTokenizer
from bico.video import SHORT, frames_left, media_kind, parse_start, probe

CONCEPT_COLUMNS = ("concept", "source", "start", "fps", "short", "spatial", "temporal", "binder")
COMPOSITION_COLUMNS = ("composition", "prompt", "seeds", "negative_prompt", "guidance_scale", "steps", "frames")
_CLOCK_SKEW = 5  # seconds by which another machine's clock may be ahead


@dataclass(frozen=True)
class Concept:
    """A row of concepts.csv. kind: `image` or `video`, None without a source. start: frame number, or seconds with an
    `s`. fps: None keeps every source frame. binder: a finished binder file, which is then not trained; `binder_source`
    says which of a released file's several sources it is."""

    id: str
    row: int
    source: str
    kind: str | None
    start: str
    fps: float | None
    short: str
    spatial: tuple[str, ...]
    temporal: tuple[str, ...]
    binder: str | None
    binder_source: int | None


@dataclass(frozen=True)
class Composition:
    """A row of compositions.csv, its defaults taken from the model file."""

    id: str
    row: int
    prompt: str
    pieces: tuple[Piece, ...]
    seeds: tuple[int, ...]
    negative_prompt: str
    guidance_scale: float
    steps: int
    frames: int

    @property
    def concepts(self) -> tuple[str, ...]:
        """The linked concepts, in the order of the prompt."""
        return tuple(dict.fromkeys(piece.concept for piece in self.pieces if piece.concept))


@dataclass(frozen=True)
class Manifest:
    concepts: dict[str, Concept]
    compositions: dict[str, Composition]


class _Row:
    """One row of a table: takes fields out of it and notes what is wrong, with file, row and field."""

    def __init__(self, file: Path, number: int, values: dict[str, str], problems: list[str]):
        self.file, self.number, self.values, self.problems = file, number, values, problems

    def problem(self, field: str, text: str) -> None:
        self.problems.append(f"{self.file}, row {self.number}, {field}: {text}")

    def text(self, field: str, default: str = "") -> str:
        return self.values.get(field, "").strip() or default

    def take(self, field: str, read: Callable, default, allowed: str):
        """The field read by `read`, `default` where it is empty; a ValueError becomes a problem."""
        text = self.text(field)
        if not text:
            return default
        try:
            return read(text)
        except ValueError as found:
            self.problem(field, f"found '{text}', allowed: {allowed}" + (f" ({found})" if str(found) else ""))
            return default


def load_manifest(concepts: str | Path, compositions: str | Path, model: ModelFile, thorough: bool = False) -> Manifest:
    """Both files, parsed and checked as text; if `thorough`, the media and the model's own files are asked too.

    Raises InputError with all problems at once.
    """
    problems: list[str] = []
    concept_rows, known = _read_concepts(Path(concepts), problems)
    composition_rows = _read_compositions(Path(compositions), known, model, problems)
    manifest = Manifest(concept_rows, composition_rows)
    if thorough:
        problems += model_problems(manifest, compositions, model) + media_problems(manifest, concepts, model)
    if problems:
        raise InputError(*problems)
    return manifest


def media_problems(manifest: Manifest, concepts: str | Path, model: ModelFile) -> list[str]:
    """Opens every source: it must be readable and long enough, and not dated in the future."""
    rows = manifest.concepts.values()
    with ThreadPoolExecutor() as threads:  # the work is done outside Python
        found = threads.map(lambda concept: list(_media_problems(concept, model.frames)), rows)
        return [
            f"{concepts}, row {concept.row}, {field}: {text}"
            for concept, problems in zip(rows, found, strict=True)
            for field, text in problems
        ]


def model_problems(manifest: Manifest, compositions: str | Path, model: ModelFile) -> list[str]:
    """What only the model's own files can tell: sizes it cannot take, and prompts longer than its text encoder reads.

    Needs the VAE's and transformer's configs and the tokenizer; skips what is not there yet.
    """
    problems = [f"{model.path}, {problem}" for problem in size_problems(model, model.frames)]
    folder = model.components["tokenizer"].folder
    tokenizer = PromptTokenizer(folder) if (folder / "tokenizer.json").is_file() else None
    frames_said = {frames: list(size_problems(model, frames)) for frames in _frames_of(manifest) - {model.frames}}
    for composition in manifest.compositions.values():
        where = f"{compositions}, row {composition.row}"
        said = [problem for problem in frames_said.get(composition.frames, []) if problem.startswith("frames")]
        problems += [f"{where}, {problem}" for problem in said]
        if tokenizer:
            lengths = {
                "prompt": len(tokenizer.tokenise(list(composition.pieces))),
                "negative_prompt": len(tokenizer.tokenise_text(composition.negative_prompt)),
            }
            problems += [
                f"{where}, {field}: {length} tokens with end-of-text, allowed: at most {model.text_length}"
                for field, length in lengths.items()
                if length > model.text_length
            ]
    return problems


def _frames_of(manifest: Manifest) -> set[int]:
    return {composition.frames for composition in manifest.compositions.values()}


def _read_table(path: Path, columns: tuple[str, ...], required: tuple[str, ...], problems: list[str]) -> Iterator[_Row]:
    """The rows of a CSV whose first column is the id; unknown columns and ids that are ill-formed or double are
    problems."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file, strict=True)) or [[]]
    except (OSError, ValueError, csv.Error) as problem:
        problems.append(f"{path}: cannot be read as a CSV table: {problem}")
        return
    header = [column.strip() for column in header]
    unknown = [column for column in header if column not in columns]
    missing = [column for column in required if column not in header]
    problems += [f"{path}, column '{column}': unknown, allowed: {', '.join(columns)}" for column in unknown]
    problems += [f"{path}, column '{column}': missing" for column in missing]
    if missing:
        return
    id_column, seen = columns[0], {}
    for number, values in enumerate(lines, start=2):
        if not any(value.strip() for value in values):
            continue
        row = _Row(path, number, dict(zip(header, values, strict=False)), problems)
        if len(values) > len(header):
            row.problem(header[-1], f"{len(values)} fields in a table of {len(header)} columns; quote text with commas")
        name = row.text(id_column)
        if not ID.fullmatch(name):
            row.problem(id_column, f"found '{name}', allowed: letters, digits, '_' and, not first, '-'")
        elif name.casefold() in seen:
            row.problem(id_column, f"'{name}' is already the id of row {seen[name.casefold()]}")
        seen.setdefault(name.casefold(), number)
        yield row


def _read_concepts(path: Path, problems: list[str]) -> tuple[dict[str, Concept], set[str]]:
    """The good rows by id, and every id that is named (a link to a bad row is not a second problem)."""
    concepts, named = {}, set()
    for row in _read_table(path, CONCEPT_COLUMNS, ("concept",), problems):
        named.add(row.text("concept"))
        concept = _concept(row)
        if concept:
            concepts.setdefault(concept.id, concept)
    return concepts, named


def _concept(row: _Row) -> Concept | None:
    source = row.text("source")
    binder, binder_source = row.take(
        "binder", _binder, (None, None), "a binder file, or file#0, file#1, ... of several sources"
    )
    if binder and not Path(binder).is_file():
        row.problem("binder", f"no such file: {binder}")
    for field, path in (("source", source), ("binder", binder)):
        if path and {"{", "}"} & set(path):
            row.problem(field, f"found '{path}', allowed: a path without {{ and }}, which stand for other text here")
    if binder and binder.startswith("-"):
        row.problem("binder", f"found '{binder}', allowed: a path that does not look like an option, ./{binder}")
    try:
        kind = media_kind(source) if source or not binder else None
    except InputError as problem:
        row.problem("source", str(problem) if source else "empty; allowed: the path of an image or a video")
        return None
    if kind and not Path(source).is_file():
        row.problem("source", f"no such file: {source}")
    start = row.take("start", lambda text: parse_start(text) and text, "0", "a frame number, or seconds like 1.5s")
    fps = row.take("fps", _positive, None, "a number above 0")
    short = row.take("short", _one_of(SHORT), "error", ", ".join(SHORT))
    spatial, temporal = (_phrases(row.text(field)) for field in ("spatial", "temporal"))
    for field, phrases in (("spatial", spatial), ("temporal", temporal)):
        for phrase in bad_phrases(phrases):
            row.problem(field, f"{phrase!r} is not one line with a word in it")
    if kind == "image":
        for field in ("start", "fps", "short", "temporal"):
            if row.text(field):
                row.problem(field, f"found '{row.text(field)}', but {source} is an image; leave it empty")
    elif kind == "video" and bool(spatial) != bool(temporal):
        empty, given = ("temporal", "spatial") if spatial else ("spatial", "temporal")
        row.problem(empty, f"empty, but {given} is given; by hand, a video needs both")
    name, number = row.text("concept"), row.number
    return Concept(name, number, source, kind, start, fps, short, spatial, temporal, binder, binder_source)


def _read_compositions(path: Path, concepts: set[str], model: ModelFile, problems: list[str]) -> dict[str, Composition]:
    compositions = {}
    for row in _read_table(path, COMPOSITION_COLUMNS, COMPOSITION_COLUMNS[:2], problems):
        composition = _composition(row, concepts, model)
        compositions.setdefault(composition.id, composition)
    return compositions


def _composition(row: _Row, concepts: set[str], model: ModelFile) -> Composition:
    prompt, pieces = row.text("prompt"), []
    try:
        pieces = parse(prompt)
    except GrammarError as problem:
        row.problem("prompt", str(problem))
    for unknown in dict.fromkeys(p.concept for p in pieces if p.concept and p.concept not in concepts):
        row.problem("prompt", f"a link to '{unknown}', which is no concept; there are: {', '.join(sorted(concepts))}")
    return Composition(
        id=row.text("composition"),
        row=row.number,
        prompt=prompt,
        pieces=tuple(pieces),
        seeds=row.take("seeds", _seeds, (0,), "whole numbers of at least 0, apart by spaces, each once"),
        negative_prompt=row.take("negative_prompt", _unless_none, model.negative_prompt, "any text"),
        guidance_scale=row.take("guidance_scale", _not_negative, float(model.guidance_scale), "a number of at least 0"),
        steps=row.take("steps", _count, model.steps, "a whole number of at least 1"),
        frames=row.take("frames", _count, model.frames, "a whole number of at least 1"),
    )


def _media_problems(concept: Concept, frames: int) -> Iterator[tuple[str, str]]:
    for field, path in (("source", concept.source), ("binder", concept.binder)):
        if path and Path(path).is_file() and (ahead := Path(path).stat().st_mtime - time.time()) > _CLOCK_SKEW:
            yield (
                field,
                f"{path} is dated {ahead:.0f} s in the future, and Snakemake throws away what is made of such a file; "
                f"give it today's date: touch -- {shlex.quote(path)}",
            )
    if concept.kind is None or not Path(concept.source).is_file():
        return
    try:
        if concept.kind == "image":
            probe(concept.source)
            return
        left = frames_left(concept.source, frames, concept.start, concept.fps)
    except InputError as problem:
        yield "source", str(problem)
        return
    if left < 1:
        whole = frames_left(concept.source, 1_000_000, "0", concept.fps)
        yield "start", f"found '{concept.start}', but {concept.source} has {whole} frames; allowed: an earlier start"
    elif left < frames and concept.short == "error":
        yield (
            "source",
            f"{concept.source} has {left} frames from start {concept.start}, the model needs {frames}; "
            "allowed: a longer video, or `short` loop or hold",
        )


def _binder(text: str) -> tuple[str, int | None]:
    """`file` or `file#k`."""
    path, mark, source = text.rpartition("#")
    if not mark:
        return text, None
    if not re.fullmatch(r"\d+", source) or not path:
        raise ValueError
    return path, int(source)


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(phrase.strip() for phrase in text.split(";") if phrase.strip()))


def _number(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        raise ValueError
    return float(text)


def _positive(text: str) -> float:
    if _number(text) <= 0:
        raise ValueError
    return _number(text)


def _not_negative(text: str) -> float:
    return _number(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"0*[1-9]\d*", text):
        raise ValueError
    return int(text)


def _seeds(text: str) -> tuple[int, ...]:
    words = text.split()
    if not all(re.fullmatch(r"\d{1,18}", word) for word in words) or len({int(word) for word in words}) < len(words):
        raise ValueError
    return tuple(int(word) for word in words)


def _unless_none(text: str) -> str:
    """`none` is the empty text, since an empty field is the default."""
    return "" if text == "none" else text


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return read
