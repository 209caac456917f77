"""Settings that a person wrote, against a JSON schema: of its types, complete, or refused with all that is wrong."""

import datetime
import difflib
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators

from bico import InputError
from bico.runtime.reading import shorten
from bico.text.grammar import INVISIBLE

SCHEMAS = Path(__file__).resolve().parent / "schemas"
MOST_VALUES = 10_000  # far more than there are settings
LONGEST_PATH = 1000  # bytes; the paths of the results are longer by some 300, and end at 4,096
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TYPES = {
    "integer": "a whole number of at most 64 bits",
    "number": "a finite number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a section with settings in it",
    "string": "text",
}
_FORMATS = FormatChecker(formats=())


def read_field(schema: Path, name: str, text: str):
    """A field of a table that stands in for a setting of a schema: of its type, within its limits. ValueError says what
    is allowed."""
    field = validator(schema).schema["properties"][name]
    value = _settled(text, field)
    if errors := list(validator(schema).evolve(schema=field).iter_errors(value)):
        raise ValueError(_said(errors[0]).partition("allowed: ")[2])
    return value


def bad_path(path: str) -> str | None:
    """What speaks against a path that the workflow puts into its rules; None if nothing does."""
    if not path.strip():
        return "found nothing, allowed: a path"
    if path != path.strip() or INVISIBLE.search(path) or set(path) & set("\t\r\n"):
        return f"found '{shorten(path)}', allowed: a path without invisible characters and without space at its ends"
    if "{" in path or "}" in path:
        return f"found '{shorten(path)}', allowed: a path without braces, which Snakemake takes for its wildcards"
    if path.startswith("-"):
        return f"found '{shorten(path)}', which commands take for an option; allowed: a path that begins otherwise"
    if path.startswith("~"):
        return f"found '{shorten(path)}', but '~' is not your home folder here; allowed: a path written out"
    if len(path.encode("utf-8", "replace")) > LONGEST_PATH or max(len(part.encode()) for part in path.split("/")) > 255:
        return (
            f"found '{shorten(path)}', allowed: at most {LONGEST_PATH} bytes, and 255 in the name of a file or folder"
        )
    return None


def checked(value, schema: Path, section: str = "") -> tuple[Any, list[str]]:
    """A copy of `value`, each part of it as its type in the schema has it, with the defaults filled in; and what is
    wrong with it, a line each. section: where it stands in a configuration, if it is a part of one."""
    by = validator(schema)
    if not _is_bounded(value):
        return {}, [f"more than {MOST_VALUES:,} values, or nested too deeply; allowed: the schema's settings"]
    value = _settled(value, by.schema, by.schema.get("$defs", {}))
    errors = sorted(by.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    return value, list(dict.fromkeys(f"{_field(error, section)}: {_said(error)}" for error in errors))


def _is_bounded(value, depth: int = 20) -> bool:
    """Whether nothing explodes when it is walked through: an alias of YAML's may hold others, or itself."""
    left = MOST_VALUES

    def walk(value, depth: int) -> bool:
        nonlocal left
        left -= 1
        inside = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
        return depth > 0 and left > 0 and all(walk(part, depth - 1) for part in inside)

    return walk(value, depth)


def _settled(value, schema: dict, definitions: dict | None = None):
    """A copy of `value` as the schema's type has it, where it can be read so: `--config` gives a section's numbers and
    switches as text, YAML reads 1e-4 as text and an empty section as nothing. Equal settings become the same value: 5
    is 5.0 where any number may be, and a path is as short as it can be."""
    definitions = definitions or {}
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]] | schema
    kind = schema.get("type")
    if kind == "object":
        return _settled_section({} if value is None else value, schema, definitions)
    if isinstance(value, str) and (kind == "boolean" or any(isinstance(each, bool) for each in schema.get("enum", ()))):
        return _SWITCHES.get(value.lower(), value)
    if kind in ("integer", "number") and not isinstance(value, bool):
        if isinstance(value, str):
            value = _read_number(value)
        if kind == "number" and isinstance(value, int) and abs(value) < 2**1000:
            return float(value)
        if kind == "number" and isinstance(value, float):
            return value + 0.0  # -0.0 is 0.0
        return int(value) if isinstance(value, float) and value.is_integer() else value
    if schema.get("format") in ("path", "folder") and isinstance(value, str) and value.strip():
        # Not os.path.normpath: behind a link, a/../b is not b.
        return Path(value).as_posix()
    return value


