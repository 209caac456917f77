"""python scripts/ablations.py --logs stage2.jsonl --output ablations.md --csv ablations.csv --settings settings.json

Tells in one table what each ablation does to the validation loss. Settings: methods; config, as in config.yaml.
"""

from bico.ablations import row, write_table
from bico.command import parser, run, settings_argument
from bico.pipeline import Pipeline
from bico.settings import paper


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--logs", nargs="+", required=True, help="the log of each method's concepts' last stages")
    arguments.add_argument("--output", required=True, help="the table in Markdown")
    arguments.add_argument("--csv", required=True, help="the table as CSV")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    pipeline = Pipeline.load(given.settings["config"])
    names = [log for method in pipeline.ablations() for log in pipeline.last_logs(method)]
    lies = dict(zip(names, given.logs, strict=True))  # not where it is named, if the results are in a storage

    def logs(method: str, kind: str) -> list[str]:
        return [lies[log] for log in pipeline.last_logs(method, kind)]

    rows = [
        row(name, switches, paper(), logs(name, "image"), logs(name, "video"))
        for name, switches in given.settings["methods"].items()
    ]
    write_table(rows, given.output, given.csv)


if __name__ == "__main__":
    run(main)
