"""python scripts/page.py --output index.html --settings '{"method": "bico", "config": {"results": "results"}}'

Writes the results page of a method, results/bico/index.html. Settings: method; config, as in config.yaml.
"""

from pathlib import Path

from bico.plan.plan import Plan
from bico.report.page import PageSettings, write_page
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings
from bico.text.phrases import read_phrases


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--phrases", nargs="*", default=[], help="concept files: what can be linked")
    arguments.add_argument("--metrics", nargs="*", default=[], help="metrics.csv of the method, and of its twins")
    arguments.add_argument("--output", required=True, help="the page")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    settings = stage_settings(PageSettings, given.settings)
    phrases = {Path(path).stem: read_phrases(path).all for path in given.phrases}
    write_page(given.output, Plan.load(settings.config).page_content(settings.method), phrases, given.metrics)


if __name__ == "__main__":
    run(main)
