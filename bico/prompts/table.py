"""The prompt CSV: one row per prompt, with the media it describes."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from bico import InputError
from bico.runtime.files import atomic
from bico.runtime.reading import read_text

HEADER = ["video", "prompt"]


def write_prompts(path: str | Path, rows: Sequence[tuple[str, str]]) -> None:
    """Writes (media path, prompt) rows under the header `video,prompt`, whole or not at all."""
    with atomic(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])


def read_prompts(path: str | Path) -> list[tuple[str, str]]:
    """The (media path, prompt) rows of a prompt CSV. Raises InputError as `numbered_prompts` does."""
    return [(video, prompt) for _, video, prompt in numbered_prompts(path)]


def numbered_prompts(path: str | Path) -> list[tuple[int, str, str]]:
    """The rows of a prompt CSV, each with the line on which it ends. InputError names the file and every bad row: a
    wrong header, a wrong number of fields, an empty path or prompt, no rows."""
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        header = next(reader, [])
        numbered = [(reader.line_num, row) for row in reader if row]
    except csv.Error as problem:
        raise InputError(f"{path}: cannot be read as CSV: {problem}") from None
    if header != HEADER:
        raise InputError(f"{path}, row 1: the header is {','.join(header)!r}; it must be {','.join(HEADER)!r}")
    problems = [f"{path}, row {line}: {_row_problem(row)}" for line, row in numbered if _row_problem(row)]
    if problems or not numbered:
        raise InputError(*(problems or [f"{path}: no prompts under the header"]))
    return [(line, video, prompt) for line, (video, prompt) in numbered]


def _row_problem(row: list[str]) -> str:
    if len(row) != len(HEADER):
        return f"{len(row)} fields; there must be {len(HEADER)}: {', '.join(HEADER)}"
    empty = [field for field, value in zip(HEADER, row, strict=True) if not value.strip()]
    return f"'{empty[0]}' is empty" if empty else ""
