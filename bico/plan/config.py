"""The configuration and the methods of a run: validated, complete."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bico import InputError
from bico.methods import resolve
from bico.prompts.writers import WRITERS
from bico.runtime.reading import read_yaml, shorten
from bico.settings.schema import SCHEMAS, checked, refuse, validator
from bico.text.grammar import bad_id

SCHEMA = SCHEMAS / "config.schema.yaml"


def load_config(config: dict, origin: str = "the configuration") -> dict:
    """The configuration with every value as its type has it, the schema's defaults filled in and the settings of its
    `method` complete.

    Raises InputError that lists all problems.
    """
    config, problems = checked(config, SCHEMA)
    problems += [*_unknown_writer(config), *_splitting(config)]
    try:
        config["method"] = resolve(config["method"])
    except InputError as found:
        problems += found.problems
    except (KeyError, TypeError, AttributeError):
        pass  # the schema says more
    refuse(origin, sorted(problems))
    return config


def readable(config: dict) -> dict:
    """The top of a configuration that does not load: the settings that are fine by themselves, the defaults of those
    that are not given, and no others. So what they name can still be checked."""
    config = dict(config) if isinstance(config, dict) else {}
    fine = {}
    for name in validator(SCHEMA).schema["properties"]:
        with contextlib.suppress(InputError):
            fine[name] = load_config({name: config[name]} if name in config else {})[name]
    return fine


def load_methods(folder: str | Path, base: dict) -> dict[str, dict]:
    """The methods of a folder, by file name: the settings of each, on top of `base` where that is of the same kind.

    Raises InputError that lists all problems.
    """
    methods, problems = {}, []
    if Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"{folder}: is no folder; methods are the YAML files of one")
    for path in sorted(path for path in Path(folder).glob("*") if path.suffix in (".yaml", ".yml")):
        try:
            if bad := bad_id(path.stem):
                raise InputError(f"{path}: the name of a method: {bad}")
            if path.stem.casefold() in map(str.casefold, methods):
                raise InputError(f"{path}: there is a method of this name already")
            content = read_yaml(path)
            if not isinstance(content, dict) or set(content) != {"method"} or not isinstance(content["method"], dict):
                raise InputError(f"{path}: holds `method` with its settings, and nothing else")
            methods[path.stem] = _in_file(path, resolve, content["method"], base)
        except InputError as problem:
            problems += problem.problems
    if problems:
        raise InputError(*problems)
    return methods


def _in_file(path: Path, load, *arguments):
    """What `load` returns; its problems name the file."""
    try:
        return load(*arguments)
    except InputError as found:
        raise InputError(*(f"{path}: {problem}" for problem in found.problems)) from None


def _unknown_writer(config: dict) -> Iterator[str]:
    with contextlib.suppress(KeyError, TypeError):  # the schema says more
        writer = config["prompts"]["writer"]
        if isinstance(writer, str) and writer not in WRITERS:
            yield f"prompts.writer: found '{shorten(writer)}', allowed: {', '.join(WRITERS)}"


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
