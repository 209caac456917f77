"""python scripts/trim.py --source boat.mov --output boat.mp4 --settings '{"frames": 81, "fps": 16, "start": "1.5s"}'

Makes a clip of exactly as many frames as asked out of a video, or an upright RGB PNG out of an image.
"""

import argparse

from bico.media.video import media_kind, normalise_image, trim
from bico.runtime.command import run, settings_argument

SETTINGS = "frames, and optionally start, fps, short"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="a video or an image")
    parser.add_argument("--output", required=True, help="the clip (.mp4), or the image (.png) when the source is one")
    parser.add_argument(
        "--settings",
        type=settings_argument,
        required=True,
        help=f"JSON object, or JSON or YAML file; for a video: {SETTINGS}",
    )
    arguments = parser.parse_args()
    if media_kind(arguments.source) == "image":
        normalise_image(arguments.source, arguments.output)
    elif "frames" not in arguments.settings or arguments.settings.keys() - {"frames", "start", "fps", "short"}:
        parser.error(f"--settings has {', '.join(arguments.settings) or 'nothing'}; {SETTINGS}")
    else:
        trim(arguments.source, arguments.output, **arguments.settings)


if __name__ == "__main__":
    run(main)
