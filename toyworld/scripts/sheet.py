"""python toyworld/scripts/sheet.py --output docs/world.jpg

Draws scenes of the procedural world under their captions.
"""

import numpy as np

from bico.report.sheets import contact_sheet
from bico.runtime.command import parser, run
from toyworld.captions import caption
from toyworld.scene import render, sample_scene


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--seed", type=int, default=2185, help="of the first scene (default: %(default)s)")
    arguments.add_argument("--scenes", type=int, default=10, help="(default: %(default)s)")
    given = arguments.parse_args()
    rows = []
    for seed in range(given.seed, given.seed + given.scenes):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        rows.append((caption(scene, rng)[0], render(scene)))
    contact_sheet(given.output, rows, columns=8, thumb_height=96, quality=65)


if __name__ == "__main__":
    run(main)
