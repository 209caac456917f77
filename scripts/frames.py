"""python scripts/frames.py --clip boat.mp4 --folder boat --output boat.zip

Writes every frame of a clip (or an image, as one frame) to one zip of JPEGs: boat/00000.jpg, boat/00001.jpg, ...
"""

import argparse

from bico.media.video import write_frames_zip
from bico.runtime.command import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", required=True, help="a video or an image")
    parser.add_argument("--folder", required=True, help="the folder inside the zip that holds the frames")
    parser.add_argument("--output", required=True, help="the zip to write")
    arguments = parser.parse_args()
    write_frames_zip(arguments.clip, arguments.output, arguments.folder)


if __name__ == "__main__":
    run(main)
