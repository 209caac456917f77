"""python scripts/frames.py --clip boat.mp4 --folder boat --output boat.zip

Writes every frame of a clip (or an image, as one frame) to one zip of JPEGs: boat/00000.jpg, boat/00001.jpg, ...
"""

from bico.media.video import write_frames_zip
from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--clip", required=True, help="a video or an image")
    arguments.add_argument("--folder", required=True, help="the folder inside the zip that holds the frames")
    arguments.add_argument("--output", required=True, help="the zip to write")
    given = arguments.parse_args()
    write_frames_zip(given.clip, given.output, given.folder)


if __name__ == "__main__":
    run(main)
