"""The latents of a concept's media, computed once: they never change while it trains."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from bico.media.video import cover_crop, media_kind, read_frames
from bico.models.components import component_folder
from bico.models.devices import place
from bico.models.wan import encode_video, load_vae
from bico.runtime.command import progress
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute
from bico.runtime.files import atomic


@dataclass(frozen=True)
class LatentSettings:
    """height, width: pixels; vae_dtype: auto, float32 or bfloat16; vae_tiling: as `load_vae` takes it."""

    height: int
    width: int
    vae_dtype: str = COMPUTE_DEFAULTS["vae_dtype"]
    vae_tiling: bool = False


def encode_latents(
    settings: LatentSettings, clip: str | Path, vae: str | Path, output: str | Path, compute: Compute = Compute()
) -> None:
    """The latents of a clip, and of each of its frames alone, after resize-to-cover and centre crop.

    vae: its folder, or the manifest of its weights. Writes `clip` [C, F', H', W'] and, for a video, `frames`
    [F, C, 1, H', W'] in float32. Raises InputError.
    """
    frames = cover_crop(read_frames(clip), settings.height, settings.width)
    model = load_vae(component_folder(vae), place(compute, settings.vae_dtype), settings.vae_tiling)
    tensors = {"clip": encode_video(model, frames)}
    if media_kind(clip) == "video":
        each = [encode_video(model, frame[None]) for frame in progress(frames, "frames", "frame")]
        tensors["frames"] = torch.stack(each)
    with atomic(output) as part:
        save_file(tensors, part)
