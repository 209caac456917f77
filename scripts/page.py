"""python scripts/page.py --output index.html --settings '{"method": "bico", "config": {"results": "results"}}'

Writes the results page of a method, results/bico/index.html. Settings: method; config, as in config.yaml.
"""

from bico.command import parser, run, settings_argument
from bico.pipeline import Pipeline


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--output", required=True, help="the page")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    Pipeline.load(given.settings["config"]).write_page(given.settings["method"], given.output)


if __name__ == "__main__":
    run(main)
