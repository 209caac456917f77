"""A component of a model, as a stage is given it: by its folder, or by the manifest of its weights."""

import argparse
import json
import os
from pathlib import Path

from bico import InputError
from bico.provenance import file_digest


def component_folder(path: str | Path) -> Path:
    """A component's folder, given that or the manifest of its weights."""
    path = Path(path)
    if path.suffix != ".json":
        return path
    if not path.is_file():
        raise InputError(f"{path}: no such manifest of weights; get the weights with `snakemake weights --cores 1`")
    content = json.loads(path.read_text("utf-8"))
    return Path(os.path.normpath(path.parent / content["folder"])) if "folder" in content else Path(content["path"])


def component_argument(text: str) -> Path:
    """A component of a model: its folder, or the manifest of its weights."""
    try:
        return component_folder(text)
    except InputError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def component_id(manifest: str | Path) -> dict:
    """Who a component is, from the manifest of its weights: its origin and a digest of its files; for the metadata of
    what is made with it. Given its folder instead, that is all there is to say."""
    if Path(manifest).suffix != ".json":
        return {"path": Path(manifest).as_posix()}
    content = json.loads(Path(manifest).read_text("utf-8"))
    origin = {key: value for key, value in content.items() if key not in ("files", "folder")}
    return origin | {"manifest_sha256": file_digest(manifest)}


def vae_factors(config: dict) -> tuple[int, int]:
    """The temporal and the spatial compression of an AutoencoderKLWan, from its config.

    The published Wan2.1 repositories are older than the fields that state them (diffusers 0.33); there, each entry of
    `temperal_downsample` halves the sides, and each true one the frames.
    """
    halvings = config.get("temperal_downsample", [False, True, True])
    temporal = config.get("scale_factor_temporal", 2 ** sum(halvings))
    return temporal, config.get("scale_factor_spatial", 2 ** len(halvings))
