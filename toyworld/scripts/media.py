"""python toyworld/scripts/media.py --output resources/media/world

Draws the example's sources in the toy world: three pictures and two clips of one subject, a clip of two.
"""

from pathlib import Path

import numpy as np

from bico.media.video import write_image, write_video
from bico.runtime.command import parser, run
from toyworld.captions import phrases_of, words_of
from toyworld.scene import FPS, render, sample_scene

# The seeds were chosen for scenes that differ; the names say what they show.
IMAGES = {"striped_star": 3_500_502, "dotted_heart": 3_500_066, "glowing_moon": 3_500_003}
CLIPS = {"circling": 3_500_032, "bouncing": 3_500_014}
PAIRS = {"two_of_them": 3_500_000}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--output", required=True, help="the folder of the media")
    given = arguments.parse_args()
    folder = Path(given.output)
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in {**IMAGES, **CLIPS, **PAIRS}.items():
        scene = sample_scene(np.random.default_rng(seed), 2 if name in PAIRS else 1)
        frame = 40 if name in IMAGES else None
        print(name, *phrases_of(words_of(scene, frame)).all, sep="; ")
        if frame is None:
            write_video(folder / f"{name}.mp4", render(scene), FPS)
        else:
            write_image(folder / f"{name}.png", render(scene, [frame])[0])


if __name__ == "__main__":
    run(main)
