"""The Qwen2.5-VL writer on the tiny model, random where any model will do; and on a smaller one, trained a little
where answers must be right."""

import ast
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from bico import InputError
from bico.media.video import write_frames_zip, write_video
from bico.prompts import dialogue
from bico.prompts.answers import parse_phrases
from bico.prompts.table import read_prompts
from bico.prompts.writers import qwen as vlm
from bico.text.phrases import Phrases, keeps_phrases, read_phrases, write_phrases
from tests import ROOT
from toyworld.tiny.build import build_tokenizer
from toyworld.tiny.language_model import CHAT_TEMPLATE, Sizes, build_vlm

# Qwen2.5's own for text and tools, which the published Qwen2.5-VL has with its tokenizer. It adds content to strings.
TOOLS_TEMPLATE = (ROOT / "tests" / "data" / "qwen2.5" / "tools_template.jinja").read_text("utf-8")
SHORT = dialogue.Sampling(max_new_tokens=6)
PHRASES = Phrases(("red ball",), ("moves to the right",))
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (30, 60, 220), "yellow": (230, 210, 40)}


def drawn(colour: str, shape: str, x: float = 32, y: float = 32) -> np.ndarray:
    """A coloured ball or square on near white: uint8 [64, 64, 3]."""
    rows, columns = np.mgrid[:64, :64]
    ball = (columns - x) ** 2 + (rows - y) ** 2 <= 14**2
    square = (abs(columns - x) <= 13) & (abs(rows - y) <= 13)
    frame = np.full((64, 64, 3), 235, np.uint8)
    frame[ball if shape == "ball" else square] = COLOURS[colour]
    return frame


def image(colour: str, shape: str, **place: float) -> np.ndarray:
    return drawn(colour, shape, **place)[None]


def clip(colour: str, shape: str, direction: int) -> np.ndarray:
    """A shape that crosses the frame from left to right (1) or back (-1): 2 s at 8 fps, uint8 [16, 64, 64, 3]."""
    return np.stack([drawn(colour, shape, x=32 + shift * direction) for shift in np.linspace(-14, 14, 16)])


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


MEDIA = {"image": (noise(1, 50, 90), None), "video": (noise(24, 60, 90), 30.0)}  # 0.4 s between steps of time


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-vl"
    build_vlm(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def tiny(folder):
    """The tiny model with random weights."""
    return vlm.load(folder)


@pytest.fixture(scope="module")
def smaller(tmp_path_factory):
    """The folder of a model that costs a third."""
    folder = tmp_path_factory.mktemp("models") / "smaller-vl"
    build_vlm(folder, 0, Sizes(width=64, layers=2, vision_width=48, vision_layers=2))
    return folder


def seen_by(model: vlm.Vlm, kind: str, request: str = "Say what you see.") -> vlm.Seen:
    frames, fps = MEDIA[kind]
    return vlm.see(model, dialogue.conversation("You look.", request, kind), vlm.picture(model, frames, kind, fps))


def plain_answer(model: vlm.Vlm, seen: vlm.Seen, sampling=None, seed=0, messages=None) -> str:
    """The answer of transformers' own generate on the whole conversation, pixels included and no cache kept."""
    ids = vlm.encode(model, messages or seen.messages, seen.picture)["input_ids"]
    config = model.model.config
    seconds = seen.picture.seconds
    time = {"second_per_grid_ts": torch.tensor([seconds])} if seconds else {}
    torch.manual_seed(seed)
    output = model.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == config.image_token_id) * 1 + (ids == config.video_token_id) * 2,
        generation_config=vlm._generation(model, sampling),
        **time,
        **vlm.pixel_inputs(model, seen.picture),
    )
    return model.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip()


class Calls:
    """Counts how often a module runs."""

    def __init__(self, module: torch.nn.Module):
        self.count = 0
        self.handle = module.register_forward_hook(self.called)

    def called(self, *_):
        self.count += 1


@pytest.fixture
def tower(tiny):
    calls = Calls(tiny.model.model.visual)
    yield calls
    calls.handle.remove()


# ----------------------------------------------------------------------------------------------- the model folder


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_a_seed_builds_the_same_bytes_in_any_process_and_another_seed_other_weights(folder, tmp_path):
    code = "import sys; from toyworld.tiny.language_model import build_vlm; build_vlm(sys.argv[1], 0)"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], env=environment, check=True)
    build_vlm(tmp_path / "other", seed=1)
    expected = digests(folder)
    assert digests(tmp_path / "again") == expected
    differing = {name for name, value in digests(tmp_path / "other").items() if value != expected[name]}
    assert differing == {"model.safetensors"}


def test_the_tiny_model_is_small_and_its_vocabulary_is_full(tiny):
    assert 1e6 < sum(weight.numel() for weight in tiny.model.parameters()) < 2e6
    assert len(tiny.tokenizer) == tiny.model.config.text_config.vocab_size


