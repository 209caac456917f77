"""Gets a model's weights, reads them once from end to end, and writes the manifests that later stages depend on."""

import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import filter_repo_objects
from tqdm import tqdm

from bico import InputError
from bico.models.components import read_manifest
from bico.runtime.command import progress
from bico.runtime.files import write_json
from bico.settings.model_file import Component, ModelFile
from bico.weights.manifests import (
    NEEDED,
    missing_weights,
    needed_files,
    origin,
    origin_in_words,
    read_stamps,
    stamp,
    stamps_file,
)

log = logging.getLogger(__name__)
logging.getLogger("httpx2").setLevel(logging.WARNING)  # the hub's client tells of each request

# What of a repository a component needs, as the hub lists it, by its path in the component's folder.
Listing = dict[str, RepoSibling]


def fetch_weights(model: ModelFile, components: Iterable[str] | None = None, dry_run: bool = False) -> None:
    """Gets those of the components that are missing, all if none are named.

    Sizes and the room on the disk are shown first. Then what is there is taken: files that changed since they were last
    read are checked (`bico.weights.loadable`) and digested. Then the rest is downloaded, component by component, each
    with its manifest at once; downloads resume. Files of the hub are compared with its digests; a folder that was
    copied there is adopted without network too, its revision then unverified.

    Raises InputError with all that cannot be had or loaded, and where the disk cannot hold it.
    """
    names = list(model.components if components is None else components)
    if unknown := [name for name in names if name not in model.components]:
        raise InputError(*(f"{model.path}: names no '{name}', which this run needs" for name in unknown))
    wanted = [model.components[name] for name in names]
    listings, offline = _ask_hub(model, wanted)
    absent = {c.name: files for c in wanted if (files := _absent(c, listings.get(c.name, {})))}
    _show_sizes(model, wanted, listings, absent)
    if dry_run:
        return
    problems = _build([component for component in wanted if component.repo is None])
    for component in wanted:
        if component.name in absent or not component.folder.is_dir():
            continue
        try:
            _take(model, component, listings.get(component.name))
        except InputError as problem:
            problems += problem.problems
    lacking = {c.name for c in wanted if c.repo and missing_weights(model, [c.name])} - absent.keys()
    problems += [said for name, said in offline.items() if name in lacking]
    if problems:
        raise InputError(*problems)
    for component in wanted:
        if component.name in absent:
            _download(component, absent[component.name])
            _take(model, component, listings[component.name])
    log.info("the weights of %s are there", model.name)


# --------------------------------------------------------------------------------------------------- what there is


def _is_read(model: ModelFile, component: Component) -> bool:
    """Whether a component's manifest is of its files as they are now."""
    manifest = model.manifest(component.name)
    if missing_weights(model, [component.name]):
        return False
    return read_stamps(manifest) == {path.name: stamp(path) for path in needed_files(component.folder)}


def _is_verified(model: ModelFile, component: Component) -> bool:
    return read_manifest(model.manifest(component.name)).get("verified", True)


def _ask_hub(model: ModelFile, wanted: list[Component]) -> tuple[dict[str, Listing], dict[str, str]]:
    """What the hub lists of the components that it has to be asked for, and why it could not be asked for others. What
    a manifest shows to be there, and of the hub, is not asked for again."""
    listings, offline, list_repo = {}, {}, cache(_list)
    for component in wanted:
        if component.repo is None or (not missing_weights(model, [component.name]) and _is_verified(model, component)):
            continue
        try:
            siblings = list_repo(component.repo, component.revision)
        except InputError as problem:
            offline[component.name] = f"{component.name}: {problem}"
            continue
        prefix = f"{component.subfolder}/" if component.subfolder else ""
        paths = filter_repo_objects(siblings, allow_patterns=[f"{prefix}{pattern}" for pattern in NEEDED])
        files = {path.removeprefix(prefix): siblings[path] for path in paths}
        listings[component.name] = {name: file for name, file in files.items() if "/" not in name}
    return listings, offline


def _list(repo: str, revision: str) -> dict[str, RepoSibling]:
    try:
        siblings = HfApi().model_info(repo, revision=revision, files_metadata=True).siblings
    except (HTTPError, OSError) as problem:
        raise InputError(f"{repo} at {revision[:8]}: the hub cannot be asked for it: {_first(problem)}") from None
    return {file.rfilename: file for file in siblings}


def _absent(component: Component, listing: Listing) -> list[str]:
    """The files that the hub has and the folder has not, or not of their size."""
    paths = {name: component.folder / name for name in listing}
    return [
        name for name, path in paths.items() if not path.is_file() or path.stat().st_size != (listing[name].size or 0)
    ]


def _show_sizes(
    model: ModelFile, wanted: list[Component], listings: dict[str, Listing], absent: dict[str, list[str]]
) -> None:
    """Raises InputError where what is absent does not fit on the disk."""
    total = 0
    for component in wanted:
        there = _bytes(needed_files(component.folder))
        if component.name in absent:
            listing = listings[component.name]
            size = sum(listing[name].size or 0 for name in absent[component.name])
            said = f"{len(absent[component.name])} of {len(listing)} files to download, {_in_bytes(size)}"
            total += size
        elif _is_read(model, component):
            said = f"{_in_bytes(there)}, read before"
        elif there:
            said = f"{_in_bytes(there)} to read"
        else:
            said = f"to be built: {component.build}" if component.build else "not there"
        log.info("%s: %s: %s", component.name, origin_in_words(origin(component)), said)
    free = _free(model.weights)
    log.info("to download: %s; free on the disk of %s: %s", _in_bytes(total), model.weights, _in_bytes(free))
    begun = _bytes(model.weights.glob("*/.cache/huggingface/download/**/*.incomplete"))
    if total - begun > free:
        raise InputError(
            f"{model.weights}: its disk has {_in_bytes(free)} free, the download needs {_in_bytes(total)}; make room,"
            " or name a folder on another disk: --config weights=FOLDER"
        )


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _in_bytes(size: int) -> str:
    return f"{tqdm.format_sizeof(size)}B"


