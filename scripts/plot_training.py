"""python scripts/plot_training.py --log stage1.jsonl --output stage1.png --settings '{"title": "akita, stage 1"}'

Draws a training log: losses, the validation loss at each noise quantile against the unbound base, gamma.
"""

import json
from pathlib import Path

from bico.report.plots import PlotSettings, plot_training
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--log", required=True, help="a training log, a JSON object a line")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    entries = [json.loads(line) for line in Path(given.log).read_text("utf-8").splitlines()]
    plot_training(given.output, entries, stage_settings(PlotSettings, given.settings).title)


if __name__ == "__main__":
    run(main)
