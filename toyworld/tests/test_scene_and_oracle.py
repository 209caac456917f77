"""The procedural world: its scenes, captions and oracle. Seeds from 500,000 on are looked at by these tests alone."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bico.media.video import read_frames, write_video
from bico.text.phrases import Phrases, check_phrases, keeps_phrases
from tests import ROOT
from toyworld import scene as world
from toyworld.captions import (
    WORDINGS,
    SubjectWords,
    Words,
    agreement,
    attributes_so_far,
    caption,
    parse,
    phrases_of,
    words_of,
)
from toyworld.colour import ciede2000, lab_of_rgb, rgb_of_lch
from toyworld.oracle import Seen, colour_distance, in_pixels, motion_match, read_clip
from toyworld.scene import FRAMES, SIZE, Scene, light_levels, outline, poses, render, sample_scene

HELD_OUT = 500_000


def scene_of(seed: int, **kind) -> Scene:
    return sample_scene(np.random.default_rng(seed), **kind)


def scenes(count: int, **kind) -> list[Scene]:
    return [scene_of(seed, **kind) for seed in range(count)]


def outlines(subject: world.Subject) -> np.ndarray:
    """The corners of the subject in every frame: [F, corners, 2]."""
    x, y, radius, turn = poses(subject).T[..., None]
    corners = (outline(subject.shape) @ [1, 1j]) * radius * np.exp(1j * turn)
    return np.stack([x + corners.real, y + corners.imag], -1)


def degraded(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a small VAE gives them back: blurred, noisy, of a slight colour cast; 28 dB."""
    blurred = gaussian_filter(frames.astype(np.float32), (0, 0.7, 0.7, 0))
    cast = rng.uniform(-5, 5, 3).astype(np.float32)
    noise = 255**2 / 10**2.8 - np.mean((blurred + cast - frames) ** 2)
    noisy = blurred + cast + np.sqrt(max(noise, 0)) * rng.standard_normal(frames.shape, np.float32)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


# Colours


def test_ciede2000_gives_the_published_distances():
    table = np.loadtxt(ROOT / "tests" / "data" / "ciede2000.csv", delimiter=",", skiprows=1)
    assert len(table) == 34
    np.testing.assert_allclose(ciede2000(table[:, :3], table[:, 3:6]), table[:, 6], atol=5e-5)
    np.testing.assert_allclose(ciede2000(table[:, 3:6], table[:, :3]), table[:, 6], atol=5e-5)


def test_cielab_of_srgb_is_the_known_one_and_goes_back():
    np.testing.assert_allclose(lab_of_rgb([[1, 1, 1], [1, 0, 0]]), [[100, 0, 0], [53.24, 80.09, 67.20]], atol=0.01)
    lightness, a, b = lab_of_rgb([0.2, 0.5, 0.7])
    np.testing.assert_allclose(
        rgb_of_lch(lightness, np.hypot(a, b), np.degrees(np.arctan2(b, a))), [0.2, 0.5, 0.7], atol=1e-6
    )


def test_colour_words_are_far_apart_and_their_shades_differ():
    shades = {word: [] for word in world.COLOURS}
    for subject in (subject for scene in scenes(600) for subject in scene.subjects):
        shades[subject.colour].append(subject.shade)
    labs = {word: lab_of_rgb(shades[word]) for word in shades}
    for word, lab in labs.items():
        assert ciede2000(lab[:-1], lab[1:]).mean() > 5
        others = np.concatenate([labs[other] for other in labs if other != word])
        assert ciede2000(lab[:, None], others).min() > 8


def test_subjects_are_brighter_than_backgrounds():
    for scene in scenes(300):
        for subject in scene.subjects:
            assert max(subject.shade) > 0.69 and subject.colour != scene.background.colour
        assert max(scene.background.shade) < 0.5


# Scenes


def test_a_seed_gives_one_scene_and_one_clip():
    assert scene_of(3) == scene_of(3) != scene_of(4)
    assert np.array_equal(render(scene_of(3)), render(scene_of(3)))
    assert render(scene_of(3)).shape == (FRAMES, SIZE, SIZE, 3) and render(scene_of(3)).dtype == np.uint8


@pytest.mark.parametrize("seed", range(12))
def test_a_frame_alone_is_the_frame_of_the_clip(seed):
    scene = scene_of(seed)
    assert np.array_equal(render(scene, [7, 80]), render(scene)[[7, 80]])


