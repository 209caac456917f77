"""Concepts as words: the key phrases of an image or clip, their file, and whether a prompt keeps their words.

The phrases come from a vision-language model's answer or from the concept table, and every prompt that the concept is
bound with must keep their words (Diversify-and-Absorb).
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jsonschema import Draft202012Validator

from bico import InputError
from bico.runtime.files import write_json

KINDS = ("image", "video")
MOST, LONGEST = 40, 200  # phrases of a kind, characters of a phrase: all of them must fit into each prompt
A_PHRASE = f"one line with a word in it, of at most {LONGEST} characters"
_FUNCTION_WORDS = {"a", "an", "the", "and", "or", "of", "in", "on", "at", "to", "with", "by", "is", "are"}
MOST_SHOWN, MOST_LINES = 2_000, 20  # characters and lines of a text in a message


@dataclass(frozen=True)
class Phrases:
    """The key phrases of one clip: `spatial` (objects, colours, styles) and, for videos only, `temporal` (motions,
    transitions, viewpoint changes)."""

    spatial: tuple[str, ...]
    temporal: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return self.spatial + self.temporal


def check_phrases(value: object, kind: str) -> Phrases:
    """The phrases in a decoded JSON value, stripped and without repetitions. InputError lists all that is wrong."""
    for field in fields_of(kind):
        found = value.get(field) if isinstance(value, dict) else None
        if isinstance(found, list) and len(found) > MOST:
            raise InputError(f"{kind} concepts, $.{field}: {len(found)} phrases; allowed: at most {MOST}")
    errors = sorted(Draft202012Validator(_schema(kind)).iter_errors(value), key=lambda error: error.json_path)
    if errors:
        raise InputError(*(f"{kind} concepts, {error.json_path}: {shown(error.message)}" for error in errors))
    phrases = Phrases(*(_distinct(value[field]) for field in fields_of(kind)))
    if bad := bad_phrases(phrases.all):
        raise InputError(*(f"{kind} concepts: {shown(repr(phrase))} is not {A_PHRASE}" for phrase in bad))
    return phrases


def bad_phrases(phrases: Sequence[str]) -> list[str]:
    """Those that are not `A_PHRASE`: no prompt could be said to keep them, or could hold them."""
    return [
        phrase
        for phrase in phrases
        if len(phrase) > LONGEST or len(phrase.splitlines()) != 1 or any(map(is_control, phrase)) or not _words(phrase)
    ]


def is_control(char: str) -> bool:
    """Whether a character is a control character, a separator of lines, or half of one (a lone surrogate)."""
    return char != "\t" and unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


def shown(text: str) -> str:
    """A text as a message shows it: its beginning where it is long, without what would change the terminal."""
    cut = "\n".join(text[:MOST_SHOWN].split("\n")[:MOST_LINES])
    cut = text if cut == text else f"{cut}... ({len(text)} characters)"
    return "".join("\N{REPLACEMENT CHARACTER}" if is_control(char) and char != "\n" else char for char in cut)


def read_phrases(path: str | Path) -> Phrases:
    """The phrases of a concept file; `temporal` is empty for an image's. InputError names the file."""
    try:
        value = _strict_json(Path(path).read_text("utf-8"))
        if isinstance(value, dict):
            value = {field: found for field, found in value.items() if field != "source"}
        return check_phrases(value, "video" if isinstance(value, dict) and "temporal" in value else "image")
    except InputError as problem:
        raise InputError(*(f"{path}: {line}" for line in problem.problems)) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"{path}: cannot be read: {problem}") from None


def write_phrases(path: str | Path, phrases: Phrases, source: str) -> None:
    """Writes a concept file. `source` says who named the phrases: the name of the model, or "manifest", the concept
    table."""
    value = {"spatial": list(phrases.spatial), "temporal": list(phrases.temporal), "source": source}
    write_json(path, {field: found for field, found in value.items() if found})


def fields_of(kind: str) -> tuple[str, ...]:
    """The lists of phrases that an image or a video has. InputError if `kind` is neither."""
    if kind not in KINDS:
        raise InputError(f"kind '{kind}' is unknown; allowed: {', '.join(KINDS)}")
    return ("spatial",) if kind == "image" else ("spatial", "temporal")


def _schema(kind: str) -> dict:
    phrases = {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}
    fields = fields_of(kind)
    return {
        "type": "object",
        "properties": dict.fromkeys(fields, phrases),
        "required": list(fields),
        "additionalProperties": False,
    }


def _strict_json(text: str) -> object:
    """json.loads, but a repeated key is an error: Python would silently keep the last one."""

    def once(pairs: list[tuple[str, object]]) -> dict:
        keys = [key for key, _ in pairs]
        if len(keys) != len(set(keys)):
            raise ValueError(f"a key is repeated in {keys}")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"not a JSON object alone: {problem}") from None


def _distinct(phrases: Sequence[str]) -> tuple[str, ...]:
    """Stripped, and only the first of phrases that say the same words ("Red ball", "red  ball")."""
    first: dict[tuple[str, ...], str] = {}
    for phrase in (phrase.strip() for phrase in phrases):
        first.setdefault(_words(phrase) or (phrase,), phrase)
    return tuple(first.values())


def required_phrases(phrases: Phrases, kind: str) -> tuple[str, ...]:
    """The phrases every prompt must keep: an image's spatial ones, a video's all, of which a clip in which nothing
    moves has no temporal ones. InputError if there are no spatial ones."""
    if not phrases.spatial:
        raise InputError(f"{kind} prompts need phrases; there are none under: spatial")
    return sum((getattr(phrases, field) for field in fields_of(kind)), ())


def keeps_phrases(prompt: str, phrases: Sequence[str]) -> bool:
    """Whether the words of every phrase stand in the prompt, next to each other and in order. Case, spacing and
    punctuation do not count ("long-haired Dog," keeps "long haired dog")."""
    return not missing_phrases(prompt, phrases)


def missing_phrases(prompt: str, phrases: Sequence[str]) -> list[str]:
    """The phrases whose words the prompt does not keep, in their order."""
    words = _words(prompt)
    return [phrase for phrase in phrases if not _has_run(words, _words(phrase))]


def content_words(*texts: str) -> set[str]:
    """The words of texts, folded for comparison, articles and the like aside."""
    return {word for text in texts for word in _words(text)} - _FUNCTION_WORDS


def _has_run(words: tuple[str, ...], run: tuple[str, ...]) -> bool:
    return any(words[start : start + len(run)] == run for start in range(len(words) - len(run) + 1))


# Chinese and Japanese write no spaces between words, so each of their characters counts as a word.
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")


def _words(text: str) -> tuple[str, ...]:
    """The words of a text, folded for comparison: compatible and composed forms unified, case folded, punctuation
    dropped. Only categories P* are dropped: combining marks, which \\w would drop too, tell words apart."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    bare = "".join(" " if unicodedata.category(char).startswith("P") else char for char in folded)
    return tuple(_UNSPACED.sub(r" \1 ", bare).split())
