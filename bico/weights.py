"""A model's weights on disk: what is missing, how it is got, and the small manifests that later stages depend on."""

import json
import logging
import os
import shlex
import subprocess
from itertools import groupby
from pathlib import Path

from bico import InputError
from bico.files import write_json
from bico.provenance import file_digest
from bico.settings import Component, ModelFile

log = logging.getLogger(__name__)
NEEDED = ("*.json", "*.jinja", "*.safetensors", "*.model", "*.txt")


def missing_weights(model: ModelFile, components: tuple[str, ...] | None = None) -> list[str]:
    """What is missing of a model's weights, a line each: a manifest, or a file that its manifest names."""
    lines = []
    for name in components or tuple(model.components):
        component = model.components.get(name)
        if component is None:
            lines.append(f"{name}: {model.path} names none")
            continue
        manifest = model.manifest(name)
        if not manifest.is_file():
            lines.append(
                f"{name}: {_origin(component)} (to {component.folder})"
                if component.repo
                else f"{name}: {_origin(component)}"
            )
            continue
        content = json.loads(manifest.read_text("utf-8"))
        if _identity(component) != {key: content.get(key) for key in _identity(component)}:
            lines.append(f"{name}: {_origin(component)} is wanted, {manifest} holds {_origin_of(content)}")
            continue
        for file, said in content["files"].items():
            path = component.folder / file
            if not path.is_file() or path.stat().st_size != said["size"]:
                lines.append(f"{name}: {path} is missing or not {said['size']:,} bytes")
    return lines


def fetch_weights(model: ModelFile, dry_run: bool = False) -> None:
    """Gets the components that are missing: downloads those of the hub, builds local ones, then writes each manifest.

    Sizes are shown first; downloads resume and are checked against the hub's digests. What of the hub its manifest
    shows to be there is not asked for again, so that a machine without network can use copied weights and manifests;
    local files may have changed and are read anew. Raises InputError when a component cannot be had.
    """
    wanted = [c for c in model.components.values() if c.repo is None or missing_weights(model, (c.name,))]
    hub = sorted((c for c in wanted if c.repo), key=lambda c: (c.repo, c.revision))
    plans = [_plan(*key, list(group)) for key, group in groupby(hub, key=lambda c: (c.repo, c.revision))]
    for plan in plans:
        log.info("%s at %s: %d files, %.1f GB", plan["repo"], plan["revision"][:8], len(plan["files"]), plan["gb"])
    if dry_run:
        return
    digests = {}
    for plan in plans:
        _download(plan)
        digests |= plan["sha256"]
    for component in wanted:
        if component.repo is None:
            _build(component)
        write_manifest(model, component, digests)
    log.info("the weights of %s are there", model.name)


def write_manifest(model: ModelFile, component: Component, expected: dict[Path, str]) -> None:
    """Writes the manifest of a component's files: their sizes and SHA-256, and where they came from. expected: digests
    that files must have; InputError names one that does not."""
    files = sorted(path for pattern in NEEDED for path in component.folder.glob(pattern))
    if not files:
        raise InputError(f"{component.folder}: no weights of '{component.name}' ({_origin(component)})")
    content = {path.name: {"size": path.stat().st_size, "sha256": file_digest(path)} for path in files}
    for path in files:
        if expected.get(path, content[path.name]["sha256"]) != content[path.name]["sha256"]:
            raise InputError(f"{path}: not the file that the hub has; remove it and call again")
    target = model.manifest(component.name)
    manifest = {"component": component.name, **_identity(component), "files": content}
    if component.repo:
        manifest["folder"] = _relative(component, target)
    if not target.is_file() or json.loads(target.read_text("utf-8")) != manifest:
        write_json(target, manifest)
    log.info("%s: %d files, %s", target, len(files), _origin(component))


def _identity(component: Component) -> dict:
    if component.repo:
        return {"repo": component.repo, "revision": component.revision, "subfolder": component.subfolder}
    return {"path": component.folder.as_posix()}


def _relative(component: Component, manifest: Path) -> str:
    """A hub component's folder as seen from its manifest's, so that the two can move together."""
    return Path(os.path.relpath(component.folder, manifest.parent)).as_posix()


def _origin(component: Component) -> str:
    return _origin_of(_identity(component))


def _origin_of(identity: dict) -> str:
    if identity.get("repo"):
        path = "/".join(filter(None, (identity["repo"], identity.get("subfolder"))))
        return f"{path} at {identity['revision'][:8]}"
    return f"the local folder {identity.get('path')}"


def _plan(repo: str, revision: str, components: list[Component]) -> dict:
    """The files of a repository that the components need, with sizes, from the hub."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import filter_repo_objects

    patterns = [f"{c.subfolder}/{p}".lstrip("/") for c in components for p in NEEDED]
    try:
        siblings = HfApi().model_info(repo, revision=revision, files_metadata=True).siblings
    except (HTTPError, OSError) as problem:
        raise InputError(f"{repo} at {revision}: the hub cannot be asked for it: {problem}") from None
    names = list(filter_repo_objects([file.rfilename for file in siblings], allow_patterns=patterns))
    size = sum(file.size or 0 for file in siblings if file.rfilename in names)
    folder = components[0].folder
    for _ in filter(None, components[0].subfolder.split("/")):
        folder = folder.parent
    large = {folder / file.rfilename: file.lfs.sha256 for file in siblings if file.lfs and file.rfilename in names}
    return {"repo": repo, "revision": revision, "files": names, "gb": size / 1e9, "folder": folder, "sha256": large}


def _download(plan: dict) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    where = {"revision": plan["revision"], "local_dir": plan["folder"], "allow_patterns": plan["files"]}
    try:
        snapshot_download(plan["repo"], **where, max_workers=4)
    except (HTTPError, OSError) as problem:
        raise InputError(f"{plan['repo']}: the download broke off: {problem}; call again, it resumes") from None


def _build(component: Component) -> None:
    if component.folder.is_dir():
        return
    if component.build is None:
        raise InputError(f"{component.folder}: no such folder, and the model file names no command that builds it")
    log.info("building %s: %s", component.name, component.build)
    try:
        subprocess.run(shlex.split(component.build), check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise InputError(f"{component.folder}: building it failed: {problem}") from None
