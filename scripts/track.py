"""python scripts/track.py --media seed0.mp4 --output seed0.mp4.tracks.safetensors

Tracks what moves in a video, by optical flow.
"""

from bico.evaluate.features import write_tracks
from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--media", required=True, help="a video")
    arguments.add_argument("--output", required=True)
    given = arguments.parse_args()
    write_tracks(given.media, given.output)


if __name__ == "__main__":
    run(main)
