"""What a stage is told to do: a frozen class of its own, made once of the JSON that its script is given."""

import dataclasses
import difflib
import types
from typing import TypeVar, get_args, get_origin, get_type_hints

from bico import InputError

Stage = TypeVar("Stage")


def stage_settings(stage: type[Stage], given: dict) -> Stage:
    """A stage's settings of a JSON object; lists become tuples. InputError names each that is missing, unknown or of
    another type."""
    values, problems = _values(stage, given, "")
    if problems:
        raise InputError(*problems)
    return stage(**values)


def _values(stage: type, given: dict, prefix: str) -> tuple[dict, list[str]]:
    """The fields' values, and what is wrong with them."""
    known = {each.name: each for each in dataclasses.fields(stage)}
    absent = (dataclasses.MISSING, dataclasses.MISSING)
    needed = [name for name, each in known.items() if (each.default, each.default_factory) == absent]
    problems = [f"settings: '{prefix}{name}' is unknown; {_hint(name, known)}" for name in given if name not in known]
    problems += [f"settings: '{prefix}{name}' is missing" for name in needed if name not in given]
    kinds, values = get_type_hints(stage), {}
    for name in given.keys() & known.keys():
        kind, value = kinds[name], given[name]
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            inner, found = _values(kind, value, f"{prefix}{name}.")
            problems += found
            values[name] = None if found else kind(**inner)
        elif _fits(value, kind):
            values[name] = _frozen(value)
        else:
            expected = kind.__name__ if isinstance(kind, type) else kind
            problems.append(f"settings: '{prefix}{name}' is {value!r}; expected: {expected}")
    return values, problems


def _fits(value, kind) -> bool:
    """Whether a JSON value is of a type: a class, a union, or a tuple."""
    if get_origin(kind) is types.UnionType:
        return any(_fits(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if not isinstance(value, (list, tuple)) or (inner[-1] is not Ellipsis and len(inner) != len(value)):
            return False
        inner = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return all(map(_fits, value, inner))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _frozen(value):
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _hint(name: str, known: dict) -> str:
    meant = difflib.get_close_matches(name, known, 1)
    return f"did you mean '{meant[0]}'?" if meant else f"allowed: {', '.join(known)}"
