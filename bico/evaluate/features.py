"""The features of a media file, computed once for all that it is compared with: what it shows, and how it moves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from bico.media.video import read_frames
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute
from bico.runtime.files import atomic


@dataclass(frozen=True)
class FeatureSettings:
    """text: of the prompt that the media was made by, if any; dtype: auto, float32 or bfloat16."""

    text: str | None = None
    dtype: str = COMPUTE_DEFAULTS["dtype"]


def write_features(
    settings: FeatureSettings, media: str | Path, output: str | Path, clip: str | Path | None = None,
    dino: str | Path | None = None, compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Writes what an image or a video shows: `clip` [F, D], `clip_text` [D] and `dino` [F, D'], of length 1 each.

    clip, dino: manifests or folders of a CLIPModel and a Dinov2Model; one that is not given is not asked. Raises
    InputError.
    """
    from bico.models.embedders import embed

    _write(output, embed(read_frames(media), settings.text, clip, dino, settings.dtype, compute))


def write_tracks(media: str | Path, output: str | Path) -> None:
    """Writes how a video moves, as `motion_features` returns it. Raises InputError."""
    from bico.evaluate.motion import motion_features

    _write(output, motion_features(read_frames(media)))


def read_features(path: str | Path) -> dict[str, np.ndarray]:
    return load_file(path)


def _write(output: str | Path, found: dict[str, np.ndarray]) -> None:
    with atomic(output) as part:
        save_file({name: np.ascontiguousarray(values) for name, values in found.items()}, part)
