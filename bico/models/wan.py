"""The components of a Wan text-to-video model, each loaded alone from its folder, and what they compute.

A caller holds one at a time: load, use, drop.
"""

import gc
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import cpu_offload, init_empty_weights
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import UMT5EncoderModel

from bico import InputError
from bico.models.devices import Placement
from bico.models.tensors import load_tensors, require_finite
from bico.runtime.files import atomic

_MOST_SCORES = 2**27  # of plain attention: a quarter of a GB in bfloat16


def load_transformer(folder: str | Path, placed: Placement) -> nn.Module:
    """A frozen WanTransformer3DModel. Raises InputError."""
    transformer = _load(WanTransformer3DModel, folder, placed)
    if placed.device.type == "cpu" and placed.dtype == torch.bfloat16:
        transformer.set_attn_processor(PlainAttention())
    return transformer


class PlainAttention(WanAttnProcessor):
    """diffusers' WanAttnProcessor, with gradients by plain matrix products: in bfloat16 a CPU computes those of its
    fused attention several times slower. Where the scores would fill the memory it leaves the work to diffusers."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        scores = len(hidden_states) * attn.heads * hidden_states.shape[1] * context.shape[1]
        plain = torch.is_grad_enabled() and scores <= _MOST_SCORES
        if not plain or attention_mask is not None or attn.add_k_proj is not None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        query, key, value = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        query, key = (norm(x.to(norm.weight.dtype)) for norm, x in ((attn.norm_q, query), (attn.norm_k, key)))
        query, key, value = (x.unflatten(2, (attn.heads, -1)) for x in (query, key, value))
        if rotary_emb is not None:
            query, key = (_rotated(x, *rotary_emb) for x in (query, key))
        query, key, value = (x.transpose(1, 2).to(value.dtype) for x in (query, key, value))
        shares = ((query / math.sqrt(query.shape[-1])) @ key.mT).softmax(-1, dtype=value.dtype)
        return attn.to_out[1](attn.to_out[0]((shares @ value).transpose(1, 2).flatten(2)))


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def load_vae(folder: str | Path, placed: Placement, tiling: bool = False) -> AutoencoderKLWan:
    """A frozen AutoencoderKLWan, never offloaded, for its weights are small. Its activations are what is large: with
    `tiling` it codes overlapping tiles one by one and blends them, which changes latents and pixels a little. Raises
    InputError."""
    vae = _load(AutoencoderKLWan, folder, replace(placed, offload="none"))
    if tiling:
        vae.enable_tiling()
    return vae


def load_text_encoder(folder: str | Path, placed: Placement) -> nn.Module:
    """A frozen UMT5EncoderModel. Raises InputError."""
    return _load(UMT5EncoderModel, folder, placed)


def load_text_projection(folder: str | Path, placed: Placement) -> nn.Module:
    """The transformer's text projection alone, e [B, L, E] to p [B, L, D], without loading the rest of it."""
    folder, prefix = _checked(folder), "condition_embedder.text_embedder."
    with init_empty_weights():
        empty = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(folder, local_files_only=True))
    projection = empty.condition_embedder.text_embedder
    tensors = {}
    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            tensors |= {k.removeprefix(prefix): file.get_tensor(k) for k in file.keys() if k.startswith(prefix)}  # noqa: SIM118
    projection.load_state_dict(tensors, strict=True, assign=True)
    require_finite(folder, {prefix + name: tensor for name, tensor in tensors.items()})
    return projection.to(placed.device, placed.dtype).eval().requires_grad_(False)


def transformer_bytes(folder: str | Path, dtype: torch.dtype) -> int:
    """Bytes of a transformer's weights when it is loaded, from its config; diffusers keeps a few of them in float32."""
    with init_empty_weights():
        empty = WanTransformer3DModel.from_config(transformer_config(folder))
    precise = set(empty._keep_in_fp32_modules or ())
    size = {name: 4 if precise & set(name.split(".")) else dtype.itemsize for name, _ in empty.named_parameters()}
    return sum(size[name] * parameter.numel() for name, parameter in empty.named_parameters())


def transformer_config(folder: str | Path) -> dict:
    return WanTransformer3DModel.load_config(_checked(folder), local_files_only=True)


def transformer_shape(folder: str | Path) -> tuple[int, int]:
    """D and N of a transformer, from its config."""
    config = json.loads((_checked(folder) / "config.json").read_text("utf-8"))
    return config["num_attention_heads"] * config["attention_head_dim"], config["num_layers"]


