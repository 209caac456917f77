"""python scripts/trim.py --source boat.mov --output boat.mp4 --settings '{"frames": 81, "fps": 16, "start": "1.5s"}'

Makes a clip of exactly as many frames as asked out of a video, or an upright RGB PNG out of an image.
"""

from bico.media.video import TrimSettings, media_kind, normalise_image, trim
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--source", required=True, help="a video or an image")
    arguments.add_argument(
        "--output", required=True, help="the clip (.mp4), or the image (.png) when the source is one"
    )
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    if media_kind(given.source) == "image":
        normalise_image(given.source, given.output)
    else:
        trim(given.source, given.output, **vars(stage_settings(TrimSettings, given.settings)))


if __name__ == "__main__":
    run(main)
