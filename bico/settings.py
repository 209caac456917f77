"""The configuration, the method's switches, and model files: validated, complete, free of torch."""

import contextlib
import dataclasses
import datetime
import difflib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators

from bico import InputError
from bico.components import vae_factors
from bico.grammar import INVISIBLE, bad_id
from bico.provenance import ROOT
from bico.reading import read_yaml, shorten

SCHEMAS = Path(__file__).resolve().parent.parent / "workflow" / "schemas"
MOST_VALUES = 10_000  # far more than there are settings
LONGEST_PATH = 1000  # bytes; the paths of the results are longer by some 300, and end at 4,096
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TYPES = {
    "integer": "a whole number of at most 64 bits",
    "number": "a finite number",
    "boolean": "true or false",
    "object": "a section with settings in it",
    "string": "text",
}
_FORMATS = FormatChecker(formats=())


@dataclass(frozen=True)
class Method:
    """The method's switches. workflow/schemas/config.schema.yaml says what each means, in the paper and the release."""

    gate: str = "zero"
    gate_weighs: str = "temporal"
    temporal_start: str = "perturbed"
    phase1_noise: str = "inverted"
    phase2_noise: str = "uniform"
    phase1_length: float = 0.4
    phase1_block_binders: str = "frozen"
    alpha: float = 0.875
    beta: float = 0.875
    loss_weight: str = "none"
    warmup_steps: int = 0
    absorbent: str = "appended"
    absorbent_tokens: int = 1
    per_block: bool = True
    inner_width: int = 0
    diversified: bool = True
    temporal_stage: bool = True


PRESETS = {
    "paper": Method(),
    "released": Method(
        gate="softmax",
        gate_weighs="spatial",
        temporal_start="random",
        phase1_noise="reversed",
        phase2_noise="remainder",
        phase1_block_binders="bypassed",
        beta=0.8,
        loss_weight="bell",
        warmup_steps=5,
        absorbent="end_of_text",
    ),
}


def paper() -> dict:
    """The paper's method as a dictionary of switches."""
    return dataclasses.asdict(PRESETS["paper"])


def load_config(config: dict, origin: str = "the configuration") -> dict:
    """The configuration with every value as its type has it, the schema's defaults filled in and `method` resolved to
    every switch.

    Raises InputError that lists all problems.
    """
    config, problems = _checked(config, "config")
    _refuse(origin, [*problems, *_splitting(config)])
    method = dict(config["method"])
    preset = PRESETS[method.pop("preset")]
    return {**config, "method": dataclasses.asdict(dataclasses.replace(preset, **method))}


def readable(config: dict) -> dict:
    """The top of a configuration that does not load: the settings that are fine by themselves, the defaults of those
    that are not given, and no others. So what they name can still be checked."""
    config = dict(config) if isinstance(config, dict) else {}
    fine = {}
    for name in _validator("config").schema["properties"]:
        with contextlib.suppress(InputError):
            fine[name] = load_config({name: config[name]} if name in config else {})[name]
    return fine


def load_ablations(folder: str | Path, method: dict) -> dict[str, dict]:
    """The methods of a folder of overlays, by file name: `method` with the overlay's switches, or its preset, on top.

    Raises InputError that lists all problems.
    """
    methods, problems = {}, []
    if Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"{folder}: is no folder; the ablations are the YAML files of one")
    for path in sorted(path for path in Path(folder).glob("*") if path.suffix in (".yaml", ".yml")):
        try:
            if bad := bad_id(path.stem):
                raise InputError(f"{path}: the name of a method: {bad}")
            if path.stem.casefold() in map(str.casefold, methods):
                raise InputError(f"{path}: there is a method of this name already")
            overlay = read_yaml(path)
            if not isinstance(overlay, dict) or set(overlay) != {"method"} or not isinstance(overlay["method"], dict):
                raise InputError(f"{path}: an ablation has `method` with switches, and nothing else")
            base = {} if "preset" in overlay["method"] else method
            methods[path.stem] = load_config({"method": base | overlay["method"]}, str(path))["method"]
        except InputError as problem:
            problems += problem.problems
    if problems:
        raise InputError(*problems)
    return methods


@dataclass(frozen=True)
class Component:
    """One component of a model: a hub repository at a revision, or a local folder and the command that builds it."""

    name: str
    folder: Path
    repo: str | None = None
    revision: str | None = None
    subfolder: str = ""
    build: str | None = None


