"""The concept table and the composition table, config/concepts.csv and config/compositions.csv, into checked rows.

Every problem of both files is found before one InputError lists them all, each with its file, row and field.
"""

import csv
import io
import os.path
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from bico import InputError
from bico.media.video import SHORT, frames_left, media_kind, probe
from bico.methods.bico.layout import read_layout
from bico.runtime.reading import read_text, shorten
from bico.settings.model_file import SCHEMA, ModelFile, size_problems
from bico.settings.schema import bad_path, read_field
from bico.text.grammar import INVISIBLE, LONGEST, GrammarError, Piece, bad_id, parse
from bico.text.phrases import A_PHRASE, bad_phrases, shown
from bico.text.tokens import readable_tokenizer

CONCEPT_COLUMNS = ("concept", "source", "start", "fps", "short", "spatial", "temporal", "binder")
COMPOSITION_COLUMNS = ("composition", "prompt", "seeds", "negative_prompt", "guidance_scale", "steps", "frames")
SAMPLING = COMPOSITION_COLUMNS[4:]  # in place of the model file's, within its limits
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


class Names(dict):
    """Things of a kind by their name; InputError says which there are where one is asked for that is not among them."""

    def __init__(self, kind: str, things: dict):
        super().__init__(things)
        self.kind = kind

    def __missing__(self, name: str) -> NoReturn:
        raise InputError(f"no {self.kind} is called '{shorten(name)}'; {there_are(self)}")


@dataclass(frozen=True)
class Tables:
    concepts: dict[str, Concept]
    compositions: dict[str, Composition]


class _Row:
    """One row of a table: takes fields out of it and notes what is wrong, with file, row and field."""

    def __init__(self, file: Path, number: int, values: dict[str, str], problems: list[str]):
        self.file, self.number, self.values, self.problems = file, number, values, problems

    def problem(self, field: str, text: str) -> None:
        self.problems.append(f"{self.file}, row {self.number}, {field}: {shorten(text, 2000)}")

    def text(self, field: str, default: str = "") -> str:
        return self.values.get(field, "").strip() or default

    def take(self, field: str, read: Callable, default, allowed: str = ""):
        """The field read by `read`, `default` where it is empty; a ValueError becomes a problem. Its text counts where
        nothing is said about what is allowed."""
        text = self.text(field)
        if not text:
            return default
        try:
            return read(text)
        except ValueError as found:
            self.problem(field, f"found '{shorten(text)}', allowed: {allowed or found}")
            return default

    def is_readable(self) -> bool:
        """Whether every field is of sensible length and holds only what can be seen; notes those that do not."""
        found = len(self.problems)
        for field, text in self.values.items():
            if len(text) > LONGEST:
                self.problem(field, f"{len(text):,} characters, allowed: at most {LONGEST:,}")
            elif hidden := INVISIBLE.search(text):
                self.problem(
                    field, f"character {hidden.start() + 1} is U+{ord(hidden[0]):04X}, which nobody sees; remove it"
                )
        return len(self.problems) == found


def load_tables(
    concepts: str | Path, compositions: str | Path, model: ModelFile | None, thorough: bool = False
) -> Tables:
    """Both files, parsed and checked as text; if `thorough`, the media and the model's own files are asked too.

    Without a model, as when its file cannot be read, the rows lack its defaults. Raises InputError with all problems at
    once.
    """
    problems: list[str] = []
    concept_rows, known = _read_concepts(Path(concepts), problems)
    composition_rows = _read_compositions(Path(compositions), known, model, problems)
    tables = Tables(Names("concept", concept_rows), Names("composition", composition_rows))
    if thorough and model:
        problems += model_problems(tables, compositions, model) + media_problems(tables, concepts, model)
        problems += binder_problems(tables, concepts, model)
    if problems:
        raise InputError(*problems)
    return tables


def media_problems(tables: Tables, concepts: str | Path, model: ModelFile) -> list[str]:
    """Opens every source: it must be readable and long enough, and not dated in the future."""
    rows = tables.concepts.values()
    with ThreadPoolExecutor() as threads:  # the work is done outside Python
        found = threads.map(lambda concept: list(_media_problems(concept, model.frames)), rows)
        return [
            f"{concepts}, row {concept.row}, {field}: {text}"
            for concept, problems in zip(rows, found, strict=True)
            for field, text in problems
        ]


def model_problems(tables: Tables, compositions: str | Path, model: ModelFile) -> list[str]:
    """What only the model's own files can tell: sizes it cannot take, and prompts longer than its text encoder reads.

    Needs the VAE's and transformer's configs and the tokenizer; skips what is not there yet.
    """
    problems = [f"{model.path}, {problem}" for problem in size_problems(model, model.frames)]
    folder = model.components["tokenizer"].folder
    tokenizer = readable_tokenizer(folder)
    frames_said = {frames: list(size_problems(model, frames)) for frames in _frames_of(tables) - {model.frames}}
    for composition in tables.compositions.values():
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


