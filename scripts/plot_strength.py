"""python scripts/plot_strength.py --bound bound.safetensors --output bound.png

Draws how strongly each word of a prompt is bound in each block.
"""

from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bound", required=True, help="a bound prompt")
    arguments.add_argument("--output", required=True)
    given = arguments.parse_args()

    from bico.report.strength import plot_strength

    plot_strength(given.bound, given.output)


if __name__ == "__main__":
    run(main)