@dataclass(frozen=True)
class ModelFile:
    """A model file, read: its components' folders and its sampling defaults."""

    path: Path
    name: str
    components: dict[str, Component]
    weights: Path
    text_length: int
    height: int
    width: int
    frames: int
    fps: float
    steps: int
    shift: float
    guidance_scale: float
    negative_prompt: str

    def manifest(self, component: str) -> Path:
        """Where the manifest of a component's weights lies, or will lie."""
        return self.weights / "manifests" / self.name / f"{component}.json"

    def config(self, component: str) -> dict | None:
        """A component's own config.json; None while it is missing, or damaged, as `snakemake weights` says."""
        try:
            content = json.loads((self.components[component].folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None


def load_model(path: str | Path, weights: str | Path) -> ModelFile:
    """Reads and checks a model file; hub components lie under the folder `weights`. Raises InputError."""
    path, weights = Path(path), Path(weights)
    if not shipped(path).is_file():
        raise InputError(f"{path}: no such model file")
    content, problems = _checked(read_yaml(shipped(path)), "model")
    _refuse(str(path), problems)
    components = {name: _component(name, made, weights) for name, made in content.pop("components").items()}
    return ModelFile(path=path, components=components, weights=weights, **content)


def shipped(path: Path) -> Path:
    """The file that comes with the workflow, where the working directory has none of this name."""
    return ROOT / path if not path.exists() and (ROOT / path).exists() else path


def size_problems(model: ModelFile, frames: int) -> Iterator[str]:
    """What the model's own configs say against its height, width or a number of frames; nothing if they are missing."""
    vae, transformer = model.config("vae"), model.config("transformer")
    if vae is None or transformer is None:
        return
    try:
        (patch_frames, *patch), (temporal, spatial) = transformer.get("patch_size", (1, 2, 2)), vae_factors(vae)
    except (LookupError, TypeError, ValueError):
        return  # not such a model's; `snakemake weights` says so
    for name, size, unit in zip(("height", "width"), (model.height, model.width), patch, strict=True):
        if size % (spatial * unit):
            yield f"{name}: {size} is not a multiple of {spatial * unit}, the VAE's {spatial} times the patch's {unit}"
    if (frames - 1) % temporal or ((frames - 1) // temporal + 1) % patch_frames:
        yield f"frames: {frames} is not a multiple of {temporal} plus one, which the VAE needs"


def _component(name: str, made: dict, weights: Path) -> Component:
    if "path" in made:
        return Component(name, shipped(Path(made["path"])), build=made.get("build"))
    checkout = weights / f"{made['repo'].replace('/', '--')}@{made['revision'][:8]}"
    subfolder = made.get("subfolder", "")
    return Component(name, checkout / subfolder, made["repo"], made["revision"], subfolder)


def _splitting(config: dict) -> Iterator[str]:
    """What speaks against splitting each batch over the cards of a training job."""
    try:
        device, gpus, training = config["compute"]["device"], config["compute"]["gpus"], config["training"]
        if device == "cpu" or gpus == 1:
            return
        if ":" in device:
            yield f"compute.gpus: {gpus} on the one card of compute.device '{device}'"
        for name in ("batch_size_frames", "batch_size_clips"):
            if training[name] % gpus:
                yield f"training.{name}: {training[name]} is no multiple of {gpus}, the compute.gpus it is split over"
    except (KeyError, TypeError, ZeroDivisionError):
        pass  # the schema says more


def read_field(name: str, text: str):
    """A field of a table that stands in for one of the model file's: of its type, within its limits. ValueError says
    what is allowed."""
    schema = _validator("model").schema["properties"][name]
    value = _settled(text, schema)
    if errors := list(_validator("model").evolve(schema=schema).iter_errors(value)):
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


def _checked(value, schema: str) -> tuple[Any, list[str]]:
    """A copy of `value`, each part of it as its type in the schema has it, with the defaults filled in; and what is
    wrong with it, a line each."""
    validator = _validator(schema)
    if not _is_bounded(value):
        return {}, [f"more than {MOST_VALUES:,} values, or nested too deeply; allowed: the schema's settings"]
    value = _settled(value, validator.schema, validator.schema.get("$defs", {}))
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    return value, list(dict.fromkeys(f"{_field(error)}: {_said(error)}" for error in errors))


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


def _refuse(origin: str, problems: list[str]) -> None:
    if problems:
        raise InputError(*(f"{origin}: {problem}" for problem in problems))


@cache
def _validator(schema: str) -> Draft202012Validator:
    """Of the types, a number is finite and an integer has 64 bits; of the formats, see `bad_path`."""
    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: _is_integer(value),
            "number": lambda _, value: _is_integer(value) or (isinstance(value, float) and math.isfinite(value)),
        }
    )
    made = validators.extend(Draft202012Validator, type_checker=types)
    return made(yaml.safe_load((SCHEMAS / f"{schema}.schema.yaml").read_text("utf-8")), format_checker=_FORMATS)


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


def _field(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path) or "top level"
