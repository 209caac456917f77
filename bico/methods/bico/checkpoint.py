"""Binder files: safetensors that describe themselves, and the released code's layout."""

import dataclasses
import json
import logging
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bico import InputError
from bico.methods.bico.binder import ConceptBinder
from bico.methods.bico.layout import FORMAT, FORMAT_VERSION, read_layout, released_name
from bico.models.tensors import require_finite
from bico.runtime.files import atomic

log = logging.getLogger(__name__)


def save_binder(path: str | Path, binder: ConceptBinder, info: dict) -> None:
    """Writes a native binder file. `info` (JSON values) says what made it: model, concept, stage, settings, ..."""
    header = {"format": FORMAT, "version": FORMAT_VERSION, "spec": dataclasses.asdict(binder.spec), **info}
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in binder.state_dict().items()}
    require_finite(path, tensors)
    with atomic(path) as part:
        save_file(tensors, part, metadata={FORMAT: json.dumps(header, sort_keys=True, ensure_ascii=False)})


def load_binder(
    path: str | Path, dim: int | None = None, blocks: int | None = None, source: int | None = None, experts: int = 1
) -> tuple[ConceptBinder, dict]:
    """A concept's binder from a native or a released file, and its header, after the checks of `read_layout`.

    source: which one of a released file that holds several (its suffix `_{k}`, from 0). Raises InputError, naming the
    file, what was found and what was expected.
    """
    layout = read_layout(path, dim, blocks, source, experts)
    with safe_open(path, "pt") as file:
        tensors = {native: file.get_tensor(stored) for native, stored in layout.stored.items()}
    binder = ConceptBinder(layout.spec)
    for name in binder.state_dict().keys() - tensors.keys():  # absorbent tokens, of which a file may have none
        tensors[name] = torch.zeros(0, layout.spec.dim)
    binder.load_state_dict(tensors, strict=True)
    require_finite(path, binder.state_dict())
    return binder, layout.header


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """sources: the number of each binder in a released file of several, None in any other."""

    sources: tuple[int | None, ...] = ()


def export_released(path: str | Path, binders: list[ConceptBinder]) -> None:
    """Writes binders in the released layout: one without suffix, several with `_{k}` on the first component.

    The layout has no place for two things, and the log says so where they matter: the released code's gate is always 1
    on the spatial branch, so it leaves out what another gate lets through of the temporal one; and it knows one
    absorbent token, in the place of end-of-text, which matters for training on alone. Missing per-block binders are
    written as untrained ones, the identity. It knows MLPs of the model's own width alone: InputError for others.
    """
    tensors = {}
    for k, binder in enumerate(binders):
        suffix = f"_{k}" if len(binders) > 1 else ""
        if binder.spec.experts > 1:
            raise InputError(f"{path}: source {k} has binders for two experts; the released layout knows one")
        if binder.spec.inner_width != binder.spec.dim:
            raise InputError(
                f"{path}: source {k} has an inner width of {binder.spec.inner_width}; the released layout knows the"
                f" model's alone, {binder.spec.dim}"
            )
        if binder.spec.dual and (binder.spec.gate, binder.spec.gate_weighs) != ("softmax", "spatial"):
            log.warning("source %d: the released code will ignore the temporal branch, since its gate is always 1", k)
        if not binder.spec.per_block:
            whole = ConceptBinder(dataclasses.replace(binder.spec, per_block=True))
            whole.load_state_dict(binder.state_dict(), strict=False)
            binder = whole
        for name, value in binder.state_dict().items():
            tensors[released_name(name, suffix)] = value.detach().float().cpu().contiguous()
    with atomic(path) as part:
        save_file(tensors, part)
