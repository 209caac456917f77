"""python scripts/external.py --video elsewhere/portrait/seed0.mp4 --output seed0.mp4 --made seed0.mp4.json \\
    --settings '{"frames": 81}'

Takes a video that was made elsewhere as a composition's result, and says where it is from.
"""

from bico.methods.external.take import ExternalSettings, take
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--video", required=True, help="the video (.mp4), or the image (.png)")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--made", required=True, help="the provenance, a JSON file")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    take(stage_settings(ExternalSettings, given.settings), given.video, given.output, given.made)


if __name__ == "__main__":
    run(main)