def free_memory() -> None:
    """Gives the memory of dropped models back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@torch.no_grad()
def encode_video(vae: AutoencoderKLWan, frames: np.ndarray) -> torch.Tensor:
    """Frames uint8 [F, H, W, 3] to normalised latents [C, F', H', W'] in float32 on the CPU: the posterior's mode,
    less the VAE's mean, over its standard deviation. InputError if the VAE makes something else than numbers."""
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(vae.device, torch.float32) / 127.5 - 1
    latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float()
    mean, std = latent_statistics(vae, latents)
    latents = ((latents - mean) / std)[0].cpu()
    require_finite("the VAE", {"latents": latents}, _try_float32(vae))
    return latents


@torch.no_grad()
def decode_video(vae: AutoencoderKLWan, latents: torch.Tensor) -> np.ndarray:
    """Normalised latents [C, F', H', W'] to frames uint8 [F, H, W, 3]. InputError if the VAE makes something else than
    numbers: a NaN would be black."""
    latents = latents[None].to(vae.device, torch.float32)
    mean, std = latent_statistics(vae, latents)
    pixels = vae.decode((latents * std + mean).to(vae.dtype), return_dict=False)[0][0].float()
    require_finite("the VAE", {"pixels": pixels}, _try_float32(vae))
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).cpu().numpy()


@torch.no_grad()
def encode_tokens(
    text_encoder: nn.Module, prompts: Iterable[Sequence[int]], text_length: int, device: torch.device
) -> list[torch.Tensor]:
    """Prompts as token ids to their embeds, each [tokens, E] on the CPU. Each goes through the encoder alone and at its
    own length: padded and masked, as Wan does, its own tokens would come out the same. Raises InputError."""
    embeds = []
    for tokens in prompts:
        if len(tokens) > text_length:
            raise InputError(f"a prompt of {len(tokens)} tokens; the text encoder takes at most {text_length}")
        hidden = text_encoder(input_ids=torch.tensor([tokens], device=device)).last_hidden_state[0].cpu()
        if not hidden.isfinite().all():
            raise InputError(
                "the text encoder's output is not finite: its weights are damaged, or `dtype` is too narrow"
            )
        embeds.append(hidden)
    return embeds


def pad_embeds(embeds: Sequence[torch.Tensor], text_length: int) -> torch.Tensor:
    """Prompt embeds [tokens, E] each to one e [B, L, E], zero behind each prompt's own tokens."""
    padded = embeds[0].new_zeros(len(embeds), text_length, embeds[0].shape[-1])
    for row, prompt in zip(padded, embeds, strict=True):
        row[: len(prompt)] = prompt
    return padded


def save_embeds(path: str | Path, embeds: Sequence[torch.Tensor], prompts_sha256: str) -> None:
    """Writes prompt embeds [tokens, E] each, one behind the other, and in the metadata the digest of the prompts."""
    tensors = {"embeds": torch.cat(list(embeds)), "lengths": torch.tensor([len(prompt) for prompt in embeds])}
    require_finite(path, tensors)
    with atomic(path) as part:
        save_file(tensors, part, metadata={"prompts_sha256": prompts_sha256})


def load_embeds(path: str | Path) -> list[torch.Tensor]:
    """The prompt embeds that `save_embeds` wrote, [tokens, E] each. Raises InputError."""
    tensors = load_tensors(path, "embeds", "lengths")
    embeds, lengths = tensors["embeds"], tensors["lengths"].tolist()
    if embeds.ndim != 2 or sum(lengths) != len(embeds) or min(lengths, default=0) < 1:
        raise InputError(f"{path}: embeds of shape {list(embeds.shape)} for prompts of {lengths} tokens")
    return list(embeds.split(lengths))


def latent_statistics(vae: AutoencoderKLWan, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and the standard deviation of a VAE's latents, [1, C, 1, 1, 1] each, on the device of `like`."""
    shape = (1, -1, 1, 1, 1)
    return like.new_tensor(vae.config.latents_mean).view(shape), like.new_tensor(vae.config.latents_std).view(shape)


def _checked(folder: str | Path) -> Path:
    """Asked for a folder that is not there, from_pretrained would try the hub, for half a minute."""
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"{folder}: no model here, config.json is missing; get the weights with `snakemake weights`")
    return Path(folder)


def _try_float32(vae: AutoencoderKLWan) -> str:
    return "" if vae.dtype == torch.float32 else "; try compute.vae_dtype: float32"


def _load(kind, folder: str | Path, placed: Placement):
    dtype_argument = {"dtype" if kind is UMT5EncoderModel else "torch_dtype": placed.dtype}
    folder = _checked(folder)
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True, **dtype_argument}
    try:
        model, info = kind.from_pretrained(folder, **options)
    except OSError as problem:
        raise InputError(f"{folder}: cannot be loaded: {problem}") from None
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"{folder}: {len(missing)} weights are missing, such as {missing[0]}")
    require_finite(folder, model.state_dict())
    model.eval().requires_grad_(False)
    if placed.offload == "cpu" and placed.device.type != "cpu":
        return cpu_offload(model, placed.device)
    return model.to(placed.device)