def binder_problems(tables: Tables, concepts: str | Path, model: ModelFile) -> list[str]:
    """Reads the header of every binder file that is given: it must hold a binder, and one for this model."""
    problems, config, experts = [], model.config("transformer") or {}, len(model.experts)
    try:
        dim, blocks = config["num_attention_heads"] * config["attention_head_dim"], config["num_layers"]
    except KeyError:  # not there yet
        dim = blocks = None
    for concept in tables.concepts.values():
        try:
            if concept.binder and os.path.isfile(concept.binder):  # which no text makes raise, as Path.is_file() may
                read_layout(concept.binder, dim, blocks, concept.binder_source, experts)
        except InputError as found:
            problems += [f"{concepts}, row {concept.row}, binder: {problem}" for problem in found.problems]
    return problems


def _frames_of(tables: Tables) -> set[int]:
    return {composition.frames for composition in tables.compositions.values()}


def _read_table(path: Path, columns: tuple[str, ...], required: tuple[str, ...], problems: list[str]) -> Iterator[_Row]:
    """The rows of a CSV whose first column is the id; unknown columns, and ids that are ill-formed or there already,
    are problems."""
    try:
        header, *lines = _read_lines(path)
    except InputError as problem:
        problems += problem.problems
        return
    header = [column.strip() for column in header]
    if bad := list(_bad_columns(header, columns, required)):
        problems += [f"{path}, {problem}" for problem in bad]
        named = [column for column in header if column in columns]
        if not set(required) <= set(named) or len(set(named)) < len(named):
            return  # nobody knows what the rows mean
    id_column, seen = columns[0], {}
    for number, values in enumerate(lines, start=2):
        if not any(value.strip() for value in values):
            continue
        row = _Row(path, number, dict(zip(header, values, strict=False)), problems)
        if len(values) > len(header):
            row.problem(header[-1], f"{len(values)} fields in a table of {len(header)} columns; quote text with commas")
        if any(value.strip() for column, value in zip(header, values, strict=False) if not column):
            row.problem(id_column, "there is a field under a column without a name")
        name = row.text(id_column)
        bad = None if INVISIBLE.search(name) else bad_id(name)  # `is_readable` speaks of what nobody sees
        if bad:
            row.problem(id_column, bad)
        elif name.casefold() in seen:
            row.problem(id_column, f"'{name}' is already the id of row {seen[name.casefold()]}")
        seen.setdefault(name.casefold(), number)
        yield row


def _read_lines(path: Path) -> list[list[str]]:
    """The fields of each line of a CSV table, its header first."""
    text, lines = read_text(path), []
    try:
        for line in csv.reader(io.StringIO(text, newline=""), strict=True):
            lines.append(line)
    except csv.Error as problem:
        hint = "; is a quotation mark never closed, or not doubled within a field?" if '"' in text else ""
        raise InputError(f"{path}, row {len(lines) + 1}: cannot be read as a CSV table: {problem}{hint}") from None
    return lines or [[]]


