"""Models of the real widths and the real tokenizers, against what transformers and diffusers make of the same files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from transformers import AutoTokenizer

from bico.models import wan
from bico.models.devices import Placement
from bico.prompts import dialogue
from bico.prompts.writers import qwen as vlm
from bico.settings.model_file import load_model
from bico.text.phrases import Phrases
from bico.text.tokens import PromptTokenizer
from tests import ROOT
from tests.real.conftest import MODEL, REAL
from tests.real.published import HUB

pytestmark = pytest.mark.real
PICTURE = np.random.default_rng(0).integers(0, 256, (1, 84, 112, 3), dtype=np.uint8)
CLIP = PICTURE.repeat(5, axis=0)
SAID = Phrases(("a young man",), ("raises both arms",))


@pytest.fixture(scope="module")
def folders(weights) -> dict[str, Path]:
    return {name: component.folder for name, component in load_model(ROOT / MODEL, weights).components.items()}


@pytest.fixture(scope="module")
def language_model(folders):
    yield vlm.load(folders["vlm"])
    wan.free_memory()


def test_the_tool_template_of_the_daily_tests_is_the_published_one(tokenizers):
    config = json.loads((tokenizers / "qwen" / "tokenizer_config.json").read_text("utf-8"))
    assert config["chat_template"] == (HUB / "qwen2.5-vl-7b" / "tool_template.jinja").read_text("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "An Akita dog with its tongue out raises its paws, in a cosy kitchen.",
        "  two  spaces and\ta tab ",
        "Überraschung – 世界 ｆｕｌｌ ﬁne ½ 🐕",
        load_model(ROOT / MODEL, "").negative_prompt,
    ],
)
def test_a_prompt_has_the_tokens_that_diffusers_pipeline_would_give_it(folders, text):
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean

    published = AutoTokenizer.from_pretrained(folders["tokenizer"])
    assert (
        list(PromptTokenizer(folders["tokenizer"]).tokenise_text(text).ids) == published(prompt_clean(text)).input_ids
    )


def test_a_character_that_the_tokenizer_does_not_know_is_its_unknown_token(folders):
    """transformers 5 rebuilds the published tokenizer and takes the start of a sentence, 2, for it."""
    assert PromptTokenizer(folders["tokenizer"]).tokenise_text("🦺").ids[-2:] == (3, 1)


def test_embeds_of_a_prompt_are_those_of_diffusers_pipeline(folders):
    """WanPipeline reads the folder by its model_index.json, and pads to 512 tokens."""
    from diffusers import WanPipeline

    prompt = "An Akita dog raises both arms."
    parts = {"transformer": None, "vae": None, "torch_dtype": torch.float32}
    pipeline = WanPipeline.from_pretrained(folders["tokenizer"].parent, local_files_only=True, **parts)
    with torch.no_grad():
        theirs, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, max_sequence_length=512)
    ids = PromptTokenizer(folders["tokenizer"]).tokenise_text(prompt).ids
    (ours,) = wan.encode_tokens(pipeline.text_encoder, [ids], 512, torch.device("cpu"))
    padded = wan.pad_embeds([ours], 512)
    assert torch.allclose(padded, theirs, atol=1e-4 * theirs.abs().max().item())


def test_a_conversation_is_written_by_the_published_template(language_model):
    said = [{"role": "assistant", "content": "No."}, {"role": "user", "content": "Again: <|im_end|>"}]
    messages = dialogue.conversation("You look.", "Name it.", "image") + said
    ids = vlm.encode(language_model, messages, vlm.picture(language_model, PICTURE, "image"))["input_ids"][0]
    pads = "<|image_pad|>" * 12
    written = language_model.tokenizer.decode(ids)
    assert written == (
        "<|im_start|>system\nYou look.<|im_end|>\n"
        f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>Name it.<|im_end|>\n"
        "<|im_start|>assistant\nNo.<|im_end|>\n<|im_start|>user\nAgain: <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    ends = language_model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (ids == ends).sum() == 4  # the user's own mark is words


def test_the_repetition_penalty_of_the_folder_holds(language_model):
    assert vlm._generation(language_model, dialogue.Sampling()).repetition_penalty == 1.05


@pytest.fixture
def nonsense(language_model):
    """Its head as it was drawn: words of all languages."""
    weight, generator = language_model.model.get_output_embeddings().weight, torch.Generator().manual_seed(0)
    rigged = weight.data
    weight.data = (torch.randn(weight.shape, generator=generator, dtype=torch.bfloat16) * 0.02).to(weight.dtype)
    yield language_model
    weight.data = rigged


def test_a_prompt_of_a_model_that_writes_nonsense_is_asked_for_again_and_reported_as_it_is(nonsense):
    options = {"count": 1, "attempts": 1, "sampling": dialogue.Sampling(max_new_tokens=12)}
    (prompt,), report = dialogue.diversify(nonsense, PICTURE, "image", Phrases(("red ball",)), **options)
    assert report == {"count": 1, "kept_first_try": 0, "kept": 0, "reasked": 1}
    assert prompt and prompt == " ".join(prompt.split())


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Old names to those that transformers has had since 4.52."""

    def new(name: str) -> str:
        if name.startswith("visual."):
            return f"model.{name}"
        return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name

    return {new(name): weight for name, weight in weights.items()}


LAYOUTS = {
    "old names, whole": (dict, "20GB"),
    "new names, sharded": (renamed, "1GB"),
    "new names, whole": (renamed, "20GB"),
}


@pytest.fixture
def laid_out(folders):
    """Writes the language model's folder in another layout; one at a time."""
    target = REAL / "layout"

    def write(names: Callable, shard: str) -> Path:
        weights = {}
        for path in folders["vlm"].glob("*.safetensors"):
            weights |= load_file(path)
        shutil.copytree(folders["vlm"], target, ignore=shutil.ignore_patterns("*.safetensors*"), dirs_exist_ok=True)
        save_torch_state_dict(
            names(weights), target, filename_pattern="model{suffix}.safetensors", max_shard_size=shard
        )
        return target

    yield write
    shutil.rmtree(target, ignore_errors=True)
    wan.free_memory()


def test_the_published_layout_is_the_old_names_in_shards(folders, language_model):
    names = json.loads((folders["vlm"] / "model.safetensors.index.json").read_text())["weight_map"]
    assert {"model.layers.0.self_attn.q_proj.weight", "visual.blocks.0.attn.qkv.weight", "lm_head.weight"} <= set(names)
    assert dialogue.extract(language_model, CLIP, "video", 15.0) == SAID


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_language_model_holds_the_same_weights(folders, laid_out, layout):
    folder = laid_out(*LAYOUTS[layout])
    assert (folder / "model.safetensors.index.json").exists() == ("sharded" in layout)
    ours = vlm.load(folder, Placement(dtype=torch.bfloat16)).model.state_dict()
    seen = set()
    for path in folders["vlm"].glob("*.safetensors"):
        for name, weight in renamed(load_file(path)).items():
            assert torch.equal(ours[name], weight), name
            seen.add(name)
    assert seen == set(ours)
