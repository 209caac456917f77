"""The tiny model: small random components of Wan2.1's and Qwen2.5-VL's own classes, built from a seed.

They have the real models' layout on disk and run through the same code; what they render is noise.
"""

import json
import random
import shutil
import string
import tempfile
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from bico import InputError
from bico.models.wan import encode_video
from toyworld.tiny.language_model import build_vlm

COMPONENTS = {"transformer", "vae", "text_encoder", "tokenizer", "vlm", "clip", "dino"}
TEXT_WIDTH = 64
LATENT_CHANNELS = 8


def build(folder: str | Path, seed: int = 0) -> None:
    """Writes a folder for each of COMPONENTS under `folder`, in place of what an earlier call
    wrote there. Raises InputError for a folder that holds anything else."""
    folder = Path(folder)
    if strangers := {path.name for path in folder.glob("*")} - COMPONENTS:
        raise InputError(f"{folder}: holds {', '.join(sorted(strangers))}; name a new folder for the tiny model")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
        part = Path(part)
        vocabulary = build_tokenizer(part / "tokenizer", _sentences(seed))
        for name, make in (("transformer", _transformer), ("vae", _vae)):
            torch.manual_seed(seed)
            make().save_pretrained(part / name)
        torch.manual_seed(seed)
        _text_encoder(vocabulary).save_pretrained(part / "text_encoder")
        build_vlm(part / "vlm", seed)
        torch.manual_seed(seed)
        _build_clip(part / "clip", part / "tokenizer", vocabulary)
        _build_dino(part / "dino")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for component in part.iterdir():
            component.rename(folder / component.name)


def build_tokenizer(folder: Path, sentences: Iterable[str], vocabulary: int = 1200) -> int:
    """A small byte-fallback BPE in a T5 tokenizer's layout, its merges learned from `sentences`: no text is unknown to
    it. Returns its vocabulary size."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    special = ["<pad>", "</s>", "<unk>"]
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special + alphabet,
        initial_alphabet=list(string.printable.strip()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    # The bytes are ordinary tokens, not markers to look for in a text.
    tokenizer = Tokenizer.from_str(_only_special(tokenizer.to_str(), special))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def _only_special(serialised: str, special: list[str]) -> str:
    content = json.loads(serialised)
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in special]
    return json.dumps(content, ensure_ascii=False)


def _sentences(seed: int) -> list[str]:
    subjects = ("a dog", "a cat", "an Akita", "a man", "a woman", "a child", "a robot", "a car", "a house", "a bird")
    looks = ("red", "blue", "green", "golden", "fluffy", "striped", "old", "wooden", "glass", "with its tongue out")
    acts = ("runs", "plays a game", "dances", "raises its paws", "opens its mouth", "spins slowly", "jumps", "walks")
    places = ("in a kitchen", "on a sofa", "in the snow", "by the sea", "at night", "under warm light", "in a garden")
    sentences = [f"A video of {' '.join(words)}." for words in product(subjects, looks, acts, places)]
    random.Random(seed).shuffle(sentences)
    return sentences[:2000]


def _text_encoder(vocabulary: int) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=vocabulary, d_model=TEXT_WIDTH, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return UMT5EncoderModel(config)


_PICTURE = 32  # pixels, a side


def _build_clip(folder: Path, tokenizer: Path, vocabulary: int) -> None:
    shutil.copytree(tokenizer, folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": vocabulary, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None}
    vision = {**sizes, "image_size": _PICTURE, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    crop = {"height": _PICTURE, "width": _PICTURE}
    CLIPImageProcessorPil(size={"shortest_edge": _PICTURE}, crop_size=crop).save_pretrained(folder)


def _build_dino(folder: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    Dinov2Model(Dinov2Config(**sizes, image_size=_PICTURE, patch_size=8)).save_pretrained(folder)
    crop = {"height": _PICTURE, "width": _PICTURE}
    BitImageProcessorPil(size={"shortest_edge": 36}, crop_size=crop).save_pretrained(folder)


def _transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=4, attention_head_dim=24, in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS, text_dim=TEXT_WIDTH, freq_dim=64, ffn_dim=256, num_layers=4,
    )  # fmt: skip


def _vae() -> AutoencoderKLWan:
    """An untrained VAE whose latent statistics are measured, so that its latents are as wide as a trained one's."""
    sizes = {
        "base_dim": 16, "z_dim": LATENT_CHANNELS, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    }  # fmt: skip
    plain = {"latents_mean": [0.0] * LATENT_CHANNELS, "latents_std": [1.0] * LATENT_CHANNELS}
    vae = AutoencoderKLWan(**sizes, **plain).eval()
    drawn = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    latents = encode_video(vae, drawn.repeat(8, axis=1).repeat(8, axis=2)).flatten(1)
    vae.register_to_config(latents_mean=latents.mean(1).tolist(), latents_std=latents.std(1).tolist())
    return vae
