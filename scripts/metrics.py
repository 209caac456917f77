"""python scripts/metrics.py --measured seed0.mp4.metrics.json ... --output metrics.csv --settings settings.json

Gathers the metrics of a method's results in one table. Settings: results.
"""

from bico.evaluate.comparison import TableSettings, write_metrics
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--measured", nargs="*", default=[], help="of each result, in the order of the settings")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    write_metrics(stage_settings(TableSettings, given.settings), given.measured, given.output)


if __name__ == "__main__":
    run(main)
