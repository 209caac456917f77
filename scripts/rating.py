"""python scripts/rating.py --results seed0.mp4 --concepts akita --sources akita.png --page rating/index.html \\
    --key rating_key.csv --settings settings.json

Writes a page on which people rate results without knowing what made them. Settings: results, sources, prompts, seed.
"""

from bico.evaluate.rating import RatingSettings, write_rating_page
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--results", nargs="+", required=True, help="in the order of the settings' results")
    arguments.add_argument("--concepts", nargs="*", default=[], help="the concepts of the sources")
    arguments.add_argument("--sources", nargs="*", default=[], help="the media of each of these concepts")
    arguments.add_argument("--page", required=True, help="index.html, in a folder of its own")
    arguments.add_argument("--key", required=True, help="which method made what, not for raters")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    sources = dict(zip(given.concepts, given.sources, strict=True))
    write_rating_page(stage_settings(RatingSettings, given.settings), given.results, sources, given.page, given.key)


if __name__ == "__main__":
    run(main)
