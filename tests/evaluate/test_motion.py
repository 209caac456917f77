"""What the tracks of a clip say of how it moves."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bico.evaluate.motion import MOVING, motion_features, motion_fidelity, moving, smoothness

FRAMES, SIZE = 12, 96
DIAGONAL = np.hypot(SIZE, SIZE)


def clip(*paths: np.ndarray, background: int = 40) -> np.ndarray:
    """Textured squares of 24 pixels, one along each path [F, 2] (x, y) of its upper left corner, before a wall."""
    wall = gaussian_filter(np.random.default_rng(99).normal(size=(SIZE, SIZE)), 1.5)
    frames = np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8) + np.round(background + 40 * wall).astype(np.uint8)[..., None]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).normal(size=(24, 24, 3))
        square = np.clip(150 + 160 * gaussian_filter(noise, (2, 2, 0)), 0, 255).astype(np.uint8)
        for frame, (x, y) in zip(frames, np.round(path).astype(int), strict=True):
            frame[y : y + 24, x : x + 24] = square
    return frames


def line(start: tuple[float, float], step: tuple[float, float]) -> np.ndarray:
    return np.array(start) + np.outer(np.arange(FRAMES), step)


RIGHT, LEFT, DOWN = line((10, 30), (3, 0)), line((50, 30), (-3, 0)), line((30, 10), (0, 3))


def tracks(*paths: np.ndarray) -> np.ndarray:
    return motion_features(clip(*paths))["tracks"]


def test_what_slides_is_tracked_at_its_speed_and_what_rests_stays():
    found = motion_features(clip(RIGHT))
    moved = (found["tracks"][:, -1] - found["tracks"][:, 0]) * DIAGONAL
    inside = np.all((found["tracks"][:, 0] * DIAGONAL > [14, 34]) & (found["tracks"][:, 0] * DIAGONAL < [30, 50]), 1)
    assert np.median(moved[inside], 0) == pytest.approx([3 * (FRAMES - 1), 0], abs=2.5)
    far = found["tracks"][:, 0, 1] * DIAGONAL > 75
    assert np.abs(moved[far]).max() < 1
    assert np.median(found["speed"]) * DIAGONAL == pytest.approx(3, abs=0.5)


def test_identical_clips_are_alike_others_are_not_and_a_mirrored_motion_is_the_opposite():
    assert motion_fidelity(tracks(RIGHT), tracks(RIGHT)) == pytest.approx(1, abs=1e-6)
    assert motion_fidelity(tracks(RIGHT), tracks(line((12, 50), (3, 0)))) > 0.8
    assert abs(motion_fidelity(tracks(RIGHT), tracks(DOWN))) < 0.5
    assert motion_fidelity(tracks(RIGHT), tracks(LEFT)) < 0


def test_the_fidelity_is_the_formula_of_the_paper_computed_track_by_track():
    rng = np.random.default_rng(0)
    ones, others = (np.cumsum(rng.normal(size=(count, 7, 2)), 1) for count in (5, 3))

    def correlation(a: np.ndarray, b: np.ndarray) -> float:
        v, w = np.diff(a, axis=0), np.diff(b, axis=0)
        return (v * w).sum() / np.sqrt((v**2).sum() * (w**2).sum())

    forth = np.mean([max(correlation(a, b) for b in others) for a in ones])
    back = np.mean([max(correlation(a, b) for a in ones) for b in others])
    assert motion_fidelity(ones, others) == pytest.approx((forth + back) / 2)


def test_a_clip_in_which_nothing_moves_scores_lowest_and_nothing_can_be_like_it():
    still = motion_features(clip(line((30, 30), (0, 0))))
    assert still["speed"].mean() < 1e-3 < motion_features(clip(RIGHT))["speed"].mean()
    assert not len(moving(still["tracks"])) and smoothness(still["tracks"]) is None
    assert motion_fidelity(still["tracks"], tracks(RIGHT)) == 0
    assert motion_fidelity(tracks(RIGHT), still["tracks"]) is None


def test_a_steady_motion_is_smoothest_and_one_that_turns_back_each_frame_least():
    steps = np.full((4, FRAMES - 1, 2), MOVING)
    steady = np.cumsum(np.concatenate([np.zeros((4, 1, 2)), steps], 1), 1)
    back_and_forth = np.cumsum(np.concatenate([np.zeros((4, 1, 2)), steps * (-1.0) ** np.arange(11)[:, None]], 1), 1)
    assert smoothness(steady) == pytest.approx(1)
    assert smoothness(back_and_forth) == pytest.approx(0)


def test_what_flickers_differs_more_from_its_moved_neighbours_than_what_moves():
    flickering = clip(RIGHT).astype(int) + 12 * (-1) ** np.arange(FRAMES)[:, None, None, None]
    calm, restless = (motion_features(each)["flicker"].mean() for each in (clip(RIGHT), flickering.astype(np.uint8)))
    assert calm < 0.02 < restless
    blinking = clip(line((30, 30), (0, 0)), background=40).astype(int)
    blinking[1::2] += 10  # with nothing that moves, it is the frames' difference
    assert motion_features(blinking.astype(np.uint8))["flicker"].mean() == pytest.approx(10 / 255, rel=0.1)


def test_clips_of_other_sizes_and_lengths_can_be_compared():
    large = clip(RIGHT).repeat(2, 1).repeat(2, 2)
    assert motion_fidelity(motion_features(large)["tracks"], tracks(RIGHT)) > 0.9
    assert motion_fidelity(motion_features(clip(RIGHT)[:8])["tracks"], tracks(RIGHT)) > 0.9
