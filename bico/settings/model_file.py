"""Model files: where a model's components come from, its sizes and its sampling defaults."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bico import InputError
from bico.models.components import vae_factors
from bico.runtime.provenance import ROOT
from bico.runtime.reading import read_yaml
from bico.settings.schema import SCHEMAS, checked, refuse

SCHEMA = SCHEMAS / "model.schema.yaml"
EXPERTS = ("transformer", "transformer_2")


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
    boundary: float | None = None

    @property
    def experts(self) -> tuple[str, ...]:
        """The components that predict: one transformer, or two that share the noise levels."""
        return tuple(name for name in EXPERTS if name in self.components)

    def manifest(self, component: str) -> Path:
        """Where the manifest of a component's weights lies, or will lie."""
        return self.weights / "manifests" / self.name / f"{component}.json"

    def config(self, component: str) -> dict | None:
        """A component's own config.json; None where there is none, or it is damaged, as `snakemake weights` says."""
        try:
            content = json.loads((self.components[component].folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError, KeyError):
            return None
        return content if isinstance(content, dict) else None


def load_model(path: str | Path, weights: str | Path) -> ModelFile:
    """Reads and checks a model file; hub components lie under the folder `weights`. Raises InputError."""
    path, weights = Path(path), Path(weights)
    if not shipped(path).is_file():
        raise InputError(f"{path}: no such model file")
    content, problems = checked(read_yaml(shipped(path)), SCHEMA)
    refuse(str(path), problems)
    refuse(str(path), list(_boundary_problems(content)))
    components = {name: _component(name, made, weights) for name, made in content.pop("components").items()}
    return ModelFile(path=path, components=components, weights=weights, **content)


def _boundary_problems(content: dict) -> Iterator[str]:
    has_two = "transformer_2" in content["components"]
    if has_two and "boundary" not in content:
        yield "boundary: missing; it says which noise levels are transformer_2's"
    if "boundary" in content and not has_two:
        yield "boundary: of two experts, and components has no transformer_2"


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
