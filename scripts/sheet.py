"""python scripts/sheet.py --result seed0.mp4 --sources akita.png gaming.mp4 --output seed0.jpg --settings settings.json

Draws the contact sheet of a rendered video: its sources' frames above its own, under its prompt. Settings: title,
pieces, sources, height, width.
"""

from bico.report.sheets import SheetSettings, composition_sheet
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--result", required=True, help="the rendered video or image")
    arguments.add_argument("--sources", nargs="*", default=[], help="the sources' clips, in the order of the settings")
    arguments.add_argument("--twin", nargs="?", help="what the same prompt and seed give where no word is bound")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    settings = stage_settings(SheetSettings, given.settings)
    composition_sheet(given.output, settings, given.sources, given.result, given.twin)


if __name__ == "__main__":
    run(main)
