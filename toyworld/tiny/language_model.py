"""A Qwen2.5-VL small enough to build anywhere: random weights, the published layout. Its answers are noise until
someone trains it (toyworld/training/vlm.py does)."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from bico.prompts.instructions import CONCEPT_SYSTEM, PROMPT_SYSTEM
from bico.prompts.writers.template import template_prompts
from bico.text.phrases import Phrases

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
PATCH, MERGE = 8, 2
MIN_PIXELS, MAX_PIXELS = 32 * 32, 96 * 96  # of a picture or a frame: 4 to 36 tokens of 16 x 16

# The published template of Qwen2.5-VL, without its numbering of pictures.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Sizes:
    """How large the model is: tokens, the language model's width and layers, the vision tower's; and how many frames
    of a second it is shown. The default has about 1.5 M parameters. Attention heads are 32 and 24 wide."""

    vocabulary: int = 640
    width: int = 128
    layers: int = 4
    vision_width: int = 96
    vision_layers: int = 3
    fps: float = 2.0


def build_vlm(
    folder: str | Path, seed: int = 0, sizes: Sizes = Sizes(), corpus: Iterable[str] | None = None
) -> Qwen2_5_VLForConditionalGeneration:
    """Writes a Qwen2_5_VLForConditionalGeneration, random from `seed`, with its tokenizer and processor files into
    `folder`, and returns it. The same seed gives the same bytes. corpus: texts that the tokenizer's words are of."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(sizes.vocabulary, _corpus() if corpus is None else corpus)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(_config(tokenizer, sizes))
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[1], do_sample=True)
    model.save_pretrained(folder)
    processor = {"patch_size": PATCH, "merge_size": MERGE, "min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS}
    Qwen2VLImageProcessorPil(**processor).save_pretrained(folder)
    video = processor | {"fps": sizes.fps, "min_frames": 4, "max_frames": 768, "temporal_patch_size": 2}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video, indent=2, sort_keys=True) + "\n", "utf-8")
    return model


def _tokenizer(vocabulary: int, corpus: Iterable[str]) -> Qwen2Tokenizer:
    """Qwen2's byte-level BPE, its merges learned from what the model will read and write."""
    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    learned.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    learned.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(corpus, trainer)
    model = json.loads(learned.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=model["vocab"], merges=merges, extra_special_tokens=list(SPECIAL[1:]))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _corpus() -> list[str]:
    colours, shapes = ("red", "green", "blue", "yellow"), ("ball", "square", "dog", "car")
    moves = ("moves to the right", "rolls slowly", "camera zooms in", "jumps up")
    spatial = [f"{colour} {shape}" for colour, shape in product(colours, shapes)]
    captions = [
        caption
        for still, move in product(spatial, moves)
        for kind in ("image", "video")
        for caption in template_prompts(Phrases((still,), (move,)), kind, count=4)
    ]
    answers = [json.dumps({"spatial": [still], "temporal": [move]}) for still, move in product(spatial, moves)]
    return [*CONCEPT_SYSTEM.values(), *PROMPT_SYSTEM.values(), *captions, *answers]


def _config(tokenizer: Qwen2Tokenizer, sizes: Sizes) -> Qwen2_5_VLConfig:
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    text = {
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.width,
        "intermediate_size": 3 * sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.width // 32,
        "num_key_value_heads": sizes.width // 64,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    vision = {
        "depth": sizes.vision_layers,
        "hidden_size": sizes.vision_width,
        "intermediate_size": 2 * sizes.vision_width,
        "num_heads": sizes.vision_width // 24,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "window_size": 64,
        "fullatt_block_indexes": [sizes.vision_layers - 1],
        "out_hidden_size": sizes.width,
        "tokens_per_second": 2,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
