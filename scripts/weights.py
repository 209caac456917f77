"""python scripts/weights.py --model config/models/wan2.1-t2v-1.3b.yaml --weights resources/weights

Gets a model's weights: shows the sizes, downloads what comes from the hub (resuming), builds what a local command
builds, and writes each component's manifest (revision, sizes, SHA-256).
"""

from bico.command import parser, run
from bico.settings import load_model
from bico.weights import fetch_weights


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", required=True, help="a model file")
    arguments.add_argument("--weights", default="resources/weights", help="where to (default: %(default)s)")
    arguments.add_argument("--dry-run", action="store_true", help="show the sizes only")
    given = arguments.parse_args()
    fetch_weights(load_model(given.model, given.weights), given.dry_run)


if __name__ == "__main__":
    run(main)