# ------------------------------------------------------------------------------------------------------ getting it


def _build(components: list[Component]) -> list[str]:
    """Builds the local folders that are missing, and returns what went wrong."""
    problems = []
    for component in components:
        if component.folder.is_dir():
            continue
        if component.build is None:
            problems.append(f"{component.folder}: no such folder, and the model file names no command that builds it")
            continue
        log.info("building %s: %s", component.name, component.build)
        try:
            subprocess.run(shlex.split(component.build), check=True)
        except (OSError, ValueError, subprocess.CalledProcessError) as problem:
            problems.append(f"{component.folder}: building it failed: {problem}")
        else:
            if not component.folder.is_dir():
                problems.append(f"{component.folder}: not there after its command: {component.build}")
    return problems


class _Progress(tqdm):
    """For the hub's client, whose own bars are silent in a log file: every 30 s there."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **{"mininterval": 0.2 if sys.stderr.isatty() else 30, **options})


def _download(component: Component, names: list[str]) -> None:
    checkout, prefix = component.folder, component.subfolder
    for _ in filter(None, prefix.split("/")):
        checkout = checkout.parent
    paths = [f"{prefix}/{name}".lstrip("/") for name in names]
    where = {"revision": component.revision, "local_dir": checkout, "allow_patterns": paths}
    try:
        snapshot_download(component.repo, **where, max_workers=4, tqdm_class=_Progress)
    except (HTTPError, OSError) as problem:
        raise InputError(
            f"{component.name}: {component.repo}: the download broke off: {_first(problem)}; call again, it resumes"
        ) from None


# -------------------------------------------------------------------------------------------------- taking it over


def _take(model: ModelFile, component: Component, listing: Listing | None) -> None:
    """Checks and digests what changed since it was last read, and writes the component's manifest."""
    target = model.manifest(component.name)
    known = _manifest_or_none(target)
    if known and _is_read(model, component):
        files, stamps = known["files"], read_stamps(target)
    else:
        try:
            stamps = {path.name: stamp(path) for path in needed_files(component.folder)}
            files = _read(model, component)
        except (InputError, OSError) as problem:
            target.unlink(missing_ok=True)  # it is of other files
            raise problem if isinstance(problem, InputError) else InputError(str(problem)) from None
    manifest = {"component": component.name, **origin(component), "files": files}
    if component.repo:
        manifest["folder"] = Path(os.path.relpath(component.folder, target.parent)).as_posix()
        try:
            manifest["verified"] = _verify(component, listing, known, files)
        except InputError:
            write_json(stamps_file(target), {name: [] for name in files})  # so that planning refuses them too
            raise
    if manifest != known:
        write_json(target, manifest)
    if stamps != read_stamps(target):
        write_json(stamps_file(target), stamps)
    adopted = "" if manifest.get("verified", True) else "; adopted from a local folder, the revision is unverified"
    log.info("%s: %d files, %s%s", target, len(files), origin_in_words(manifest), adopted)


def _manifest_or_none(path: Path) -> dict | None:
    try:
        return read_manifest(path)
    except InputError:
        return None


def _read(model: ModelFile, component: Component) -> dict[str, dict]:
    """The size and the SHA-256 of each file, from one reading that looks for numbers that are none, too. Raises
    InputError for what cannot be loaded."""
    from bico.weights.loadable import check, not_finite  # torch and all, which takes seconds

    check(model, component)
    paths, problems, files = needed_files(component.folder), [], {}
    with progress(None, f"reading {component.name}", "B", total=_bytes(paths), unit_scale=True) as bar:
        for path in paths:
            files[path.name] = {"size": path.stat().st_size, "sha256": _sha256(path, bar)}
            problems += not_finite(path)  # right behind, while the system still has the file in memory
    if problems:
        raise InputError(*problems)
    return files


def _sha256(path: Path, bar: tqdm) -> str:
    read = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            read.update(piece)
            bar.update(len(piece))
    return read.hexdigest()


def _verify(component: Component, listing: Listing | None, known: dict | None, files: dict[str, dict]) -> bool:
    """Whether the files are the hub's: by what it lists, SHA-256 of large files and git's digests of small ones; or,
    without it, by a manifest that was verified before. InputError names what differs."""
    if listing:
        same = {
            name: file.lfs.sha256 == files[name]["sha256"]
            if file.lfs
            else file.blob_id == _git_digest(component.folder / name)
            for name, file in listing.items()
        }
    elif known and known.get("verified", True) and known.items() >= origin(component).items():
        same = {name: file == files.get(name, file) for name, file in known["files"].items()}
    else:
        return False
    if wrong := [component.folder / name for name in same if not same[name]]:
        raise InputError(*(f"{path}: not the file that the hub has; remove it and call again" for path in wrong))
    if strangers := sorted(files.keys() - same.keys()):
        log.warning("%s: holds %s, which the hub does not have", component.folder, ", ".join(strangers))
    return files.keys() == same.keys()


def _git_digest(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _first(problem: Exception) -> str:
    """The first line of what a library says."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