def test_every_word_of_every_attribute_comes_up():
    seen: dict[str, Counter] = {name: Counter() for name in WORDINGS}
    counts = Counter()
    for words in map(words_of, scenes(1000)):
        counts[len(words.subjects)] += 1
        for name in seen:
            owners = words.subjects if hasattr(SubjectWords, name) else [words]
            seen[name].update(getattr(owner, name) for owner in owners)
    for name, counter in seen.items():
        assert set(counter) == set(WORDINGS[name])
        assert min(counter.values()) > 0.4 * sum(counter.values()) / len(counter)
    assert 200 < counts[2] < 300 and counts[1] == 1000 - counts[2]
    assert len(world.SHAPES) >= 6 and len(world.COLOURS) >= 8 and len(world.MOTIONS) >= 12


def test_subjects_stay_in_view_and_apart():
    for scene in scenes(300):
        corners = [outlines(subject) for subject in scene.subjects]
        for own in corners:
            assert own.min() > 2.9 and own.max() < SIZE - 2.9
        if len(corners) == 2:
            (low1, high1), (low2, high2) = ((own.min((0, 1)), own.max((0, 1))) for own in corners)
            assert np.any((high1 + 5.9 < low2) | (high2 + 5.9 < low1))


def test_every_motion_is_seen_and_slow_enough_for_four_frames_at_a_time():
    for scene in scenes(300):
        for subject in scene.subjects:
            x, y, radius, turn = poses(subject).T
            way = np.stack([x, y, radius, turn * radius.mean()])
            if subject.motion.word == "still":
                assert np.ptp(way, axis=1).max() == 0
            else:
                assert np.ptp(way, axis=1).max() > 3.5
                assert np.abs(np.diff(way)).max() < 2.5


def test_the_light_is_full_at_the_brightest_frame():
    for scene in scenes(40):
        levels = light_levels(scene.light)
        assert levels.max() == 1 and levels.min() == (1 if scene.light.word == "steady" else scene.light.low)
        assert np.array_equal(light_levels(scene.light, [40]), levels[[40]])


# Captions


@pytest.mark.parametrize("kind", ["clip", "frame"])
def test_a_caption_claims_what_it_was_made_to_say(kind):
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        frame = None if kind == "clip" else int(rng.integers(FRAMES))
        text, words = caption(scene, rng, frame)
        read = parse(text)
        assert set(read.subjects) == set(words.subjects) and replace(read, subjects=()) == replace(words, subjects=())
        assert all(agreement(words, words_of(scene, frame)).values())