def published(folder: Path, target: Path) -> None:
    """The folder in the layout of the published Qwen2.5-VL checkpoints: a flat config, the weights' old names, pixel
    bounds by their old names, the chat template for pictures in JSON, and with the tokenizer the one for text and
    tools."""
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    old = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): weight
        for name, weight in weights.items()
    }
    save_file(old, target / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    text.pop("layer_types")
    config["vision_config"].pop("rope_parameters")
    config["vision_config"]["model_type"] = "qwen2_5_vl"
    config = config | {name: value for name, value in text.items() if name != "model_type"}
    (target / "config.json").write_text(json.dumps(config))
    processor = json.loads((target / "preprocessor_config.json").read_text())
    size = processor.pop("size")
    processor |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    (target / "preprocessor_config.json").write_text(json.dumps(processor))
    template = (target / "chat_template.jinja").read_text()
    (target / "chat_template.jinja").unlink()
    (target / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    edit_json(target / "tokenizer_config.json", chat_template=TOOLS_TEMPLATE)


def edit_json(path: Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_checkpoint_in_the_published_layout_answers_the_same(folder, tiny, tmp_path):
    published(folder, tmp_path / "old")
    old = vlm.load(tmp_path / "old")
    for kind in MEDIA:
        ours, theirs = seen_by(tiny, kind), seen_by(old, kind)
        assert vlm.answer(old, theirs, SHORT, 3) == vlm.answer(tiny, ours, SHORT, 3)


def test_the_default_video_bounds_are_the_published_ones(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bare")
    (tmp_path / "bare" / "video_preprocessor_config.json").unlink()
    videos = vlm.load(tmp_path / "bare").videos
    assert (videos.min_pixels, videos.max_pixels, videos.fps, videos.min_frames) == (100352, 602112, 2.0, 4)


@pytest.mark.parametrize("name", ["video_preprocessor_config.json", "processor_config.json"])
def test_the_folder_s_video_bounds_are_read_from_either_layout(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "x")
    own = {"size": {"shortest_edge": 256, "longest_edge": 1024}, "fps": 1, "max_frames": 8, "min_frames": None}
    (tmp_path / "x" / name).write_text(json.dumps(own if name.startswith("video") else {"video_processor": own}))
    assert vlm.load(tmp_path / "x").videos == vlm.VideoSizes(fps=1, max_frames=8, min_pixels=256, max_pixels=1024)


def test_a_folder_that_is_not_there_is_refused_by_its_name(tmp_path):
    with pytest.raises(InputError, match=r"nowhere/config\.json: cannot be read"):
        vlm.load(tmp_path / "nowhere")


def test_a_folder_of_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "umt5"}')
    with pytest.raises(InputError, match="model_type is 'umt5'; it must be 'qwen2_5_vl'"):
        vlm.load(tmp_path)


def test_a_checkpoint_with_weights_missing_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "x")
    weights = load_file(tmp_path / "x" / "model.safetensors")
    dropped = {name: weight for name, weight in weights.items() if "merger.mlp.0.bias" not in name}
    save_file(dropped, tmp_path / "x" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights are missing, such as .*merger\.mlp\.0\.bias"):
        vlm.load(tmp_path / "x")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_a_folder_without_one_of_its_files_is_refused(folder, tmp_path, name):
    shutil.copytree(folder, tmp_path / "x")
    (tmp_path / "x" / name).unlink()
    with pytest.raises(InputError, match="/x"):
        vlm.load(tmp_path / "x")


LIST_AFTER = [{"name": "tool_use", "template": TOOLS_TEMPLATE}, {"name": "default", "template": CHAT_TEMPLATE}]
PLACES = {
    "the tokenizer's own": {"tokenizer_config.json": CHAT_TEMPLATE},
    "one of the tokenizer's several": {"tokenizer_config.json": LIST_AFTER},
    "the processor's JSON": {"tokenizer_config.json": TOOLS_TEMPLATE, "chat_template.json": CHAT_TEMPLATE},
    "the processor's several": {"chat_template.json": {"tools": TOOLS_TEMPLATE, "default": CHAT_TEMPLATE}},
    "the processor's settings": {"tokenizer_config.json": TOOLS_TEMPLATE, "processor_config.json": CHAT_TEMPLATE},
    "the tokenizer's, beside one of text": {
        "tokenizer_config.json": CHAT_TEMPLATE,
        "chat_template.json": TOOLS_TEMPLATE,
    },
    "a file beside one of text": {"chat_template.jinja": CHAT_TEMPLATE, "tokenizer_config.json": TOOLS_TEMPLATE},
    "behind a template that is none": {"tokenizer_config.json": CHAT_TEMPLATE, "chat_template.json": "{% for %}"},
}


def with_templates(folder: Path, target: Path, places: dict) -> Path:
    """The folder with these chat templates and no other."""
    shutil.copytree(folder, target)
    (target / "chat_template.jinja").unlink()
    for name, template in places.items():
        if name.endswith(".jinja"):
            (target / name).write_text(template)
            continue
        content = json.loads((target / name).read_text()) if (target / name).exists() else {}
        (target / name).write_text(json.dumps(content | {"chat_template": template}))
    return target


@pytest.mark.parametrize("place", PLACES)
def test_the_template_that_shows_pictures_is_taken_wherever_it_is_and_whatever_lies_beside_it(folder, tmp_path, place):
    assert vlm.load(with_templates(folder, tmp_path / "x", PLACES[place])).tokenizer.chat_template == CHAT_TEMPLATE


IN_WORDS = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
UNSHOWN = {
    "no template": ({}, "none at all"),
    "text alone": ({"chat_template.json": TOOLS_TEMPLATE}, r"chat_template\.json: fails where .* image .*TypeError"),
    "no marks": ({"tokenizer_config.json": IN_WORDS}, "the tokenizer's own: marks 0 pictures where one image is shown"),
    "images alone": ({"tokenizer_config.json": CHAT_TEMPLATE.replace("<|video_pad|>", "")}, "0 .* where one video"),
    "two marks": ({"chat_template.jinja": CHAT_TEMPLATE.replace("<|image_pad|>", "<|image_pad|>" * 2)}, "marks 2"),
    "no words": ({"chat_template.json": CHAT_TEMPLATE.replace("{{ content['text'] }}", "")}, "leaves out words"),
}


@pytest.mark.parametrize("case", UNSHOWN)
def test_a_folder_without_a_template_that_shows_pictures_is_refused_with_the_reason_for_each(folder, tmp_path, case):
    places, reason = UNSHOWN[case]
    with pytest.raises(InputError, match=f"(?s)x: no chat template that shows the model a picture;.*{reason}"):
        vlm.load(with_templates(folder, tmp_path / "x", places))


# ------------------------------------------------------------------------------------------- pictures and clips


def official(name: str):
    """A function of transformers' own video processor. Its module cannot be imported without torchvision, so the
    function is taken from the source alone."""
    found = importlib.util.find_spec("transformers").submodule_search_locations[0]
    source = Path(found, "models/qwen2_vl/video_processing_qwen2_vl.py").read_text()
    [definition] = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    definition.decorator_list = []
    module = ast.Module([ast.parse("from __future__ import annotations").body[0], definition], [])
    scope = {"torch": torch, "math": math}
    exec(compile(ast.fix_missing_locations(module), name, "exec"), scope)
    return scope[name]


def grid_pixels(shown: vlm.Picture, patch: int) -> tuple[int, int]:
    return shown.grid[0, 1].item() * patch, shown.grid[0, 2].item() * patch


@settings(max_examples=30, deadline=None)
@given(st.integers(16, 300), st.integers(16, 300))
def test_pictures_and_frames_are_resized_as_transformers_own_processors_do(tiny, height, width):
    frames = np.zeros((2, height, width, 3), np.uint8)
    expected = smart_resize(height, width, factor=16, min_pixels=32 * 32, max_pixels=96 * 96)
    assert official("smart_resize")(height, width, 16, 32 * 32, 96 * 96) == expected
    assert grid_pixels(vlm.picture(tiny, frames[:1], "image"), 8) == expected
    assert grid_pixels(vlm.picture(tiny, frames, "video", 2), 8) == expected


def test_a_clip_of_one_picture_twice_has_the_picture_s_pixel_values(tiny):
    frame = noise(50, 90)
    still = vlm.picture(tiny, frame[None], "image")
    moving = vlm.picture(tiny, np.stack([frame, frame]), "video", 2.0)
    assert torch.equal(moving.pixels, still.pixels) and torch.equal(moving.grid, still.grid)
    own = tiny.images([Image.fromarray(frame)], return_tensors="pt")
    assert torch.equal(still.pixels, own["pixel_values"])


def test_a_clip_is_cut_into_patches_as_transformers_own_video_processor_cuts_it(tiny):
    frames = noise(6, 48, 80)
    shown = vlm.picture(tiny, frames, "video", 2.0)
    mean, deviation = (np.array(value).reshape(3, 1, 1) for value in (tiny.images.image_mean, tiny.images.image_std))
    normalised = (frames.transpose(0, 3, 1, 2) / 255 - mean) / deviation
    pixels, *grid = official("patchify")(None, torch.tensor(normalised, dtype=torch.float32)[None], 8, 2, 2)
    assert shown.grid.tolist() == [grid] == [[3, 6, 10]]
    torch.testing.assert_close(shown.pixels, pixels[0], atol=1e-5, rtol=0)


@given(st.integers(4, 2000), st.floats(1, 120))
def test_frames_are_sampled_as_transformers_own_video_processor_samples_them(total, fps):
    sizes = vlm.VideoSizes(max_frames=64)
    own = SimpleNamespace(num_frames=None, fps=2.0, temporal_patch_size=2, min_frames=4, max_frames=64)
    expected = official("sample_frames")(own, SimpleNamespace(total_num_frames=total, fps=fps)).tolist()
    ours = vlm.sampled_frames(total, fps, sizes, 2).tolist()
    # torch.arange with a float step may run one index past the count, or a frame short of an exact one.
    assert len(expected) - len(ours) in (0, 1)
    assert all(abs(a - b) <= 1 for a, b in zip(ours, expected, strict=False))


@pytest.mark.parametrize(
    ("total", "fps", "indices"),
    [
        (81, 16, [0, 8, 16, 24, 32, 40, 48, 56, 64, 72]),
        (8, 8, [0, 2, 4, 6]),
        (16, 2, list(range(16))),
        (5, 30, [0, 1, 2, 3]),
        (3, 30, [0, 1]),
        (1, 30, [0]),
    ],
)
def test_two_frames_a_second_are_shown_and_at_least_four_where_there_are_four(total, fps, indices):
    assert vlm.sampled_frames(total, fps, vlm.VideoSizes(), 2).tolist() == indices


def test_the_time_between_steps_is_that_of_the_frames_shown(tiny):
    assert vlm.picture(tiny, noise(81, 32, 32), "video", 16.0).seconds == pytest.approx(2 * 81 / (10 * 16))
    assert vlm.picture(tiny, noise(16, 32, 32), "video", 8.0).seconds == pytest.approx(1.0)


def test_a_clip_of_one_frame_is_shown_as_that_frame_twice(tiny):
    frame = noise(1, 48, 48)
    once, twice = vlm.picture(tiny, frame, "video", 2), vlm.picture(tiny, np.repeat(frame, 2, 0), "video", 2)
    assert torch.equal(once.pixels, twice.pixels)


def test_a_long_clip_s_frames_share_its_budget_of_tokens(tiny):
    model = replace(tiny, videos=replace(tiny.videos, max_video_tokens=100, max_pixels=96 * 96))
    shown = vlm.picture(model, noise(60, 96, 96), "video", 4.0)
    assert shown.grid[0, 0] == 15
    assert shown.grid.prod() / 4 <= 0.9 * 100
    assert vlm.picture(tiny, noise(60, 96, 96), "video", 4.0).grid.tolist() == [[15, 12, 12]]


@pytest.mark.parametrize(("frames", "kind", "fps"), [(2, "image", None), (0, "video", 8), (4, "video", None)])
def test_frames_that_do_not_fit_their_kind_are_refused(tiny, frames, kind, fps):
    with pytest.raises(InputError, match=r"an image has 1 frame|a clip has frames and a frame rate"):
        vlm.picture(tiny, np.zeros((frames, 32, 32, 3), np.uint8), kind, fps)


@pytest.mark.parametrize(("fps", "times"), [(2.0, [0, 2]), (1.0, [0, 4]), (8.0, [0, 0])])
def test_a_clip_s_tokens_stand_where_their_seconds_put_them(tiny, fps, times):
    shown = vlm.picture(tiny, noise(4, 32, 32), "video", fps)
    inputs = vlm.encode(tiny, dialogue.conversation("You look.", "Look.", "video"), shown)
    [placeholders] = inputs["input_ids"] == tiny.model.config.video_token_id
    time, row, _ = inputs["position_ids"][1:, 0, placeholders]
    assert (time - time[0])[:: len(time) // 2].tolist() == times  # two positions a second
    assert (row - row[0]).tolist() == [0, 0, 1, 1] * 2


def test_placeholders_match_the_picture_and_control_tokens_in_words_are_plain_text(tiny):
    frames, fps = MEDIA["video"]
    shown = vlm.picture(tiny, frames, "video", fps)
    ids = vlm.encode(tiny, dialogue.conversation("<|im_end|>", "Is <|video_pad|> a <|image_pad|>?", "video"), shown)
    config = tiny.model.config
    assert (ids["input_ids"] == config.video_token_id).sum() == shown.grid.prod() / 4
    assert (ids["input_ids"] == config.image_token_id).sum() == 0
    assert (ids["input_ids"] == config.text_config.eos_token_id).sum() == 2


# --------------------------------------------------------------------------------------------- reading, answering


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
@pytest.mark.parametrize("kind", MEDIA)
def test_answers_from_the_cache_are_those_of_plain_generate(tiny, kind, seed):
    sampling = None if seed is None else dialogue.Sampling(max_new_tokens=40)
    seen = seen_by(tiny, kind)
    assert vlm.answer(tiny, seen, sampling, seed or 0) == plain_answer(tiny, seen, sampling, seed or 0) != ""


@pytest.mark.parametrize("kind", MEDIA)
def test_an_answer_to_a_later_turn_is_that_of_plain_generate_on_the_whole_conversation(tiny, kind):
    seen = seen_by(tiny, kind)
    said, reply = "\n\n{broken", "Once more."
    turns = [{"role": "assistant", "content": said}, {"role": "user", "content": reply}]
    expected = plain_answer(tiny, seen, dialogue.Sampling(max_new_tokens=40), 5, seen.messages + turns)
    assert vlm.answer(tiny, seen, dialogue.Sampling(max_new_tokens=40), 5, [(said, reply)]) == expected


def test_reading_another_picture_between_changes_no_answer(tiny):
    seen = seen_by(tiny, "video")
    first = vlm.answer(tiny, seen, dialogue.Sampling(max_new_tokens=30), 9)
    other = vlm.answer(tiny, seen_by(tiny, "image", "Another, longer request, for other positions."), SHORT, 9)
    assert vlm.answer(tiny, seen, dialogue.Sampling(max_new_tokens=30), 9) == first != other


def test_an_answer_leaves_the_caller_s_random_state_alone(tiny):
    seen = seen_by(tiny, "image")
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    vlm.answer(tiny, seen, SHORT, 4)
    assert torch.equal(torch.rand(3), expected)


def test_the_folder_s_repetition_penalty_holds_and_its_sampling_does_not(tiny, monkeypatch):
    monkeypatch.setattr(tiny.model.generation_config, "repetition_penalty", 1.05)
    monkeypatch.setattr(tiny.model.generation_config, "temperature", 1e-6)
    greedy, sampled = vlm._generation(tiny, None), vlm._generation(tiny, dialogue.Sampling())
    assert greedy.repetition_penalty == sampled.repetition_penalty == 1.05
    assert not greedy.do_sample and sampled.do_sample
    assert (sampled.temperature, sampled.top_k, sampled.top_p, sampled.max_new_tokens) == (0.7, 50, 0.95, 512)
    assert tiny.model.generation_config.temperature == 1e-6


# ---------------------------------------------------------------------------------------- prompts, from any model


def diversified(model: vlm.Vlm, kind: str = "video", **options) -> tuple[list[str], dict[str, int]]:
    frames, fps = MEDIA[kind]
    return dialogue.diversify(model, frames, kind, PHRASES, fps, **({"sampling": SHORT} | options))


@pytest.mark.parametrize("kind", MEDIA)
def test_the_clip_is_encoded_once_for_all_prompts_and_all_their_attempts(tiny, tower, kind):
    prompts, report = diversified(tiny, kind, count=6)
    assert tower.count == 1
    assert len(prompts) == report["count"] == 6 and report["reasked"] == 18


def test_each_frame_is_encoded_once_for_its_prompt(tiny, tower):
    prompts, report = dialogue.diversify_frames(tiny, list(noise(3, 48, 48)), PHRASES, SHORT)
    assert tower.count == len(prompts) == report["count"] == 3


def test_a_frame_s_prompt_is_that_of_the_frame_as_an_image_with_its_own_seed(tiny):
    frames = noise(2, 48, 48)
    prompts, _ = dialogue.diversify_frames(tiny, list(frames), PHRASES, SHORT, seed=7)
    alone, _ = dialogue.diversify(tiny, frames[1:], "image", PHRASES, count=1, sampling=SHORT, seed=8)
    assert prompts[1] == alone[0]


def test_a_prompt_hangs_on_its_own_seed_alone(tiny):
    five, _ = diversified(tiny, count=5)
    assert diversified(tiny, count=3)[0] == five[:3]
    assert diversified(tiny, count=1, seed=103)[0] == five[3:4]
    assert len(set(five)) == 5


class Script:
    """Stands in for `vlm.answer`, and for it alone: says the given answers in turn and records what it was asked."""

    def __init__(self, monkeypatch, *answers: str):
        self.answers = list(answers)
        self.asked = []
        monkeypatch.setattr(vlm, "answer", self)

    def __call__(self, model, seen, sampling=None, seed=0, turns=()):
        self.asked.append((seed, list(turns)))
        return self.answers[(len(self.asked) - 1) % len(self.answers)]


def test_a_prompt_that_dropped_a_phrase_is_asked_for_again_with_a_derived_seed(tiny, monkeypatch):
    good = "A Red ball moves to the right."
    script = Script(monkeypatch, "A red ball.", f'"{good}"', good)
    prompts, report = diversified(tiny, count=2)
    assert prompts == [good, good]
    assert report == {"count": 2, "kept_first_try": 1, "kept": 2, "reasked": 1}
    assert [seed for seed, _ in script.asked] == [100, 100 + dialogue.RESEED, 101]
    [(said, reply)] = script.asked[1][1]
    assert said == "A red ball." and "not there: moves to the right." in reply
    assert script.asked[2][1] == []


LOOP = "A red ball moves to the right" + " and a red ball moves to the right" * 30


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Room for 56 tokens of the tiny text encoder."""
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(tokenizer, [LOOP])
    return dialogue.Room(tokenizer, 64)


def test_a_prompt_too_long_for_the_text_encoder_is_asked_for_anew_with_another_seed(tiny, monkeypatch, room):
    good = "A red ball moves to the right."
    script = Script(monkeypatch, LOOP, good)
    prompts, report = diversified(tiny, count=1, attempts=0, room=room)
    assert prompts == [good] and report == {"count": 1, "kept_first_try": 0, "kept": 1, "reasked": 1}
    assert script.asked == [(100, []), (100 + dialogue.RESEED, [])]


def test_a_model_that_only_writes_prompts_too_long_is_refused_with_what_to_do(tiny, monkeypatch, room):
    Script(monkeypatch, LOOP)
    with pytest.raises(InputError) as problem:
        diversified(tiny, count=1, room=room)
    message = str(problem.value)
    assert "'tiny-vl' wrote no prompt of at most 56 tokens of the text encoder, asked 12 times" in message
    assert "prompts.writer: template" in message and "concepts.csv" in message


def test_phrases_that_no_prompt_has_room_for_are_refused_before_the_model_is_asked(tiny, monkeypatch, room):
    script = Script(monkeypatch, "A red ball.")
    phrases = Phrases(tuple(f"red ball number {number}" for number in range(30)), ("rolls",))
    with pytest.raises(InputError, match="the 31 phrases are longer than a prompt may be, at most 56 tokens"):
        dialogue.diversify(tiny, MEDIA["video"][0], "video", phrases, 8.0, count=1, room=room)
    assert not script.asked


def test_if_no_attempt_keeps_all_phrases_the_one_that_dropped_fewest_stays(tiny, monkeypatch):
    script = Script(monkeypatch, "Nothing.", "A red ball.", "It moves to the right.", "Nothing again.")
    prompts, report = diversified(tiny, count=1)
    assert prompts == ["A red ball."] and len(script.asked) == 4
    assert report == {"count": 1, "kept_first_try": 0, "kept": 0, "reasked": 3}


def test_attempts_bounds_how_often_a_prompt_is_asked_for_again(tiny, monkeypatch):
    script = Script(monkeypatch, "Nothing.")
    assert diversified(tiny, count=2, attempts=0)[1]["reasked"] == 0
    assert diversified(tiny, count=2, attempts=1)[1]["reasked"] == 2
    assert len(script.asked) == 2 + 4


def test_a_model_that_writes_nothing_is_refused(tiny, monkeypatch):
    Script(monkeypatch, ' ""')
    with pytest.raises(InputError, match="'tiny-vl' wrote no prompt, asked 12 times"):
        diversified(tiny, count=1)


@pytest.mark.parametrize("said", ["A ball.", ' "A ball."\n', "“A ball.”", "A\n\x00 ball.", "'A\u200b ball.'"])
def test_a_prompt_is_one_line_without_quotation_marks_around_it(tiny, monkeypatch, said):
    Script(monkeypatch, said)
    assert diversified(tiny, count=1)[0] == ["A ball."]


def test_a_clip_without_temporal_phrases_is_asked_for_prompts_with_its_spatial_ones(tiny, monkeypatch):
    Script(monkeypatch, "A red ball.")
    prompts, report = dialogue.diversify(tiny, MEDIA["video"][0], "video", Phrases(("red ball",)), 8.0, count=1)
    assert prompts == ["A red ball."] and report["kept"] == 1
    request = dialogue.prompt_conversation(Phrases(("red ball",)), "video")[1]["content"][1]["text"]
    assert request == "Spatial concepts: red ball\nWrite the prompt."


# ------------------------------------------------------------------------------ answers that are right: a trained model

MALFORMED = "spatial: yellow square"
IMAGE_PROMPTS = ("A photo of a red ball.", "This is one red ball, shown clearly.")
VIDEO_PROMPT = "A blue square moves to the right."
BLUE = Phrases(("blue square",), ("moves to the right",))
RED = Phrases(("red ball",))


def lessons(model: vlm.Vlm) -> list[dict[str, torch.Tensor]]:
    """What the small model is taught, as inputs with labels: the concepts of two images and two clips, a malformed
    answer to a third image and its repair, and prompts."""
    yellow = image("yellow", "square")
    asked, wrong = dialogue.concept_conversation("image"), {"role": "assistant", "content": MALFORMED}
    with pytest.raises(InputError) as problem:
        parse_phrases(MALFORMED, "image")
    repair = [*asked, wrong, {"role": "user", "content": dialogue.repair_request(problem.value.problems)}]
    filmed = dialogue.concept_conversation("video")
    taught = [
        (asked, image("red", "ball"), None, '{"spatial": ["red ball"]}'),
        (asked, image("green", "square"), None, '{"spatial": ["green square"]}'),
        (asked, yellow, None, MALFORMED),
        (repair, yellow, None, '{"spatial": ["yellow square"]}'),
        (filmed, clip("blue", "square", 1), 8.0, '{"spatial": ["blue square"], "temporal": ["moves to the right"]}'),
        (filmed, clip("red", "ball", -1), 8.0, '```json\n{"spatial": ["red ball"], "temporal": ["moves back"]}\n```'),
        (dialogue.prompt_conversation(BLUE, "video"), clip("blue", "square", 1), 8.0, VIDEO_PROMPT),
        *((dialogue.prompt_conversation(RED, "image"), image("red", "ball"), None, prompt) for prompt in IMAGE_PROMPTS),
    ]
    return [lesson(model, *item) for item in taught]


def lesson(model: vlm.Vlm, messages: list[dict], frames: np.ndarray, fps: float | None, answer: str) -> dict:
    shown = vlm.picture(model, frames, "video" if fps else "image", fps)
    asked = vlm.encode(model, messages, shown)
    said = model.tokenizer(answer + "<|im_end|>", return_tensors="pt")["input_ids"]
    later = asked["position_ids"][..., -1:] + torch.arange(1, said.shape[1] + 1)
    return {
        "input_ids": torch.cat([asked["input_ids"], said], 1),
        "position_ids": torch.cat([asked["position_ids"], later], -1),
        "labels": torch.cat([torch.full_like(asked["input_ids"], -100), said], 1),
        **vlm.pixel_inputs(model, shown),
    }


@pytest.fixture(scope="module")
def trained(smaller, tmp_path_factory):
    """The folder of a smaller model that was taught the lessons, and the model as loaded from it."""
    student = vlm.load(smaller)
    taught = lessons(student)
    optimiser = torch.optim.AdamW(student.model.parameters(), lr=4e-3, weight_decay=0.0)
    for _ in range(90):
        for inputs in taught:
            (student.model(**inputs).loss / len(taught)).backward()
        torch.nn.utils.clip_grad_norm_(student.model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    target = tmp_path_factory.mktemp("models") / "taught-vl"
    shutil.copytree(smaller, target)
    student.model.save_pretrained(target)
    return target, vlm.load(target)


@pytest.mark.parametrize("colour, shape", [("red", "ball"), ("green", "square")])
def test_extract_names_what_an_image_shows(trained, colour, shape):
    expected = Phrases((f"{colour} {shape}",))
    assert dialogue.extract(trained[1], image(colour, shape), "image") == expected
    assert dialogue.extract(trained[1], image(colour, shape, x=30, y=33), "image") == expected


def test_extract_names_what_a_clip_shows_and_how_it_moves(trained):
    assert dialogue.extract(trained[1], clip("blue", "square", 1), "video", 8.0) == BLUE


def test_extract_reads_an_answer_in_a_code_fence(trained):
    assert dialogue.extract(trained[1], clip("red", "ball", -1), "video", 8.0) == Phrases(
        ("red ball",), ("moves back",)
    )


def test_a_malformed_answer_is_shown_to_the_model_and_repaired(trained):
    yellow, model = image("yellow", "square"), trained[1]
    seen = vlm.see(model, dialogue.concept_conversation("image"), vlm.picture(model, yellow, "image"))
    assert vlm.answer(model, seen) == MALFORMED
    assert dialogue.extract(model, yellow, "image") == Phrases(("yellow square",))


def test_two_malformed_answers_are_refused_and_both_shown(tiny, monkeypatch):
    script = Script(monkeypatch, "I see a ball.", '{"spatial": []}')
    with pytest.raises(InputError) as problem:
        dialogue.extract(tiny, image("red", "ball"), "image")
    assert len(script.asked) == 2
    message = str(problem.value)
    assert "'tiny-vl' named no usable concepts, asked twice" in message
    assert "the raw text: I see a ball." in message and 'the raw text: {"spatial": []}' in message
    assert "by hand instead: in concepts.csv, in the columns spatial and, for a video, temporal" in message


def test_the_concepts_are_those_of_greedy_search(tiny, monkeypatch):
    kept = []
    original = vlm.answer
    monkeypatch.setattr(vlm, "answer", lambda *given, **named: kept.append(original(*given, **named)) or kept[-1])
    with pytest.raises(InputError):
        dialogue.extract(tiny, *MEDIA["image"][:1], "image")
    seen = vlm.see(tiny, dialogue.concept_conversation("image"), vlm.picture(tiny, MEDIA["image"][0], "image"))
    assert kept[0] == plain_answer(tiny, seen)


def test_prompts_of_a_model_that_learned_them_keep_their_phrases_and_vary(trained):
    prompts, report = dialogue.diversify(trained[1], image("red", "ball"), "image", RED, count=16)
    assert report == {"count": 16, "kept_first_try": 16, "kept": 16, "reasked": 0}
    assert set(prompts) == set(IMAGE_PROMPTS)


def test_clip_prompts_keep_spatial_and_temporal_phrases(trained):
    prompts, report = dialogue.diversify(trained[1], clip("blue", "square", 1), "video", BLUE, 8.0, count=4)
    assert report["kept"] == 4 and all(keeps_phrases(prompt, BLUE.all) for prompt in prompts)


# ----------------------------------------------------------------------------------------------- through the scripts


def script(name: str, *arguments: object) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_scripts_name_a_clip_s_concepts_and_write_its_prompts(trained, tmp_path):
    write_video(tmp_path / "blue.mp4", clip("blue", "square", 1), 8)
    model = ("--vlm", trained[0], "--device", "cpu")
    named = script("concepts.py", "--clip", tmp_path / "blue.mp4", "--output", tmp_path / "blue.json", *model)
    assert named.returncode == 0, named.stderr
    assert read_phrases(tmp_path / "blue.json") == BLUE
    assert json.loads((tmp_path / "blue.json").read_text())["source"] == "taught-vl"
    written = script("prompts.py", "--media", tmp_path / "blue.mp4", "--concept", "blue", *model,
                     "--phrases", tmp_path / "blue.json", "--output", tmp_path / "blue.csv",
                     "--report", tmp_path / "report.json", "--settings", '{"count": 3}')  # fmt: skip
    assert written.returncode == 0, written.stderr
    assert [video for video, _ in read_prompts(tmp_path / "blue.csv")] == ["blue.mp4"] * 3
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["writer"] == "vlm" and report["share_kept"] == report["share_kept_first_try"] == 1.0


def test_prompts_py_writes_one_prompt_a_frame_with_the_model(smaller, tmp_path):
    write_video(tmp_path / "blue.mp4", clip("blue", "square", 1)[:3], 8)
    write_frames_zip(tmp_path / "blue.mp4", tmp_path / "frames.zip", "blue")
    write_phrases(tmp_path / "blue.json", BLUE, "manifest")
    build_tokenizer(tmp_path / "tokenizer", [LOOP])
    settings = {"attempts": 1, "max_new_tokens": 5, "seed": 3, "dtype": "float32", "text_length": 64}
    done = script("prompts.py", "--media", tmp_path / "frames.zip", "--concept", "blue", "--vlm", smaller,
                  "--phrases", tmp_path / "blue.json", "--output", tmp_path / "x.csv",
                  "--report", tmp_path / "x.json", "--settings", json.dumps(settings),
                  "--tokenizer", tmp_path / "tokenizer")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [video for video, _ in read_prompts(tmp_path / "x.csv")] == [f"blue/0000{index}.jpg" for index in range(3)]
    report = json.loads((tmp_path / "x.json").read_text())
    assert (report["count"], report["kept"], report["reasked"], report["share_kept"]) == (3, 0, 3, 0.0)


@pytest.fixture(scope="module")
def asked(smaller, tmp_path_factory):
    """The command that writes sixty prompts into a folder, and a folder where it was never stopped."""
    made = tmp_path_factory.mktemp("asked")
    write_video(made / "blue.mp4", clip("blue", "square", 1)[:3], 8)
    write_phrases(made / "blue.json", BLUE, "manifest")
    settings = {"attempts": 0, "max_new_tokens": 12, "count": 60, "dtype": "float32"}

    def command(target: Path) -> list[str]:
        files = {"media": made / "blue.mp4", "phrases": made / "blue.json"}
        files |= {"output": target / "x.csv", "report": target / "x.json"}
        paths = [part for key, file in files.items() for part in (f"--{key}", str(file))]
        return ["prompts.py", *paths, "--concept", "blue", "--vlm", str(smaller), "--settings", json.dumps(settings)]

    assert script(*command(made / "whole")).returncode == 0
    return command, made / "whole"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75)])
def test_prompt_writing_that_is_killed_goes_on_with_the_next_prompt_to_the_same_file(asked, tmp_path, number, status):
    command, whole = asked
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    name, *rest = command(tmp_path / "killed")
    process = subprocess.Popen([sys.executable, str(ROOT / "scripts" / name), *rest], env=environment)
    deadline = time.monotonic() + 120
    while sum(path.read_text().count("\n") for path in (tmp_path / "killed").glob(".runs/*/*/[!.]*.jsonl")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() == status and not (tmp_path / "killed" / "x.csv").exists()
    (journal,) = (tmp_path / "killed").glob(".runs/*/*/*.jsonl")
    assert 2 <= journal.read_text().count("\n") < 60
    assert script(*command(tmp_path / "killed")).returncode == 0
    for file in ("x.csv", "x.json"):
        assert (tmp_path / "killed" / file).read_bytes() == (whole / file).read_bytes()


def test_a_refused_answer_ends_the_script_with_its_message_and_no_file(smaller, tmp_path):
    Image.fromarray(drawn("red", "ball")).save(tmp_path / "x.png")
    done = script("concepts.py", "--clip", tmp_path / "x.png", "--output", tmp_path / "x.json", "--vlm", smaller)
    assert done.returncode == 1 and "error: 'smaller-vl' named no usable concepts" in done.stderr
    assert not (tmp_path / "x.json").exists()


def test_weights_with_a_nan_are_refused_when_they_are_loaded(tiny_model, tmp_path):
    shutil.copytree(tiny_model / "vlm", tmp_path / "vlm")
    (path,) = (tmp_path / "vlm").glob("*.safetensors")
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name].view(-1)[-1] = math.nan
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"vlm.*{name.split('.')[-2]}"):
        vlm.load(tmp_path / "vlm")
