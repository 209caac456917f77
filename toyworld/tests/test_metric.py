"""The oracle as a metric of the workflow, on clean renders of which the truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from bico.media.video import write_image, write_video
from toyworld.benchmark import sources
from toyworld.metric import measure
from toyworld.scene import FPS, render

IMAGE, VIDEO = sources()["i00"], sources()["v03"]
PIECES = [(IMAGE.phrase(), "picture"), (VIDEO.motion, "clip")]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    write_image(folder / "picture.png", render(IMAGE.scene, [40])[0])
    write_video(folder / "clip.mp4", render(VIDEO.scene), FPS)
    return folder


def measured(media, result: str, pieces: list) -> dict[tuple[str, str], tuple[float | None, str]]:
    paths = {"picture": str(media / "picture.png"), "clip": str(media / "clip.mp4")}
    rows = measure(str(media / result), paths, pieces)
    return {(row.metric, row.concept): (row.value, row.reason) for row in rows}


def test_a_result_that_has_the_subject_of_the_picture_and_the_motion_of_the_clip_is_perfect(media):
    subject = IMAGE.scene.subjects[0]
    crossed = replace(subject, motion=VIDEO.scene.subjects[0].motion, centre=VIDEO.scene.subjects[0].centre)
    write_video(media / "crossed.mp4", render(replace(IMAGE.scene, subjects=(crossed,))), FPS)
    found = measured(media, "crossed.mp4", PIECES)
    assert found["shade", "picture"][0] < 3 and found["mean_colour", "picture"][0] < 3
    assert found["texture_kept", "picture"][0] == 1
    assert found["path", "clip"][0] > 0.99 and found["speed_error", "clip"][0] < 0.05
    assert found.keys() >= {("words", "")} and ("shade", "clip") not in found  # the clip's words name no shape


def test_another_subject_and_another_motion_are_far_from_their_sources(media):
    found = measured(media, "clip.mp4", PIECES)
    assert found["shade", "picture"][0] > 10
    assert found["path", "clip"][0] == pytest.approx(1)
    still = measured(media, "picture.png", PIECES)
    assert still["path", "clip"] == (None, "no subject is seen, or it does not move")


def test_words_are_the_share_of_the_prompt_that_is_there(media):
    words = IMAGE.words.subjects[0]
    assert measured(media, "picture.png", [(f"a {words.colour} {words.shape}", None)])["words", ""][0] == 1
    other = "moon" if words.shape == "star" else "star"
    found = measured(media, "picture.png", [(f"a {words.colour} {other}", None)])
    assert found["words", ""][0] == pytest.approx(2 / 3)
    assert measured(media, "picture.png", [("hello", None)])["words", ""][1]


def test_media_of_another_world_has_no_figures_and_says_why(media):
    write_image(media / "photo.png", np.zeros((90, 120, 3), np.uint8))
    found = measured(media, "photo.png", PIECES)
    assert all(value is None and "another size" in reason for value, reason in found.values())
