"""python toyworld/scripts/build_tiny.py resources/weights/tiny

Builds the tiny model: small random components of the real classes, from a seed, in seconds.
"""

from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("folder", help="where to; replaced if it is there")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    from toyworld.tiny.build import build

    build(given.folder, given.seed)


if __name__ == "__main__":
    run(main)
