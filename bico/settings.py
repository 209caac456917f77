"""The configuration, the method's switches, and model files: validated, complete, free of torch."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator

from bico import InputError
from bico.components import vae_factors
from bico.grammar import ID

SCHEMAS = Path(__file__).resolve().parent.parent / "workflow" / "schemas"


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
    """The configuration with the schema's defaults filled in and `method` resolved to every switch.

    Raises InputError that lists all problems.
    """
    config = json.loads(json.dumps(config))
    _refuse(origin, [*_problems(config, "config"), *_braces(config), *_splitting(config)])
    method = dict(config["method"])
    preset = PRESETS[method.pop("preset")]
    return {**config, "method": dataclasses.asdict(dataclasses.replace(preset, **method))}


def load_ablations(folder: str | Path, method: dict) -> dict[str, dict]:
    """The methods of a folder of overlays, by file name: `method` with the overlay's switches, or its preset, on top.

    Raises InputError that lists all problems.
    """
    methods, problems = {}, []
    for path in sorted(Path(folder).glob("*.yaml")):
        try:
            if not ID.fullmatch(path.stem):
                raise InputError(f"{path}: allowed in a method's name: letters, digits, '_' and, not first, '-'")
            overlay = yaml.safe_load(path.read_text("utf-8"))
            if not isinstance(overlay, dict) or set(overlay) != {"method"} or not isinstance(overlay["method"], dict):
                raise InputError(f"{path}: an ablation has `method` with switches, and nothing else")
            base = {} if "preset" in overlay["method"] else method
            methods[path.stem] = load_config({"method": base | overlay["method"]}, str(path))["method"]
        except yaml.YAMLError as problem:
            problems.append(f"{path}: not YAML: {problem}")
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
    if not path.is_file():
        raise InputError(f"{path}: no such model file")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as problem:
        raise InputError(f"{path}: not YAML: {problem}") from None
    _refuse(str(path), _problems(content, "model"))
    components = {name: _component(name, made, weights) for name, made in content.pop("components").items()}
    return ModelFile(path=path, components=components, weights=weights, **content)


def size_problems(model: ModelFile, frames: int) -> Iterator[str]:
    """What the model's own configs say against its height, width or a number of frames; nothing if they are missing."""
    vae, transformer = model.config("vae"), model.config("transformer")
    if vae is None or transformer is None:
        return
    try:
        (patch_frames, *patch), (temporal, spatial) = transformer.get("patch_size", (1, 2, 2)), vae_factors(vae)
    except (TypeError, ValueError):
        return  # not such a model's; `snakemake weights` says so
    for name, size, unit in zip(("height", "width"), (model.height, model.width), patch, strict=True):
        if size % (spatial * unit):
            yield f"{name}: {size} is not a multiple of {spatial * unit}, the VAE's {spatial} times the patch's {unit}"
    if (frames - 1) % temporal or ((frames - 1) // temporal + 1) % patch_frames:
        yield f"frames: {frames} is not a multiple of {temporal} plus one, which the VAE needs"


def _component(name: str, made: dict, weights: Path) -> Component:
    if "path" in made:
        return Component(name, Path(made["path"]), build=made.get("build"))
    checkout = weights / f"{made['repo'].replace('/', '--')}@{made['revision'][:8]}"
    subfolder = made.get("subfolder", "")
    return Component(name, checkout / subfolder, made["repo"], made["revision"], subfolder)


def _braces(config: dict) -> Iterator[str]:
    """Snakemake fills in what stands between braces in a path, and would take another file without a word."""
    for name in ("concepts", "compositions", "model", "results", "weights", "ablations"):
        if {"{", "}"} & set(str(config.get(name, ""))):
            yield f"{name}: found '{config[name]}', allowed: a path without {{ and }}"


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
    except (TypeError, ZeroDivisionError):
        pass  # the schema says more


def _problems(value, schema: str) -> list[str]:
    """Checks `value` against a schema and fills its defaults in, in place."""
    validator = _validator(schema)
    if isinstance(value, dict):
        _fill_defaults(value, validator.schema)
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    return [f"{_field(error)}: {error.message}" for error in errors]


def _refuse(origin: str, problems: list[str]) -> None:
    if problems:
        raise InputError(*(f"{origin}: {problem}" for problem in problems))


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(yaml.safe_load((SCHEMAS / f"{schema}.schema.yaml").read_text("utf-8")))


def _fill_defaults(value: dict, schema: dict) -> None:
    for name, field in schema.get("properties", {}).items():
        if "default" in field:
            default = field["default"]
            value.setdefault(name, default.copy() if isinstance(default, dict) else default)
        if isinstance(value.get(name), dict):
            _fill_defaults(value[name], field)


def _field(error) -> str:
    return ".".join(str(part) for part in error.absolute_path) or "top level"
