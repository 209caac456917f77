"""Files that a person wrote, as text and as YAML. What cannot be read raises an InputError that names the file."""

import codecs
import json
from pathlib import Path

import yaml

from bico import InputError

_BEGINNINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, which begins with the same two bytes
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"PK\x03\x04": "a zip archive, as Excel's workbooks are",
}


def shorten(text: str, length: int = 60) -> str:
    """A text as a message shows it: in one line, without anything invisible, not too long."""
    text = text if len(text) <= length else f"{text[: length - 1]}…"
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def read_text(path: str | Path) -> str:
    """A text file, whose byte-order mark does not count. If it is not UTF-8, InputError says what it looks like."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as problem:
        raise InputError(f"{path}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    try:
        text = data.decode("utf-8-sig")
        if "\0" not in text:
            return text
        first = data.index(b"\0")
    except UnicodeDecodeError as problem:
        first = problem.start
    line = data.count(b"\n", 0, first) + 1
    raise InputError(f"{path}, line {line}: not UTF-8 text; it looks like {_encoding(data)}; save it as UTF-8")


def _encoding(data: bytes) -> str:
    """What bytes that are not UTF-8 seem to be. Tables are too short for the statistics of the libraries that guess."""
    for beginning, encoding in _BEGINNINGS.items():
        if data.startswith(beginning):
            return encoding
    if b"\0" in data:
        halves = (data[half::2] for half in (0, 1))
        return "UTF-16" if any(half.count(0) > len(half) / 2 for half in halves) else "a binary file"
    try:
        data.decode("gb2312")
        return "GBK or another encoding of two bytes a character"
    except UnicodeDecodeError:
        return "Latin-1, Windows-1252 or another encoding of one byte a character"


class _Loader(yaml.SafeLoader):
    """Notes the keys that stand in one mapping twice, where YAML lets the last one win without a word."""

    def __init__(self, stream):
        super().__init__(stream)
        self.twice: list[str] = []

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    self.twice.append(
                        f"line {line}: '{shorten(key.value)}' is there already, in line {lines[key.value]}"
                    )
                lines.setdefault(key.value, line)
        return node


def read_yaml(path: str | Path):
    """What a YAML or JSON file holds. InputError lists every key that is there twice."""
    text = read_text(path)
    twice: list[str] = []

    def pairs(found: list[tuple]) -> dict:
        keys = [key for key, _ in found]
        twice.extend(f"'{shorten(key)}' is there twice" for key in dict.fromkeys(keys) if keys.count(key) > 1)
        return dict(found)

    try:
        try:
            value = json.loads(text, object_pairs_hook=pairs)
        except ValueError:
            loader = _Loader(text)
            value, twice = loader.get_single_data(), loader.twice
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else path
        raise InputError(f"{where}: not YAML: {problem.problem or problem.context}") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as problem:
        # PyYAML lets Python's own errors out where a value does not fit its tag, such as the date 2025-13-45.
        raise InputError(f"{path}: not YAML: {' '.join(str(problem).split())}") from None
    except RecursionError:
        raise InputError(f"{path}: not YAML that can be read: nested too deeply") from None
    if twice:
        raise InputError(*(f"{path}, {problem}" for problem in twice))
    return value