def _bad_columns(header: list[str], columns: tuple[str, ...], required: tuple[str, ...]) -> Iterator[str]:
    """What speaks against a table's header."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "'|'")):
        parts = {part.strip() for column in header for part in column.split(mark)}
        if not set(required) <= set(header) and set(required) <= parts:
            yield f'row 1: the columns stand apart by {name}; allowed: commas ("CSV, comma delimited")'
            return
    for column in dict.fromkeys(header):
        if column and column not in columns:
            yield f"column '{shorten(column)}': unknown, allowed: {', '.join(columns)}"
        elif column and header.count(column) > 1:
            yield f"column '{column}': there {header.count(column)} times, allowed: once"
    yield from (f"column '{column}': missing" for column in required if column not in header)


def _read_concepts(path: Path, problems: list[str]) -> tuple[dict[str, Concept], set[str] | None]:
    """The good rows by id. And every id that is named, since a link to a bad row is not a second problem; None if the
    table cannot be read."""
    concepts, named = {}, set()
    for row in _read_table(path, CONCEPT_COLUMNS, ("concept",), problems):
        named.add(row.text("concept"))
        concept = _concept(row) if row.is_readable() else None
        if concept:
            concepts.setdefault(concept.id, concept)
    return concepts, named if named or not problems else None


def _concept(row: _Row) -> Concept | None:
    source = row.text("source") and Path(row.text("source")).as_posix()
    binder, binder_source = row.take(
        "binder", _binder, (None, None), "a binder file, or file#0, file#1, ... of several sources"
    )
    if binder and (bad := bad_path(binder) or (not os.path.isfile(binder) and f"no such file: {shorten(binder)}")):
        row.problem("binder", bad)
    if binder and binder.startswith("-"):
        row.problem("binder", f"found '{binder}', allowed: a path that does not look like an option, ./{binder}")
    try:
        kind = media_kind(source) if source or not binder else None
    except InputError as problem:
        row.problem("source", str(problem) if source else "empty; allowed: the path of an image or a video")
        return None
    if kind and (bad := bad_path(source) or (not os.path.isfile(source) and f"no such file: {shorten(source)}")):
        row.problem("source", bad)
    start = row.take("start", _start, "0", "a frame number, or seconds like 1.5s, of at most nine digits")
    fps = row.take("fps", partial(read_field, SCHEMA, "fps"), None)
    short = row.take("short", _one_of(SHORT), "error")
    spatial, temporal = (_phrases(row.text(field)) for field in ("spatial", "temporal"))
    for field, phrases in (("spatial", spatial), ("temporal", temporal)):
        for phrase in bad_phrases(phrases):
            row.problem(field, f"{shown(repr(phrase))} is not {A_PHRASE}")
    if kind == "image":
        for field in ("start", "fps", "short", "temporal"):
            if row.text(field):
                row.problem(field, f"found '{row.text(field)}', but {source} is an image; leave it empty")
    elif kind == "video" and bool(spatial) != bool(temporal):
        empty, given = ("temporal", "spatial") if spatial else ("spatial", "temporal")
        row.problem(empty, f"empty, but {given} is given; by hand, a video needs both")
    name, number = row.text("concept"), row.number
    return Concept(name, number, source, kind, start, fps, short, spatial, temporal, binder, binder_source)


def _read_compositions(
    path: Path, concepts: set[str] | None, model: ModelFile | None, problems: list[str]
) -> dict[str, Composition]:
    compositions = {}
    for row in _read_table(path, COMPOSITION_COLUMNS, COMPOSITION_COLUMNS[:2], problems):
        if row.is_readable():
            composition = _composition(row, concepts, model)
            compositions.setdefault(composition.id, composition)
    return compositions


def _composition(row: _Row, concepts: set[str] | None, model: ModelFile | None) -> Composition:
    prompt, pieces = row.text("prompt"), []
    try:
        pieces = parse(prompt)
    except GrammarError as problem:
        row.problem("prompt", str(problem))
    linked = dict.fromkeys(piece.concept for piece in pieces if piece.concept and concepts is not None)
    for unknown in (concept for concept in linked if concept not in concepts):
        row.problem("prompt", f"a link to '{shorten(unknown)}', which is no concept; {there_are(concepts)}")
    return Composition(
        id=row.text("composition"),
        row=row.number,
        prompt=prompt,
        pieces=tuple(pieces),
        seeds=row.take("seeds", _seeds, (0,), "whole numbers of at least 0, apart by spaces, each once"),
        negative_prompt=row.take("negative_prompt", _unless_none, model and model.negative_prompt),
        **{name: row.take(name, partial(read_field, SCHEMA, name), getattr(model, name, None)) for name in SAMPLING},
    )


def there_are(names: Iterable[str], most: int = 20) -> str:
    """The names that a message offers."""
    names = sorted(names)
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return f"there are: {', '.join(map(shorten, names[:most])) or 'none'}{more}"


def _media_problems(concept: Concept, frames: int) -> Iterator[tuple[str, str]]:
    for field, path in (("source", concept.source), ("binder", concept.binder)):
        if path and os.path.isfile(path) and (ahead := os.stat(path).st_mtime - time.time()) > _CLOCK_SKEW:
            yield (
                field,
                f"{path} is dated {ahead:.0f} s in the future, and Snakemake throws away what is made of such a file; "
                f"give it today's date: touch -- {shlex.quote(path)}",
            )
    if concept.kind is None or not os.path.isfile(concept.source):
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
        return Path(text).as_posix(), None
    if not re.fullmatch(r"[0-9]{1,4}", source) or not path:
        raise ValueError
    return Path(path).as_posix(), int(source)


def _start(text: str) -> str:
    """In its shortest form, so that 1.50s and 1.5s, or 007 and 7, are one setting."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}(?=s))?s?", text):
        raise ValueError
    whole, _, decimals = text.rstrip("s").partition(".")
    decimals = decimals.rstrip("0")
    return f"{int(whole)}{'.' if decimals else ''}{decimals}{'s' if text.endswith('s') else ''}"


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(phrase.strip() for phrase in text.split(";") if phrase.strip()))


def _seeds(text: str) -> tuple[int, ...]:
    words = text.split()
    if not all(re.fullmatch(r"[0-9]{1,18}", word) for word in words) or len({int(word) for word in words}) < len(words):
        raise ValueError
    return tuple(int(word) for word in words)


def _unless_none(text: str) -> str:
    """`none` is the empty text, since an empty field is the default."""
    return "" if text == "none" else text


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(", ".join(allowed))
        return text

    return read
