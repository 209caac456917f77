"""A model's weights on disk, as planning sees them: what is missing, and what is not as it was when it was last read.

Free of torch; `bico.weights.fetch` gets the weights and writes their manifests.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from bico import InputError
from bico.models.components import read_manifest
from bico.settings.model_file import Component, ModelFile

NEEDED = ("*.json", "*.jinja", "*.safetensors", "*.model", "*.txt")


def missing_weights(model: ModelFile, components: Iterable[str] | None = None) -> list[str]:
    """What is missing of a model's weights, a line each: a manifest, a file that its manifest names, or the certainty
    that the file is the one that was read."""
    names = model.components if components is None else components
    return [f"{name}: {problem}" for name in names for problem in _problems(model, name)]


def origin(component: Component) -> dict:
    """Where a model file has a component from, as its manifest says it."""
    if component.repo:
        return {"repo": component.repo, "revision": component.revision, "subfolder": component.subfolder}
    return {"path": component.folder.as_posix()}


def origin_in_words(of: dict) -> str:
    if of.get("repo"):
        path = "/".join(filter(None, (of["repo"], of.get("subfolder"))))
        return f"{path} at {of['revision'][:8]}"
    return f"the local folder {of.get('path')}"


def needed_files(folder: Path) -> list[Path]:
    """The files of a component's folder that count, in order of their names."""
    return sorted({path for pattern in NEEDED for path in folder.glob(pattern) if path.is_file()})


def stamps_file(manifest: Path) -> Path:
    """Where it is noted what the files looked like when they were last read. Not in the manifest, whose content is the
    same for the same weights anywhere."""
    return manifest.with_name(f".{manifest.stem}.stamps.json")


def read_stamps(manifest: Path) -> dict[str, list[int]]:
    """The `stamp` of each file when it was last read; none where that is not known, such as for copied manifests."""
    try:
        return {name: list(stamp) for name, stamp in json.loads(stamps_file(manifest).read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def stamp(path: Path) -> list[int]:
    """What changes where a file's content does: its size, date, the date of its last change, and its inode."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _problems(model: ModelFile, name: str) -> Iterator[str]:
    component = model.components.get(name)
    if component is None:
        yield f"{model.path} names none"
        return
    manifest, wanted = model.manifest(name), origin(component)
    if not manifest.is_file():
        yield origin_in_words(wanted) + (f" (to {component.folder})" if component.repo else "")
        return
    try:
        content = read_manifest(manifest)
    except InputError as problem:
        yield str(problem)
        return
    if wanted != {key: content.get(key) for key in wanted}:
        yield f"{origin_in_words(wanted)} is wanted, {manifest} holds {origin_in_words(content)}"
        return
    stamps = read_stamps(manifest)
    for file, said in content["files"].items():
        path = component.folder / file
        if not path.is_file() or path.stat().st_size != said["size"]:
            yield f"{path} is missing or not {said['size']:,} bytes"
        elif file in stamps and stamps[file][:2] != stamp(path)[:2]:  # elsewhere the rest differs without a change
            yield f"{path} was changed or replaced since it was read"