def changed(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same words, all that is continuous drawn anew."""
    while True:
        other = sample_scene(rng, len(scene.subjects))
        subjects = tuple(
            replace(
                own,
                shade=drawn.shade,
                period=drawn.period,
                angle=drawn.angle,
                radius=own.radius + 0.1,
                centre=drawn.centre,
                motion=replace(
                    own.motion, speed=drawn.motion.speed, reach=drawn.motion.reach, phase=drawn.motion.phase
                ),
            )
            for own, drawn in zip(scene.subjects, other.subjects, strict=True)
        )
        background = replace(other.background, colour=scene.background.colour, pattern=scene.background.pattern)
        return replace(
            scene, subjects=subjects, background=background, light=replace(other.light, word=scene.light.word)
        )


def test_at_each_word_a_phrase_has_named_what_a_caption_that_ends_there_claims():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        text = caption(sample_scene(rng), rng)[0]
        for end, named in attributes_so_far(text):
            claimed, word = parse(text[:end]), re.search(r"\w+$", text[:end])[0].lower()
            if word in world.SHAPES:
                subject = claimed.subjects[-1]
                expected = {name: getattr(subject, name) for name in ("shape", "colour", "texture", "size")}
            elif word == "background":
                expected = {"pattern": claimed.pattern, "background": claimed.background}
            else:
                continue
            assert named == {(name, way) for name, way in expected.items() if way}, text[:end]


def test_before_its_noun_an_adjective_may_be_of_either():
    named = dict(attributes_so_far("small plain blue"))
    assert named[5] == {("size", "small")}
    either = {("texture", "plain"), ("pattern", "plain"), ("colour", "blue"), ("background", "blue")}
    assert named[16] == {("size", "small"), *either}


def test_what_is_continuous_stands_in_no_caption():
    for seed, scene in enumerate(scenes(200)):
        other = changed(scene, np.random.default_rng(1000 + seed))
        assert other != scene and words_of(other) == words_of(scene)
        assert caption(other, np.random.default_rng(seed)) == caption(scene, np.random.default_rng(seed))
        assert not re.search(r"\d", caption(scene, np.random.default_rng(seed))[0])


def test_captions_differ_and_leave_words_out():
    scene = scene_of(0)
    captions = [caption(scene, np.random.default_rng(seed)) for seed in range(300)]
    assert len({text for text, _ in captions}) > 200
    for name in ("style", "background", "pattern"):
        assert {getattr(words, name) for _, words in captions} == {None, getattr(words_of(scene), name)}
    for name in ("size", "colour", "texture"):
        assert len({getattr(words.subjects[0], name) for _, words in captions}) == 2


def test_a_frames_caption_says_nothing_that_only_time_shows():
    for seed in range(300):
        words = caption(scene_of(seed), np.random.default_rng(seed), frame=seed % FRAMES)[1]
        assert words.light is None and all(subject.motion is None for subject in words.subjects)


def test_the_phrases_name_each_concept():
    subject = SubjectWords("star", "red", "striped", "big", "clockwise")
    words = Words((subject,), "glowing", "blue", "checkered", "fading")
    assert phrases_of(words) == Phrases(
        ("big red striped star", "glowing style", "checkered blue background"),
        ("circling clockwise", "in fading light"),
    )
    twins = replace(words, subjects=(replace(subject, shape="moon"), subject), light="steady")
    assert phrases_of(twins).spatial[:2] == ("big red striped moon", "big red striped star")
    assert phrases_of(twins).temporal == ("circling clockwise",)


def test_the_phrases_are_such_as_a_concept_file_holds():
    for scene in scenes(100):
        phrases = phrases_of(words_of(scene))
        assert check_phrases({"spatial": list(phrases.spatial), "temporal": list(phrases.temporal)}, "video") == phrases
        spatial = phrases_of(words_of(scene, frame=0)).spatial
        assert check_phrases({"spatial": list(spatial)}, "image").spatial == spatial


def test_many_captions_keep_the_phrases_words():
    kept = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        text, words = caption(sample_scene(rng), rng)
        kept += keeps_phrases(text, phrases_of(words).all)
    assert kept > 60


def test_a_prompt_with_links_claims_the_words_inside_them():
    prompt = (
        "A [big red striped star](a) [circling clockwise](b) and a small moon that is bouncing, on a blue background."
    )
    assert parse(re.sub(r"\[(.*?)\]\(\w+\)", r"\1", prompt)) == Words(
        (
            SubjectWords("star", "red", "striped", "big", "clockwise"),
            SubjectWords("moon", None, None, "small", "bouncing"),
        ),
        background="blue",
    )


def test_agreement_minds_neither_order_nor_what_is_left_out():
    star, moon = SubjectWords("star", "red", motion="left"), SubjectWords("moon", "blue", "plain", "small", "up")
    seen = Words((moon, replace(star, size="big")), "flat", "black", "plain", "steady")
    assert agreement(Words((star, moon), "flat"), seen) == dict.fromkeys(
        ("count", "shape", "colour", "texture", "size", "motion", "style"), True
    )
    wrong = agreement(Words((replace(star, colour="pink"), moon), background="grey"), seen)
    assert [name for name, right in wrong.items() if not right] == ["colour", "background"]
    assert agreement(Words((star,)), seen) == {"count": False, "shape": False, "colour": False, "motion": False}


# Oracle


def readings(kind: str, damage: str, count: int) -> list[tuple[Scene, int | None, Seen]]:
    """Held-out scenes, the frame of each that was looked at (None: all), and what was seen."""
    found = []
    for seed in range(HELD_OUT, HELD_OUT + count):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        frame = None if kind == "clip" else int(rng.integers(FRAMES))
        frames = render(scene) if frame is None else render(scene, [frame])
        frames = degraded(frames, rng) if damage == "degraded" else frames
        found.append((scene, frame, read_clip(frames if frame is None else frames[0])))
    return found


@pytest.fixture(scope="module")
def clips() -> list[tuple[Scene, None, Seen]]:
    return readings("clip", "clean", 200)


def accuracies(found: list[tuple[Scene, int | None, Seen]]) -> dict[str, float]:
    right: dict[str, list[bool]] = {}
    for scene, frame, seen in found:
        for name, agrees in agreement(words_of(scene, frame), seen.words).items():
            right.setdefault(name, []).append(agrees)
    return {name: float(np.mean(each)) for name, each in right.items()}


def test_the_oracle_is_right_on_clips(clips):
    found = accuracies(clips)
    assert set(found) == {"count", *WORDINGS} and min(found.values()) >= 0.98, found


@pytest.mark.parametrize(
    ("kind", "damage", "count", "least"),
    [("frame", "clean", 300, 0.98), ("clip", "degraded", 100, 0.96), ("frame", "degraded", 300, 0.96)],
)
def test_the_oracle_is_right_on(kind, damage, count, least):
    found = accuracies(readings(kind, damage, count))
    assert min(found.values()) >= least, found


def test_the_oracle_is_right_on_clips_that_went_through_a_file(tmp_path):
    found = []
    for seed in range(HELD_OUT, HELD_OUT + 12):
        scene = scene_of(seed)
        write_video(tmp_path / "clip.mp4", render(scene), fps=16)
        found.append((scene, None, read_clip(read_frames(tmp_path / "clip.mp4"))))
    assert min(accuracies(found).values()) >= 0.9, accuracies(found)


def pairs(clips: list[tuple[Scene, None, Seen]]):
    """The subjects of the scenes with what was seen of them."""
    for scene, _, seen in clips:
        for subject in scene.subjects:
            yield subject, min(seen.subjects, key=lambda one: np.abs(one.pose[:, :2] - poses(subject)[:, :2]).max())


def test_the_oracle_measures_what_the_words_leave_open(clips):
    colours, radii, angles, periods = [], [], [], []
    for subject, seen in pairs(clips):
        colours.append(colour_distance(subject.shade, seen.shade))
        radii.append(np.abs(seen.pose[:, 2] - poses(subject)[:, 2]).mean())
        if subject.texture != "plain":
            half = 90 if subject.texture == "striped" else 45
            turned = np.degrees(seen.angle - subject.angle - poses(subject)[0, 3])
            angles.append(np.abs((turned + half) % (2 * half) - half))
            periods.append(np.abs(seen.period / subject.period - 1))
    assert np.median(colours) < 0.3 and np.quantile(colours, 0.95) < 1.5
    assert np.median(radii) < 0.3 and np.max(radii) < 1.5
    assert np.median(angles) < 1 and np.quantile(angles, 0.95) < 4
    assert np.median(periods) < 0.03 and np.quantile(periods, 0.95) < 0.1


def test_the_trajectory_of_a_render_is_its_scenes(clips):
    for subject, seen in pairs(clips):
        correlation, speed = motion_match(in_pixels(seen.pose), in_pixels(poses(subject)))
        if subject.motion.word != "still":
            assert correlation > 0.99 and 0.85 < speed < 1.15
        if subject.motion.word not in ("still", "spinning", "growing", "shrinking"):
            correlation, speed = motion_match(seen.pose[:, :2], poses(subject)[:, :2])
            assert correlation > 0.99 and 0.9 < speed < 1.1


def test_the_light_is_measured(clips):
    for scene, _, seen in clips:
        np.testing.assert_allclose(seen.light, light_levels(scene.light), atol=0.04)


def test_a_clip_is_told_from_another_scenes_words_path_and_colour(clips):
    single = [(scene, seen) for scene, _, seen in clips if len(scene.subjects) == 1]
    agreeing, correlations, distances = [], [], []
    for (scene, _), (_, seen) in zip(single, single[1:] + single[:1], strict=True):
        agreeing.append(agreement(words_of(scene), seen.words))
        distances.append(colour_distance(scene.subjects[0].shade, seen.subjects[0].shade))
        correlations.append(motion_match(in_pixels(seen.subjects[0].pose), in_pixels(poses(scene.subjects[0])))[0])
    assert not any(all(each.values()) for each in agreeing)
    for name, chance in {
        "shape": 1 / 6,
        "colour": 1 / 8,
        "motion": 1 / 14,
        "background": 1 / 6,
        "style": 1 / 3,
    }.items():
        assert abs(np.mean([each[name] for each in agreeing]) - chance) < 0.12
    assert abs(np.nanmean(correlations)) < 0.2 and np.mean(np.array(correlations) > 0.9) < 0.1
    assert np.median(distances) > 20


def test_a_subject_that_goes_the_same_way_faster_is_told_by_its_speed():
    path = np.column_stack([np.arange(FRAMES) * 0.2, np.zeros(FRAMES)])
    assert motion_match(1.5 * path + 10, path) == pytest.approx((1, 1.5))
    assert motion_match(-path, path) == pytest.approx((-1, 1))
    assert np.isnan(motion_match(path, np.zeros((FRAMES, 2)))).all()


def test_an_empty_frame_shows_no_subject():
    seen = read_clip(np.full((SIZE, SIZE, 3), 30, np.uint8))
    assert seen.words == Words((), None, "black", "plain", None)


def test_frames_of_no_such_world_are_looked_at_without_an_error():
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 256, (5, 8, 8, 3)), np.ones((1, 8, 8, 1)))
    for frames in (rng.integers(0, 256, (9, SIZE, SIZE, 3)), blocks, blocks[0], np.full((3, SIZE, SIZE, 3), 255)):
        assert len(read_clip(frames.astype(np.uint8)).subjects) <= 4


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="64 x 64 x 3, found \\[2, 32, 64, 3\\]"):
        read_clip(np.zeros((2, 32, 64, 3), np.uint8))
