"""python scripts/compare.py --metrics results/bico/metrics.csv results/unbound/metrics.csv --output results/compare.md
\\ --settings settings.json

Compares methods by their metrics and by what they cost; writes .md, .csv and .html. Settings: methods, results.
"""

from bico.evaluate.comparison import read_metrics, write_comparison
from bico.evaluate.costs import CostSettings, costs
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--metrics", nargs="+", required=True, help="each method's metrics.csv")
    arguments.add_argument("--output", required=True, help="the table, .md")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    settings = stage_settings(CostSettings, given.settings)
    write_comparison(given.output, read_metrics(given.metrics), costs(settings))


if __name__ == "__main__":
    run(main)
