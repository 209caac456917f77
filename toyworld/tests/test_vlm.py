"""The world's language model: that it learns the pipeline's own conversations, cut as the pipeline cuts them."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from bico.prompts import dialogue
from bico.prompts.answers import parse_phrases
from bico.prompts.writers import qwen as vlm
from bico.text.phrases import KINDS, Phrases, keeps_phrases, missing_phrases
from tests import ROOT
from toyworld import captions
from toyworld.scene import COLOURS, FPS, FRAMES, poses, render, sample_scene
from toyworld.tiny.language_model import Sizes, build_vlm
from toyworld.training import evaluation
from toyworld.training import vlm as training
from toyworld.training.attributes import (
    MOTION_ATTRIBUTES,
    TEXT_ATTRIBUTES,
    VISION_ATTRIBUTES,
    draw_vision_batch,
    motion_loss,
    motion_targets,
    vision_loss,
    vlm_directions,
)
from toyworld.training.conversations import TASKS, draw_example, phrases_in_reading_order
from toyworld.training.evaluation import evaluate_vlm
from toyworld.training.vlm import SETTINGS, Batches, answer_loss, batch, shown_frames, shown_picture, tower, train

SMALL = {
    "vocabulary": 700,
    "width": 64,
    "layers": 2,
    "vision_width": 48,
    "vision_layers": 2,
    "images": 3,
    "clips": 2,
    "pictures": 4,
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vlm")
    build_vlm(folder, 0, Sizes(width=64, layers=2, vision_width=48, vision_layers=2))
    return vlm.load(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_cut_as_the_pipeline_cuts_them(reader, kind):
    clip = render(sample_scene(np.random.default_rng(0)))
    frames = clip if kind == "video" else clip[:1]
    shown = clip[shown_frames(reader)] if kind == "video" else frames
    ours, theirs = shown_picture(reader, shown, kind), vlm.picture(reader, frames, kind, FPS)
    torch.testing.assert_close(ours.pixels, theirs.pixels, atol=1e-5, rtol=0)
    assert torch.equal(ours.grid, theirs.grid)
    assert ours.seconds == theirs.seconds


@pytest.mark.parametrize("kind", KINDS)
def test_the_tower_sees_all_pictures_at_once_as_the_model_sees_one_after_the_other(reader, kind):
    clips = [render(sample_scene(np.random.default_rng(seed)), range(4 if kind == "video" else 1)) for seed in range(3)]
    shown = [shown_picture(reader, clip, kind) for clip in clips]
    reader.model.set_attn_implementation("sdpa")
    with torch.no_grad():
        theirs = [reader.model.model.visual(one.pixels, grid_thw=one.grid).pooler_output for one in shown]
        ours = tower(reader.model, torch.cat([one.pixels for one in shown]))
    torch.testing.assert_close(ours, torch.cat(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_the_loss_is_that_of_the_model_on_the_whole_conversation(reader, task, kind):
    rng = np.random.default_rng(1)
    examples = [draw_example(task, kind, shown_frames(reader), rng) for _ in range(2)]
    with torch.no_grad():
        together, _ = answer_loss(reader.model, batch(reader, kind, examples))
        total, tokens = 0.0, 0
        for example in examples:
            shown = shown_picture(reader, example.frames, kind)
            read = vlm.encode(reader, example.messages, shown)
            answer = reader.tokenizer(example.answer + "<|im_end|>", add_special_tokens=False)["input_ids"]
            ids = torch.cat([read["input_ids"], torch.tensor([answer])], 1)
            kinds = (ids == reader.model.config.image_token_id) + 2 * (ids == reader.model.config.video_token_id)
            seconds = {} if shown.seconds is None else {"second_per_grid_ts": torch.tensor([shown.seconds])}
            reader.model.model.rope_deltas = None
            logits = reader.model(ids, mm_token_type_ids=kinds, **vlm.pixel_inputs(reader, shown), **seconds).logits[
                0, -len(answer) - 1 : -1
            ]
            total += torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum").item()
            tokens += len(answer)
    assert together.item() == pytest.approx(total / tokens, abs=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_the_targets_of_a_conversations_tokens_are_what_their_phrases_have_named_so_far(reader, task):
    rng = np.random.default_rng(5)
    examples = [draw_example(task, "video", shown_frames(reader), rng) for _ in range(4)]
    inputs = batch(reader, "video", examples)
    for example, ids, targets in zip(examples, inputs["input_ids"], inputs["attributes"], strict=True):
        request, *turns = (message["content"] for message in example.messages[1:])
        texts = [request[1]["text"], *turns, example.answer]
        named = [(text[:end], true) for text in texts for end, true in captions.attributes_so_far(text)]
        places = (~targets.isnan().any(-1)).nonzero().flatten().tolist()
        assert len(places) == len(named)
        for at, (text, true) in zip(places, named, strict=True):
            assert reader.tokenizer.decode(ids[: at + 1]).endswith(text)
            assert {TEXT_ATTRIBUTES[k] for k in targets[at].nonzero().flatten()} == true


def test_a_mismatched_prompt_has_the_phrases_of_another_picture(reader):
    settings = SETTINGS | SMALL | {"vision_steps": 0, "motion_steps": 0, "steps": 40, "writes": 1.0}
    own, others = (Batches(settings | {"mismatched_prompts": share}, reader) for share in (0.0, 1.0))
    step = next(k for k in range(40) if "pixel_values" in own[k])
    matched, mismatched = own[step], others[step]
    assert torch.equal(matched["input_ids"], mismatched["input_ids"])
    pictures = [each["pixel_values"].unflatten(0, (SMALL["images"], -1)) for each in (matched, mismatched)]
    assert torch.equal(pictures[0].roll(1, 0), pictures[1]) and not torch.equal(*pictures)


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_should_answer_is_what_the_pipeline_takes(reader, kind):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        assert parse_phrases(draw_example("name", kind, [0], rng).answer, kind)
        written = draw_example("write", kind, [0], rng)
        request = written.messages[1]["content"][1]["text"]
        phrases = [phrase for line in request.splitlines()[:-1] for phrase in line.split(": ", 1)[1].split("; ")]
        assert keeps_phrases(written.answer, phrases), written


@pytest.mark.parametrize("kind", KINDS)
def test_asked_again_it_is_shown_a_prompt_and_what_that_dropped_as_the_pipeline_says_it(kind):
    for seed in range(40):
        written = draw_example("rewrite", kind, [0], np.random.default_rng(seed))
        _, request, dropped, reply = written.messages
        lines = request["content"][1]["text"].splitlines()[:-1]
        phrases = [phrase for line in lines for phrase in line.split(": ", 1)[1].split("; ")]
        missing = missing_phrases(dropped["content"], phrases)
        assert missing and reply == {"role": "user", "content": dialogue.keep_request(missing)}
        assert keeps_phrases(written.answer, phrases)


def test_subjects_are_named_in_reading_order_whatever_their_order_in_the_scene():
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed), subjects=2)
        phrases = phrases_in_reading_order(scene)
        assert phrases == phrases_in_reading_order(replace(scene, subjects=scene.subjects[::-1]))
        (first_x, first_y), (second_x, second_y) = (subject.centre for subject in scene.subjects)
        apart = second_x - first_x if abs(second_x - first_x) > abs(second_y - first_y) else second_y - first_y
        first = scene.subjects[0 if apart > 0 else 1]
        assert first.shape in phrases.spatial[0]


def test_the_targets_of_pictures_are_the_words_and_poses_of_their_scenes():
    frames, words, places = draw_vision_batch(40, 5, np.random.default_rng(0))
    assert frames.shape == (40, 2, 64, 64, 3)
    rng, same = np.random.default_rng(0), 0
    deviations = [0.14, 0.14, 0.033, 0.026, 0.026, 0.0016, 0.1]
    for k in range(40):
        scene, first = sample_scene(rng), int(rng.integers(FRAMES - 5))
        second = first + 5 * int(rng.integers(2))
        same += first == second
        assert (frames[k] == render(scene, [first, second])).all()
        present = {VISION_ATTRIBUTES[i] for i in words[k].nonzero().flatten()}
        assert {("shape", subject.shape) for subject in scene.subjects} <= present
        assert ("background", scene.background.colour) in present
        assert len(present) <= 3 + 4 * len(scene.subjects)
        if len(scene.subjects) == 2:
            assert places[k].isnan().all()
        else:
            (x, y, radius, turn), (*later, turned) = poses(scene.subjects[0], [first, second])
            went = [(after - before) / 64 for before, after in zip((x, y, radius), later, strict=True)]
            pose = places[k].numpy() * deviations + [0.5, 0.5, 0.18, 0, 0, 0, 0]
            assert pose == pytest.approx([x / 64, y / 64, radius / 64, *went, turned - turn], abs=1e-5)
    assert 8 < same < 32


def test_the_tower_alone_learns_from_pictures_and_the_language_model_does_not(reader):
    vision, motion, _ = vlm_directions(64)
    both = torch.cat([vision, motion])
    torch.testing.assert_close(both @ both.T, torch.eye(len(VISION_ATTRIBUTES) + 7 + 6 + len(MOTION_ATTRIBUTES)))
    frames, words, poses = draw_vision_batch(6, 5, np.random.default_rng(1))
    shown = [shown_picture(reader, pair, "video") for pair in frames]
    reader.model.zero_grad()
    tokens = tower(reader.model, torch.cat([one.pixels for one in shown])).unflatten(0, (len(words), -1))
    vision_loss(vision, tokens, words, poses)[0].backward()
    learns = {name for name, value in reader.model.named_parameters() if value.grad is not None}
    assert learns and all(".visual." in name for name in learns)
    reader.model.zero_grad()


def test_the_targets_of_a_clip_are_its_scenes_path_and_words():
    frames = list(range(0, 80, 5))
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed))
        words, path = motion_targets(scene, frames, 2)
        present = {MOTION_ATTRIBUTES[i] for i in words.nonzero().flatten()}
        assert present == {("motion", subject.motion.word) for subject in scene.subjects} | {
            ("light", scene.light.word)
        }
        assert path.shape == (8, 6)
        if len(scene.subjects) == 2:
            assert path.isnan().all()
            continue
        path = path.numpy() * [0.14, 0.14, 0.035, 0.05, 0.05, 0.005] + [0.5, 0.5, 0.18, 0, 0, 0]
        between = poses(scene.subjects[0], frames)[:, :3].reshape(8, 2, 3).mean(1) / 64  # of the two frames of a token
        assert np.abs(path[:, :3] - between).max() < 0.1
        np.testing.assert_allclose(path[1:, 3:], path[1:, :3] - path[:-1, :3], atol=1e-5)


def test_the_motion_loss_is_least_for_tokens_with_their_targets_along_the_directions():
    """And scenes of two subjects have no path."""
    scenes = [sample_scene(np.random.default_rng(seed), subjects=1 + seed % 2) for seed in range(6)]
    targets = (motion_targets(scene, range(16), 2) for scene in scenes)
    motions, paths = (torch.stack(each) for each in zip(*targets, strict=True))
    true = torch.cat([paths.nan_to_num(7.0), 10 * motions[:, None].expand(-1, 8, -1) - 5], -1)
    length = 40.0  # of all tokens, which is normed away
    rest = (length**2 - true.square().sum(-1, keepdim=True)).sqrt()
    tokens = torch.cat([true, rest], -1).repeat_interleave(4, 1)  # four of each two frames
    directions = torch.eye(tokens.shape[-1])[:-1] * length / tokens.shape[-1] ** 0.5
    entropy = np.log(2) * np.mean([len({m.motion.word for m in s.subjects}) == 2 for s in scenes])
    loss, right = motion_loss(directions, tokens, motions, paths)
    assert (loss.item(), right) == (pytest.approx(entropy, abs=1e-4), 1)
    loss, right = motion_loss(directions, tokens.roll(1, 0), motions, paths)
    assert loss > 1 and right < 0.5
    assert motion_loss(directions, tokens[1::2], motions[1::2], paths[1::2])[0].isfinite()


def test_the_shipped_one_names_what_held_out_pictures_show():
    found = evaluate_vlm(ROOT / "resources" / "world" / "vlm", scenes=10, prompts=1, device="cpu")
    for kind in KINDS:
        assert found[kind]["valid"] == 1
        for attribute in ("background", "colour", "count", "shape", "style"):
            assert found[kind]["words"][attribute] >= 0.9, (kind, attribute)
        assert found[kind]["right"] >= 0.7
    assert found["video"]["words"]["motion"] >= 0.8


def test_it_learns_and_what_is_written_is_what_the_pipeline_loads(tmp_path, monkeypatch):
    few = {
        "vision_steps": 20,
        "motion_steps": 20,
        "motion_clips": 2,
        "steps": 41,
        "clips": 1,
        "warmup": 5,
        "learning_rate": 3e-3,
    }
    monkeypatch.setattr(training, "corpus", partial(training.corpus, 500))
    train(SMALL | few, tmp_path / "vlm", tmp_path / "vlm.jsonl", "cpu")
    entries = [json.loads(line) for line in (tmp_path / "vlm.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [0, 20, 40, 60, 80]
    assert [entry["kind"] for entry in entries][:2] == ["vision", "motion"]
    assert {entry["kind"] for entry in entries[2:]} <= {"image", "video"}
    assert entries[-1]["answer"] < 0.9 * entries[2]["answer"]
    reader = vlm.load(tmp_path / "vlm")
    assert reader.videos.fps == 3.0
    assert all(weight.isfinite().all() for weight in reader.model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_of_a_model_that_errs_says_where(reader, monkeypatch, kind):
    """It names all scenes rightly, but calls every other one's subjects pink; and writes noise."""
    scenes = {}
    original = evaluation.sample_scene
    monkeypatch.setattr(evaluation, "sample_scene", lambda rng: scenes.setdefault(len(scenes), original(rng)))
    errs = []

    def answers(reader, frames, kind):
        shown, number = list(scenes.values())[-1], len(errs)
        frame = None if kind == "video" else next(k for k in range(FRAMES) if (render(shown, [k]) == frames).all())
        phrases = phrases_in_reading_order(shown, frame)
        errs.append(any(subject.colour != "pink" for subject in shown.subjects) and number % 2 == 1)
        colours = "|".join(COLOURS)
        wrong = tuple(re.sub(rf"^((small|big) )?({colours}) ", r"\1pink ", phrase) for phrase in phrases.spatial)
        return Phrases(wrong, phrases.temporal) if errs[-1] else phrases

    monkeypatch.setattr(evaluation, "answered_phrases", answers)
    found = evaluation.evaluate_kind(reader, kind, scenes=10, prompts=1)
    assert found["valid"] == 1
    assert found["right"] == found["words"]["colour"] == 1 - sum(errs) / 10 < 1
    assert found["words"]["shape"] == found["words"]["style"] == 1
    assert found["kept"] == 0
