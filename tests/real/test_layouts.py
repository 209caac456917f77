"""Published layouts, at a size for every day: the hub's configurations with smaller widths, its file names, shards and
names of weights, through the loaders of the pipeline."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from bico.models import wan
from bico.models.components import vae_factors
from bico.models.devices import Placement
from bico.prompts import dialogue
from bico.prompts.writers import qwen as vlm
from bico.text.phrases import Phrases
from tests import ROOT
from tests.real.published import HUB, build_qwen, build_wan

CPU = torch.device("cpu")
TRANSFORMER = {"num_attention_heads": 2, "attention_head_dim": 24, "ffn_dim": 64, "text_dim": 32, "num_layers": 3}
TEXT_ENCODER = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_heads": 4, "num_layers": 2, "vocab_size": 100}
QWEN = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
    },
}
TOKENS = {
    "bos_token_id": "<|endoftext|>",
    "eos_token_id": "<|im_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
SAID = '{"spatial": ["red ball"]}'
PICTURE = np.random.default_rng(0).integers(0, 256, (1, 56, 84, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=["60KB", "5GB"], ids=["sharded", "whole"])
def pipeline(tmp_path_factory, request) -> Path:
    """A small WanPipeline's folder as the hub would have it, in shards and not."""
    folder = tmp_path_factory.mktemp("hub") / "wan"
    tokenizer = ROOT / "resources" / "world" / "tokenizer"
    build_wan(folder, tokenizer, TRANSFORMER, TEXT_ENCODER, {"base_dim": 8}, request.param)
    assert (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").exists() == (
        request.param == "60KB"
    )
    return folder


def test_a_pipeline_as_published_loads_component_by_component(pipeline):
    """Among the shards lie the text encoder's, whose embeddings are stored once and named twice, and the transformer's,
    of which its text projection is also loaded alone."""
    encoder = wan.load_text_encoder(pipeline / "text_encoder", Placement(CPU, torch.float32))
    (embeds,) = wan.encode_tokens(encoder, [[5, 6, 1]], 16, CPU)
    transformer = wan.load_transformer(pipeline / "transformer", Placement(CPU, torch.float32))
    alone = wan.load_text_projection(pipeline / "transformer", Placement(CPU, torch.float32))
    assert embeds.shape == (3, 32) and embeds.isfinite().all()
    assert torch.equal(alone(embeds), transformer.condition_embedder.text_embedder(embeds))
    assert wan.transformer_shape(pipeline / "transformer") == (48, 3)


def test_a_vae_as_published_codes_a_clip_by_the_factors_that_its_old_configuration_implies(pipeline):
    config = json.loads((pipeline / "vae" / "config.json").read_text("utf-8"))
    assert "scale_factor_temporal" not in config and vae_factors(config) == (4, 8)
    vae = wan.load_vae(pipeline / "vae", Placement(CPU, torch.float32))
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), dtype=np.uint8)
    latents = wan.encode_video(vae, frames)
    assert latents.shape == (16, 2, 2, 3) and wan.decode_video(vae, latents).shape == frames.shape


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """Builds a small language model's folder as the hub has it: a text-only template beside its tokenizer, and the one
    that knows pictures in a file of its own."""
    source = ROOT / "resources" / "world" / "vlm"

    def build(new_names: bool, shard: str) -> Path:
        folder = tmp_path_factory.mktemp("hub") / "qwen"
        folder.mkdir()
        shutil.copy(source / "tokenizer.json", folder)
        config = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
        config["chat_template"] = (HUB / "qwen2.5-vl-7b" / "tool_template.jinja").read_text("utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = dict(zip(TOKENS, tokenizer.convert_tokens_to_ids(list(TOKENS.values())), strict=True))
        smaller = QWEN | ids | {"vocab_size": len(tokenizer)}
        build_qwen(folder, tokenizer, smaller, SAID, new_names, shard)
        generation = json.loads((folder / "generation_config.json").read_text("utf-8"))
        ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["eos_token_id"])
        (folder / "generation_config.json").write_text(json.dumps(generation | ends), "utf-8")
        return folder

    return build


@pytest.mark.parametrize("shard", ["100KB", "5GB"], ids=["sharded", "whole"])
@pytest.mark.parametrize("new_names", [False, True], ids=["old names", "new names"])
def test_a_language_model_as_published_names_the_concepts_of_a_picture(language_model, new_names, shard):
    folder = language_model(new_names, shard)
    assert (folder / "model.safetensors.index.json").exists() == (shard == "100KB")
    assert dialogue.extract(vlm.load(folder), PICTURE, "image") == Phrases(("red ball",))
