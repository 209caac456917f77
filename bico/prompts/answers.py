"""The key phrases in a language model's answer: what is usable is taken, whatever stands around it.

Its JSON is taken as it stands, in prose, in a code fence or said twice. What is no JSON by a little (single quotes, a
trailing comma) json-repair mends; where that can only be a guess, the answer is refused, since the model can be asked
again.
"""

import json
from collections.abc import Iterator

import json_repair

from bico import InputError
from bico.text.phrases import Phrases, check_phrases, fields_of, is_control, shown

BY_HAND = (
    "The phrases can be given by hand instead: in concepts.csv, in the columns spatial and, for a video, temporal,"
    " separated by ';'"
)
# The longest list of concepts is 512 tokens. json-repair takes a second for 4,000 characters at worst, and for more the
# square of that.
MOST_CHARACTERS = 20_000
MOST_REPAIRED = 4_000


def parse_phrases(text: str, kind: str) -> Phrases:
    """The phrases in a model's answer: {"spatial": [...]}, and of a video {"spatial": [...], "temporal": [...]}, where
    `temporal` is empty if nothing moves. Other keys do not count.

    Raises InputError, whose `problems` are the reasons and, last, the raw text.
    """
    try:
        return _phrases(text, kind)
    except InputError as problem:
        raise InputError(*problem.problems, f"the raw text: {shown(text)}") from None


def _phrases(text: str, kind: str) -> Phrases:
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"an answer of {len(text)} characters; allowed: at most {MOST_CHARACTERS}")
    values = list(_objects(text))
    repaired = not values
    said = {_checked(value, kind) for value in values or _repaired(text)}
    if len(said) > 1:
        raise InputError(f"{len(said)} JSON objects with different concepts; allowed: one")
    (phrases,) = said
    if repaired and _guessed(text, phrases):
        raise InputError("not JSON, and not clear where its phrases end: quotation marks or brackets do not match")
    return phrases


def _checked(value: object, kind: str) -> Phrases:
    if isinstance(value, dict):
        value = {field: _cleaned(value[field]) for field in fields_of(kind) if field in value}
        if value.get("temporal") == []:
            return Phrases(check_phrases({"spatial": value.get("spatial")}, "image").spatial)
    return check_phrases(value, kind)


def _cleaned(phrases: object) -> object:
    """Phrases on one line each, without control characters and halves of characters."""
    if not isinstance(phrases, list):
        return phrases
    return [
        " ".join("".join(" " if is_control(char) else char for char in phrase).split())
        if isinstance(phrase, str)
        else phrase
        for phrase in phrases
    ]


def _objects(text: str) -> Iterator[dict]:
    """The JSON objects in a text that have the key `spatial`. InputError where one repeats a key: which is meant?"""
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    start = text.find("{")
    while start >= 0:
        after = start + 1
        try:
            value, end = decoder.raw_decode(text, start)
            if "spatial" in value:
                after = end
                yield value
        except InputError:
            raise
        except (ValueError, RecursionError):
            pass  # no object begins here
        start = text.find("{", after)


def _once(pairs: list[tuple[str, object]]) -> dict:
    keys = [key for key, _ in pairs]
    if len(keys) != len(set(keys)):
        raise InputError(f"a key is repeated in {shown(str(keys))}")
    return dict(pairs)


def _repaired(text: str) -> list:
    """What json-repair makes of a text that is no JSON: its objects with the key `spatial`, else all that it found."""
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError) as problem:
        refused = InputError(f"not a JSON object alone: {problem}")
    if len(text) > MOST_REPAIRED:
        raise refused
    try:
        value = json_repair.loads(text)
    except Exception:  # it guesses, and gives up in many ways
        raise refused from None
    if value in ("", [], None):
        raise refused
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, dict) and "spatial" in one] or [value]


def _guessed(text: str, phrases: Phrases) -> bool:
    """Whether the repair may have cut a phrase short or run two together: a phrase has JSON's own marks in it or a
    quotation mark at its end, or the text ends within the object."""
    marked = any(set('"{}[]\\') & set(phrase) or phrase[0] in "'`" or phrase[-1] in "'`" for phrase in phrases.all)
    last = max(text.rfind(phrase) for phrase in phrases.all)
    return marked or last < 0 or "}" not in text[last:]
