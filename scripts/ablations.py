"""python scripts/ablations.py --logs stage2.jsonl --output ablations.md --csv ablations.csv --settings settings.json

Tells in one table what each ablation does to the validation loss. Settings: methods, the switches of
each; kinds, of the concepts whose logs each method has.
"""

from bico.methods.bico.switches import paper
from bico.report.ablations import AblationSettings, ablation_rows, write_table
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--logs", nargs="+", required=True, help="the log of each method's concepts' last stages")
    arguments.add_argument("--output", required=True, help="the table in Markdown")
    arguments.add_argument("--csv", required=True, help="the table as CSV")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    rows = ablation_rows(stage_settings(AblationSettings, given.settings), given.logs, paper())
    write_table(rows, given.output, given.csv)


if __name__ == "__main__":
    run(main)
