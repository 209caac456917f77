"""python toyworld/scripts/publish.py --folder results/world --output resources/world

Puts the trained models of the procedural world where the pipeline finds them, with a card of their figures.
"""

from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--folder", required=True, help="vae/, vlm/, transformer/, with their logs and reports")
    arguments.add_argument("--output", required=True, help="the folder of the world's models")
    arguments.add_argument("--notes", default="", help="for the card: what is to be said of the training besides")
    given = arguments.parse_args()

    from toyworld.training.card import publish

    publish(given.folder, given.output, given.notes)


if __name__ == "__main__":
    run(main)
