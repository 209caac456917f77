"""The latents of a concept's media, computed once: they never change while it trains."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from bico.media.video import cover_crop, media_kind, read_frames
from bico.models.wan import encode_video, load_vae
from bico.runtime.command import progress
from bico.runtime.files import atomic


def encode_latents(
    clip: str | Path, vae_folder: str | Path, output: str | Path, height: int, width: int,
    device: torch.device, dtype: torch.dtype, tiling: bool = False,
) -> None:  # fmt: skip
    """The latents of a clip, and of each of its frames alone, after resize-to-cover and centre crop.

    tiling: as `load_vae` takes it. Writes `clip` [C, F', H', W'] and, for a video, `frames` [F, C, 1, H', W'] in
    float32. An image is a clip of one frame.
    """
    frames = cover_crop(read_frames(clip), height, width)
    vae = load_vae(vae_folder, device, dtype, tiling)
    tensors = {"clip": encode_video(vae, frames)}
    if media_kind(clip) == "video":
        each = [encode_video(vae, frame[None]) for frame in progress(frames, "frames", "frame")]
        tensors["frames"] = torch.stack(each)
    with atomic(output) as part:
        save_file(tensors, part)
