"""The metrics of one result.

The paper judges by CLIP-T and DINO-I and names no more than that; here the frames' embeddings are pooled by their mean.
A metric that does not apply has no value, and says why.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bico.evaluate import BUILT_IN, module_file
from bico.evaluate.features import read_features
from bico.evaluate.motion import motion_fidelity, smoothness
from bico.runtime.files import write_json


@dataclass(frozen=True)
class MeasureSettings:
    """metrics: of BUILT_IN, or modules (see `module_rows`); sources: of each linked concept of which there is media,
    its id and its kind, `image` or `video`; pieces: of the prompt, each its text and the concept it is linked to."""

    metrics: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]
    pieces: tuple[tuple[str, str | None], ...] = ()
    modules: dict | None = None  # digests of the modules' code, which nothing here reads


@dataclass(frozen=True)
class Measurement:
    """metric: its name; concept: the source that it compares with, if it is one; reason: why there is no value;
    meaning: of a module's metric, what it says."""

    metric: str
    value: float | None
    concept: str = ""
    reason: str = ""
    meaning: str = ""


def measure(
    settings: MeasureSettings, output: str | Path, result: str | Path, sources: Sequence[str | Path],
    features: Sequence[str | Path] = (), tracks: Sequence[str | Path] = (),
) -> None:  # fmt: skip
    """Writes a result's metrics, a JSON list. sources: the media of the settings' sources, in their order. features,
    tracks: those files of the result, then of each of the sources that has them, found by their names."""
    rows: list[Measurement] = []
    media = dict(zip((name for name, _ in settings.sources), map(str, sources), strict=True))
    shown, moved = (_by_media(files, media | {"": str(result)}) for files in (features, tracks))
    if shown:
        rows += appearance_rows(shown[""], {name: shown[name] for name in media})
    if "motion" in settings.metrics:
        rows += motion_rows(moved.get(""), {name: moved.get(name) for name in media})
    for name in settings.metrics:
        if name not in BUILT_IN:
            rows += module_rows(name, str(result), media, settings.pieces)
    write_json(output, [asdict(row) for row in rows])


def _by_media(files: Sequence[str | Path], media: Mapping[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """The content of feature files by the names of the media that they are of."""
    at = {str(Path(file)).rsplit(".", 2)[0]: file for file in files}
    return {name: read_features(at[str(Path(path))]) for name, path in media.items() if str(Path(path)) in at}


def appearance_rows(result: Mapping, sources: Mapping[str, Mapping]) -> Iterator[Measurement]:
    """CLIP-T, the similarity with each source, and DINO-I, from features as `write_features` writes them."""
    if "clip" in result and "clip_text" in result:
        yield Measurement("clip_t", float((result["clip"] @ result["clip_text"]).mean()))
    if "dino" not in result:
        return
    alike = {name: _cosine(result["dino"].mean(0), source["dino"].mean(0)) for name, source in sources.items()}
    if not alike:
        yield Measurement("dino_i", None, reason="it has no source")
        return
    yield Measurement("dino_i", harmonic_mean(alike.values()))
    for name, value in alike.items():
        yield Measurement("dino", value, name)


def motion_rows(result: Mapping | None, sources: Mapping[str, Mapping | None]) -> Iterator[Measurement]:
    """How a result moves, and how like each source, from tracks as `write_tracks` writes them; None is of a still."""
    if result is None:
        names = (("dynamic_degree", ""), ("smoothness", ""), ("flicker", ""), *(("motion", name) for name in sources))
        yield from (Measurement(name, None, concept, "the result is a still") for name, concept in names)
        return
    yield Measurement("dynamic_degree", 100 * float(result["speed"].mean()))
    smooth = smoothness(result["tracks"])
    yield Measurement("smoothness", smooth, reason="" if smooth is not None else "nothing moves")
    yield Measurement("flicker", 100 * float(result["flicker"].mean()))
    for name, source in sources.items():
        alike = motion_fidelity(result["tracks"], source["tracks"]) if source else None
        reason = "" if alike is not None else f"nothing moves in '{name}'" if source else f"'{name}' is an image"
        yield Measurement("motion", alike, name, reason)


def module_rows(module: str, result: str, sources: Mapping[str, str], pieces: Iterable) -> Iterator[Measurement]:
    """The metrics of a module of somebody else's, dotted: those that its function `measure` yields of the result, the
    media of each source by its concept, and the prompt's pieces, each its text and the concept it is linked to."""
    module_file(module)
    yield from importlib.import_module(module).measure(result, sources, pieces)


def harmonic_mean(values: Iterable[float]) -> float:
    """0 where one of them is not above 0."""
    values = list(values)
    return len(values) / sum(1 / value for value in values) if min(values) > 0 else 0.0


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
