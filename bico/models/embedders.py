"""CLIP and DINOv2: what a picture shows, as a vector.

transformers' processors for Pillow prepare the pictures: those that it prefers need torchvision.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, CLIPModel, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from bico import InputError
from bico.models.components import component_folder
from bico.models.devices import Placement, place
from bico.runtime.compute import Compute

_BATCH = 16  # pictures


def embed(
    frames: np.ndarray, text: str | None, clip: str | Path | None, dino: str | Path | None, dtype: str, compute: Compute
) -> dict[str, np.ndarray]:
    """`clip` and `dino`, the embeddings of frames uint8 [F, H, W, 3], and `clip_text`, that of the text: float32 [F,
    D], [F, D'] and [D], each of length 1. clip, dino: manifests or folders; one that is None is not asked."""
    placed, found = place(compute, dtype), {}
    if clip:
        folder = component_folder(clip)
        model = _load(CLIPModel, folder, placed)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        found["clip"] = _embed(frames, processor, model.get_image_features, placed)
        if text is not None:
            found["clip_text"] = _embed_text(model, folder, text, placed)
    if dino:
        folder = component_folder(dino)
        model = _load(Dinov2Model, folder, placed)
        processor = BitImageProcessorPil.from_pretrained(folder, local_files_only=True)
        found["dino"] = _embed(frames, processor, model, placed)
    return found


@torch.no_grad()
def _embed(frames: np.ndarray, processor, model: Callable, placed: Placement) -> np.ndarray:
    pixels = processor(list(frames), return_tensors="pt")["pixel_values"]
    batches = (batch.to(placed.device, placed.dtype) for batch in pixels.split(_BATCH))
    return torch.cat([_unit(model(pixel_values=batch).pooler_output) for batch in batches]).cpu().numpy()


@torch.no_grad()
def _embed_text(model: CLIPModel, folder: Path, text: str, placed: Placement) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    most = model.config.text_config.max_position_embeddings
    tokens = tokenizer([text], truncation=True, max_length=most, return_tensors="pt").to(placed.device)
    return _unit(model.get_text_features(**tokens).pooler_output)[0].cpu().numpy()


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def _load(kind: type, folder: Path, placed: Placement):
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no model here, config.json is missing; get the weights with `snakemake weights`")
    options = {"local_files_only": True, "use_safetensors": True, "dtype": placed.dtype}
    return kind.from_pretrained(folder, **options).to(placed.device).eval()
