"""Binder files: safetensors that describe themselves, and the released code's layout."""

import dataclasses
import json
import logging
from collections import defaultdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bico import InputError
from bico.binder import BinderSpec, ConceptBinder
from bico.files import atomic

log = logging.getLogger(__name__)
FORMAT = "bico-binder"
FORMAT_VERSION = 1

_TO_RELEASED = {
    "global_binder": "global_concept_adapter",
    "block_binders": "per_block_concept_adapters",
    "spatial": "proj",
    "temporal": "proj_motion",
    "gamma": "scaling",
    "gate": "gate",
}
_FROM_RELEASED = {theirs: ours for ours, theirs in _TO_RELEASED.items()}
_RELEASED_ABSORBENT = "absorbing_token"


def save_binder(path: str | Path, binder: ConceptBinder, info: dict) -> None:
    """Writes a native binder file. `info` (JSON values) says what made it: model, concept, stage, settings, ..."""
    header = {"format": FORMAT, "version": FORMAT_VERSION, "spec": dataclasses.asdict(binder.spec), **info}
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in binder.state_dict().items()}
    with atomic(path) as part:
        save_file(tensors, part, metadata={FORMAT: json.dumps(header, sort_keys=True, ensure_ascii=False)})


def load_binder(
    path: str | Path, dim: int | None = None, blocks: int | None = None, source: int | None = None
) -> tuple[ConceptBinder, dict]:
    """A concept's binder from a native or a released file, and its header, checked against the model's D and N where
    they are given.

    source: which one of a released file that holds several (its suffix `_{k}`, from 0). Raises InputError, naming the
    file, what was found and what was expected.
    """
    header, tensors = _read(path)
    if header is None:
        spec, tensors = _from_released(path, tensors, source)
        if blocks is not None and not spec.per_block:  # the file does not say how many there are
            spec = dataclasses.replace(spec, blocks=blocks)
        header = {"format": "released", "spec": dataclasses.asdict(spec)}
    elif source is not None:
        raise InputError(f"{path}: holds one concept, but source {source} of it was asked for")
    else:
        if header.get("version") != FORMAT_VERSION:
            raise InputError(f"{path}: binder format {header.get('version')}; this version reads {FORMAT_VERSION}")
        spec = BinderSpec(**header["spec"])
    if dim is not None and (spec.dim, spec.blocks) != (dim, blocks):
        raise InputError(
            f"{path}: made for a transformer of width {spec.dim} with {spec.blocks} blocks; "
            f"this model has width {dim} and {blocks} blocks"
        )
    binder = ConceptBinder(spec)
    _check_keys(path, {k: v.shape for k, v in binder.state_dict().items()}, {k: v.shape for k, v in tensors.items()})
    binder.load_state_dict(tensors, strict=True)
    return binder, header


def export_released(path: str | Path, binders: list[ConceptBinder]) -> None:
    """Writes binders in the released layout: one without suffix, several with `_{k}` on the first component.

    The layout has no place for two things, and the log says so where they matter: the released code's gate is always 1
    on the spatial branch, so it leaves out what another gate lets through of the temporal one; and it knows one
    absorbent token, in the place of end-of-text, which matters for training on alone. Missing per-block binders are
    written as untrained ones, the identity.
    """
    tensors = {}
    for k, binder in enumerate(binders):
        suffix = f"_{k}" if len(binders) > 1 else ""
        if binder.spec.dual and (binder.spec.gate, binder.spec.gate_weighs) != ("softmax", "spatial"):
            log.warning("source %d: the released code will ignore the temporal branch, since its gate is always 1", k)
        if not binder.spec.per_block:
            whole = ConceptBinder(dataclasses.replace(binder.spec, per_block=True))
            whole.load_state_dict(binder.state_dict(), strict=False)
            binder = whole
        for name, value in binder.state_dict().items():
            tensors[_released_name(name, suffix)] = value.detach().float().cpu().contiguous()
    with atomic(path) as part:
        save_file(tensors, part)


def _read(path: str | Path) -> tuple[dict | None, dict[str, torch.Tensor]]:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such binder file")
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(FORMAT)
            return json.loads(header) if header else None, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as problem:
        raise InputError(f"{path}: not a safetensors file ({problem}); pickled checkpoints are never loaded") from None


def _check_keys(path, expected: dict[str, torch.Size], found: dict[str, torch.Size]) -> None:
    problems = [f"{path}: '{key}' is missing" for key in sorted(expected.keys() - found.keys())]
    problems += [f"{path}: '{key}' is not expected" for key in sorted(found.keys() - expected.keys())]
    problems += [
        f"{path}: '{key}' has shape {list(found[key])}, expected {list(expected[key])}"
        for key in sorted(expected.keys() & found.keys())
        if expected[key] != found[key]
    ]
    if problems:
        raise InputError(*problems)


def _released_name(name: str, suffix: str) -> str:
    if name == "absorbent":
        return f"{_RELEASED_ABSORBENT}{suffix}.weight"
    first, *rest = name.split(".")
    return ".".join([_TO_RELEASED[first] + suffix, *(_TO_RELEASED.get(part, part) for part in rest)])


def _native_name(name: str) -> tuple[int | None, str]:
    """A released key to its source (None without a suffix) and the native key; unknown keys stay as they are."""
    first, *rest = name.split(".")
    source = None
    for stem in (*_FROM_RELEASED, _RELEASED_ABSORBENT):
        if first.startswith(f"{stem}_") and first[len(stem) + 1 :].isdigit():
            first, source = stem, int(first[len(stem) + 1 :])
    if first == _RELEASED_ABSORBENT:
        return source, "absorbent" if rest == ["weight"] else name
    return source, ".".join(_FROM_RELEASED.get(part, part) for part in [first, *rest])


def _from_released(path, tensors: dict[str, torch.Tensor], source: int | None) -> tuple[BinderSpec, dict]:
    """One source's tensors under native keys, and what its keys and shapes say of its make."""
    by_source: dict[int | None, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        of, native = _native_name(name)
        by_source[of][native] = value
    found = "no source" if not by_source else ", ".join(str(s) for s in sorted(by_source, key=str))
    if source is None and len(by_source) == 1:
        (source,) = by_source
    if source not in by_source:
        asked = "none was named" if source is None else f"source {source} was asked for"
        raise InputError(f"{path}: a released file with sources {found}, and {asked}")
    mine = by_source[source]
    gamma_of = [key for key in mine if key.startswith("block_binders.") and key.endswith(".gamma")]
    first_bias = mine.get("global_binder.spatial.0.bias")
    if first_bias is None or first_bias.ndim != 1:
        raise InputError(f"{path}: no 'global_concept_adapter.proj.0.bias' of shape [D]; not a BiCo binder file")
    absorbent = mine.get("absorbent")
    if absorbent is None:
        mine["absorbent"] = absorbent = torch.zeros(0, len(first_bias))
    spec = BinderSpec(
        dim=len(first_bias),
        blocks=len(gamma_of),
        per_block=bool(gamma_of),
        dual=any(".temporal." in key for key in mine),
        absorbent=absorbent.shape[0] if absorbent.ndim == 2 else 1,
        gate="softmax",
        gate_weighs="spatial",
    )
    return spec, mine
