"""Takes a video that was made elsewhere, after a look at it."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from bico import InputError
from bico.media.video import probe, read_frames
from bico.runtime.files import atomic, write_json
from bico.runtime.provenance import commit, file_digest, made_by


@dataclass(frozen=True)
class ExternalSettings:
    """frames: how many the composition has."""

    frames: int


def take(settings: ExternalSettings, video: str | Path, output: str | Path, made: str | Path) -> None:
    """Copies a video or an image byte for byte to `output`, and writes to `made` (JSON) where it is from. Raises
    InputError if it cannot be read, or has too few frames."""
    count = probe(video).frames if Path(video).suffix == ".mp4" else len(read_frames(video))
    if count < settings.frames:
        raise InputError(f"{video}: {count} frames; the composition has {settings.frames}")
    with atomic(output) as part:
        shutil.copyfile(video, part)
    origin = {"video": {"path": Path(video).as_posix(), "sha256": file_digest(video)}}
    made_from = {"settings": asdict(settings), "inputs": origin, **made_by(__file__, "external", "cpu")}
    write_json(made, {"sha256": file_digest(output), "commit": commit(), **made_from})
