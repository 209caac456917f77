"""What a stage is told to do: a frozen class of its own, made once of the JSON that its script is given."""

import dataclasses
import difflib
from typing import TypeVar

from bico import InputError

Stage = TypeVar("Stage")


def read(stage: type[Stage], given: dict) -> Stage:
    """A stage's settings of a JSON object. InputError names each that is missing or unknown."""
    known = {each.name: each for each in dataclasses.fields(stage)}
    problems = [f"settings: '{name}' is unknown; {_hint(name, known)}" for name in given if name not in known]
    absent = (dataclasses.MISSING, dataclasses.MISSING)
    needed = [name for name, each in known.items() if (each.default, each.default_factory) == absent]
    problems += [f"settings: '{name}' is missing" for name in needed if name not in given]
    if problems:
        raise InputError(*problems)
    values = {
        name: read(known[name].type, value) if dataclasses.is_dataclass(known[name].type) else value
        for name, value in given.items()
    }
    return stage(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _hint(name: str, known: dict) -> str:
    meant = difflib.get_close_matches(name, known, 1)
    return f"did you mean '{meant[0]}'?" if meant else f"allowed: {', '.join(known)}"
