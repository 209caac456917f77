"""Tensors in files: read with their names checked, never with a NaN or an infinity in them; and the state of a run."""

import contextlib
import logging
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bico import InputError
from bico.runtime.files import atomic

log = logging.getLogger(__name__)
_MAKE_ANEW = "; remove it, and the same command makes it anew"


def require_finite(where: str | Path, tensors: Mapping[str, torch.Tensor], advice: str = "") -> None:
    """Raises InputError that names the first tensor with a NaN or an infinity in it. where: a file, or what was
    computed."""
    for name, tensor in tensors.items():
        # The two extremes carry a NaN on, and take no memory, unlike isfinite: this looks at weights of many GB.
        if tensor.numel() and not all(math.isfinite(extreme) for extreme in torch.aminmax(tensor.detach())):
            bad = int(tensor.numel() - tensor.isfinite().sum())
            raise InputError(f"{where}: {bad} of {tensor.numel()} numbers of '{name}' are NaN or infinite{advice}")


def load_tensors(path: str | Path, *names: str, advice: str = _MAKE_ANEW) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises InputError, naming the file and the tensor, if it is unreadable, lacks
    one of `names`, or holds a NaN or an infinity."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path}: cannot be read ({problem}){advice}") from None
    if missing := [name for name in names if name not in tensors]:
        raise InputError(f"{path}: has no '{missing[0]}'{advice}")
    require_finite(path, tensors)
    return tensors


def save_state(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Saves a run's state, and keeps the one that was saved before as `previous_state` names it."""
    with atomic(path) as part:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part)
        if path.is_file():
            path.replace(previous_state(path))


def load_state(path: Path, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """The last state that is good, None if there is none. A damaged one, which cannot be read or has other names,
    shapes or dtypes than `like`, is set aside under the suffix .damaged, and the log says so."""
    for candidate in (path, previous_state(path)):
        if not candidate.is_file():
            continue
        try:
            tensors = load_tensors(candidate, advice="")
            _require_like(candidate, tensors, like)
        except InputError as problem:
            damaged = candidate.with_name(f"{candidate.name}.damaged")
            with contextlib.suppress(FileNotFoundError):  # another process of this run was first
                candidate.replace(damaged)
            log.warning("%s: damaged, set aside as %s", problem, damaged.name)
        else:
            log.info("going on from %s", candidate)
            return tensors
    return None


def previous_state(path: Path) -> Path:
    return path.with_name(f"previous_{path.name}")


def _require_like(where: Path, tensors: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> None:
    if tensors.keys() != like.keys():
        raise InputError(f"{where}: '{min(tensors.keys() ^ like.keys())}' is missing or not expected")
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (like[name].shape, like[name].dtype):
            raise InputError(f"{where}: '{name}' is {_kind(tensor)}, expected {_kind(like[name])}")


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
