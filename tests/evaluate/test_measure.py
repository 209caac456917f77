"""The metrics of one result."""

import json
from itertools import permutations
from statistics import harmonic_mean as of_statistics

import numpy as np
import pytest

from bico.evaluate.features import write_tracks
from bico.evaluate.measure import MeasureSettings, appearance_rows, harmonic_mean, measure
from bico.media.video import write_image, write_video
from tests.evaluate.test_motion import RIGHT, clip, line


def unit(*shape: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


def values(rows) -> dict[tuple[str, str], float]:
    return {(row.metric, row.concept): row.value for row in rows}


def test_clip_t_is_the_mean_cosine_of_frames_and_text():
    result = {"clip": unit(5, 8, seed=0), "clip_text": unit(8, seed=1)}
    cosines = [float(np.dot(frame, result["clip_text"])) for frame in result["clip"]]
    assert values(appearance_rows(result, {})) == {("clip_t", ""): pytest.approx(np.mean(cosines))}


def test_dino_i_is_the_harmonic_mean_of_the_sources_whatever_their_order():
    towards = unit(16, seed=9)
    media = {name: {"dino": unit(count, 16, seed=count) + towards} for name, count in (("a", 4), ("b", 1), ("c", 7))}
    result, found = {"dino": unit(6, 16, seed=2) + towards}, []
    for order in permutations(media):
        rows = values(appearance_rows(result, {name: media[name] for name in order}))
        assert rows["dino_i", ""] == pytest.approx(of_statistics([rows["dino", name] for name in media]))
        found.append(rows)
    assert all(rows == found[0] | {("dino_i", ""): pytest.approx(found[0]["dino_i", ""])} for rows in found)


def test_what_is_the_same_scores_one_and_a_source_of_another_kind_less():
    one, other = {"dino": unit(3, 16, seed=0)}, {"dino": unit(3, 16, seed=1)}
    rows = values(appearance_rows(one, {"same": one, "other": other}))
    assert rows["dino", "same"] == pytest.approx(1) and rows["dino", "other"] < 0.7
    assert harmonic_mean([1.0, -0.2]) == 0


def test_a_result_without_sources_has_no_dino_i_and_says_why():
    (row,) = appearance_rows({"dino": unit(3, 16, seed=0)}, {})
    assert (row.metric, row.value, row.reason) == ("dino_i", None, "it has no source")


@pytest.fixture
def media(tmp_path):
    write_video(tmp_path / "result.mp4", clip(RIGHT), 15)
    write_video(tmp_path / "slide.mp4", clip(RIGHT), 15)
    write_video(tmp_path / "rests.mp4", clip(line((30, 30), (0, 0))), 15)
    write_image(tmp_path / "red.png", clip(RIGHT)[0])
    for name in ("result", "slide", "rests"):
        write_tracks(tmp_path / f"{name}.mp4", tmp_path / f"{name}.mp4.tracks.safetensors")
    return tmp_path


def measured(media, result: str, sources: dict[str, str], *metrics: str, **settings) -> dict[tuple[str, str], tuple]:
    kinds = tuple((name, "image" if path.endswith(".png") else "video") for name, path in sources.items())
    paths = [media / path for path in sources.values()]
    tracks = [
        path for path in (f"{each}.tracks.safetensors" for each in (media / result, *paths)) if (media / path).is_file()
    ]
    output = media / "metrics.json"
    measure(MeasureSettings(metrics, kinds, **settings), output, media / result, paths, tracks=tracks)
    return {(row["metric"], row["concept"]): (row["value"], row["reason"]) for row in json.loads(output.read_text())}


def test_a_source_that_cannot_be_moved_like_is_named_with_the_reason(media):
    found = measured(media, "result.mp4", {"s": "slide.mp4", "r": "rests.mp4", "i": "red.png"}, "motion")
    assert found["motion", "s"][0] > 0.9
    assert found["motion", "r"] == (None, "nothing moves in 'r'")
    assert found["motion", "i"] == (None, "'i' is an image")
    assert found["dynamic_degree", ""][0] > 1 and found["smoothness", ""][0] > 0.5


def test_a_still_has_no_motion_and_says_so(media):
    found = measured(media, "red.png", {"s": "slide.mp4"}, "motion")
    assert set(found.values()) == {(None, "the result is a still")}
    assert found.keys() == {("dynamic_degree", ""), ("smoothness", ""), ("flicker", ""), ("motion", "s")}


def test_a_module_of_ones_own_measures_too(media, monkeypatch):
    (media / "brightness.py").write_text(
        "from bico.evaluate.measure import Measurement\n"
        "from bico.media.video import read_frames\n"
        "def measure(result, sources, pieces):\n"
        "    yield Measurement('brightness', float(read_frames(result).mean()), meaning=f'{len(sources)}, {pieces}')\n"
    )
    monkeypatch.syspath_prepend(str(media))
    found = measured(media, "red.png", {"s": "slide.mp4"}, "brightness", pieces=(("a square", "s"),))
    assert found["brightness", ""][0] == pytest.approx(clip(RIGHT)[0].mean(), abs=1)
