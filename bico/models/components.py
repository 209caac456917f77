"""A component of a model, as a stage is given it: by its folder, or by the manifest of its weights."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from bico import InputError
from bico.runtime.provenance import canonical


def read_manifest(path: str | Path) -> dict:
    """The manifest of a component's weights: where they are from, and each file's size and SHA-256. Raises InputError
    where it is missing or damaged."""
    path = Path(path)
    again = "get the weights with `snakemake weights --cores 1`"
    if not path.is_file():
        raise InputError(f"{path}: no such manifest of weights; {again}")
    try:
        content = json.loads(path.read_text("utf-8"))
        for file in content["files"].values():
            int(file["size"]), str(file["sha256"])
        str(content.get("folder") or content["path"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path}: not a manifest of weights; {again}") from None
    return content


def component_folder(path: str | Path) -> Path:
    """A component's folder, given that or the manifest of its weights."""
    path = Path(path)
    if path.suffix != ".json":
        return path
    content = read_manifest(path)
    return Path(os.path.normpath(path.parent / content["folder"])) if "folder" in content else Path(content["path"])


def component_digest(manifest: str | Path) -> str:
    """What a component is, to compare it by: a SHA-256 over its files' names and contents. Where they lie, where they
    came from and their dates do not count. Given its folder instead, that is all there is to say."""
    if Path(manifest).suffix != ".json":
        return Path(manifest).as_posix()
    contents = {name: file["sha256"] for name, file in read_manifest(manifest)["files"].items()}
    return hashlib.sha256(canonical(contents).encode()).hexdigest()


def component_id(manifest: str | Path) -> dict:
    """Who a component is, for the metadata of what is made with it: its `component_digest`, and its origin, which
    nothing is compared by: a local folder, or a repository of the hub, `verified` against its digests or not."""
    if Path(manifest).suffix != ".json":
        return {"path": Path(manifest).as_posix()}
    content = read_manifest(manifest)
    origin = {key: value for key, value in content.items() if key not in ("files", "folder")}
    return origin | {"sha256": component_digest(manifest)}


def component_ids(name: str, manifests: Sequence[str | Path]) -> dict[str, dict]:
    """The `component_id` of each of several components of a kind: `name`, `name_2` and so on."""
    names = [name, *(f"{name}_{k}" for k in range(2, len(manifests) + 1))]
    return {name: component_id(manifest) for name, manifest in zip(names, manifests, strict=True)}


def vae_factors(config: dict) -> tuple[int, int]:
    """The temporal and the spatial compression of an AutoencoderKLWan, from its config.

    The published Wan2.1 repositories are older than the fields that state them (diffusers 0.33); there, each entry of
    `temperal_downsample` halves the sides, and each true one the frames.
    """
    halvings = config.get("temperal_downsample", [False, True, True])
    temporal = config.get("scale_factor_temporal", 2 ** sum(halvings))
    return temporal, config.get("scale_factor_spatial", 2 ** len(halvings))