def _settled_section(value, schema: dict, definitions: dict):
    if not isinstance(value, dict):
        return value
    value = {str(name): part for name, part in value.items()}
    for name, field in schema.get("properties", {}).items():
        if name in value or "default" in field:
            value[name] = _settled(value.get(name, field.get("default")), field, definitions)
    return value


def _read_number(text: str) -> int | float | str:
    """A number that came as text, or the text."""
    if not _NUMBER.fullmatch(text.strip()):
        return text
    try:
        return int(text)
    except ValueError:
        return float(text)


def refuse(origin: str, problems: list[str]) -> None:
    if problems:
        raise InputError(*(f"{origin}: {problem}" for problem in problems))


@cache
def validator(schema: Path) -> Draft202012Validator:
    """Of the types, a number is finite and an integer has 64 bits; of the formats, see `bad_path`."""
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: _is_integer(value),
            "number": lambda _, value: _is_integer(value) or (isinstance(value, float) and math.isfinite(value)),
        }
    )
    made = validators.extend(Draft202012Validator, type_checker=types)
    return made(yaml.safe_load(schema.read_text("utf-8")), format_checker=_FORMATS)


def _is_integer(value) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


@_FORMATS.checks("path", raises=ValueError)
def _is_path(value) -> bool:
    if isinstance(value, str) and (bad := bad_path(value)):
        raise ValueError(bad)
    return True


@_FORMATS.checks("folder", raises=ValueError)
def _is_own_folder(value) -> bool:
    """A folder that the workflow has for itself."""
    if isinstance(value, str) and _is_path(value) and Path(value).name in ("", ".", ".."):
        raise ValueError(f"found '{value}', allowed: a folder of its own, such as results")
    return True


def _said(error: ValidationError) -> str:
    """What was found and what is allowed."""
    found, rule = f"found {_shown(error.instance)}", error.validator_value
    match error.validator:
        case "type" | "enum" if error.instance is None:
            allowed = "leave it out for its default" if "default" in error.schema else "say what it is"
            return f"empty; {allowed}"
        case "type" if rule == "string" and not isinstance(error.instance, (dict, list)):
            return f"{found}, which YAML does not read as text; allowed: text, here in quotes"
        case "type":
            return f"{found}, allowed: {_TYPES[rule]}"
        case "enum":
            return f"{found}, allowed: {', '.join(each if isinstance(each, str) else _shown(each) for each in rule)}"
        case "minimum":
            return f"{found}, allowed: at least {rule}"
        case "exclusiveMinimum":
            return f"{found}, allowed: above {rule}"
        case "maximum":
            return f"{found}, allowed: at most {rule}"
        case "uniqueItems":
            return f"{found}, allowed: each of them once"
        case "maxLength":
            return f"{len(error.instance):,} characters, allowed: at most {rule:,}"
        case "pattern":
            return f"{found}, allowed: {error.schema.get('$comment', rule)}"
        case "format":
            return str(error.cause)
        case "required":
            instead = f"; {error.schema['$comment']}" if "$comment" in error.schema else ""
            return f"missing: {', '.join(name for name in rule if name not in error.instance)}{instead}"
        case "additionalProperties":
            return "; ".join(_unknown(name, error.schema["properties"]) for name in _extra(error))
    return shorten(error.message, 300)


def _shown(value) -> str:
    """A value as YAML would have it, more or less."""
    if isinstance(value, (bool, datetime.date)):
        return str(value).lower()
    return f"'{shorten(value)}'" if isinstance(value, str) else shorten(repr(value))


def _extra(error: ValidationError) -> list[str]:
    return [name for name in error.instance if name not in error.schema["properties"]]


def _unknown(name: str, known: dict) -> str:
    meant = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean '{meant[0]}'?" if meant else f"allowed: {', '.join(known)}"
    return f"'{shorten(name)}' is unknown; {hint}"


def _field(error: ValidationError, section: str) -> str:
    return ".".join([*filter(None, [section]), *map(str, error.absolute_path)]) or "top level"
