"""python scripts/weights.py --model config/models/wan2.1-t2v-1.3b.yaml --weights resources/weights

Gets a model's weights: shows the sizes and the room on the disk, builds what a local command builds, adopts what was
copied there, downloads the rest (resuming), checks that all of it can be loaded, and writes each component's manifest
(origin, sizes, SHA-256).
"""

from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", required=True, help="a model file")
    arguments.add_argument("--weights", default="resources/weights", help="where to (default: %(default)s)")
    arguments.add_argument("--components", nargs="+", help="only these, such as vae (default: all)")
    arguments.add_argument("--dry-run", action="store_true", help="show the sizes only")
    given = arguments.parse_args()
    from bico.settings.model_file import load_model
    from bico.weights.fetch import fetch_weights

    fetch_weights(load_model(given.model, given.weights), given.components, given.dry_run)


if __name__ == "__main__":
    run(main)
