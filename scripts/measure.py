"""python scripts/measure.py --result seed0.mp4 --sources akita.png gaming.mp4 --tracks *.tracks.safetensors \\
    --output seed0.mp4.metrics.json --settings settings.json

Measures a result: how well it fits its prompt and keeps its sources, and how it moves. Settings: metrics, sources,
pieces.
"""

from bico.evaluate.measure import MeasureSettings, measure
from bico.runtime.command import parser, run, settings_argument
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--result", required=True, help="a video or an image")
    arguments.add_argument("--sources", nargs="*", default=[], help="the sources' clips, in the order of the settings")
    arguments.add_argument("--features", nargs="*", default=[], help="of the result and of its sources")
    arguments.add_argument("--tracks", nargs="*", default=[], help="of the result and of its sources")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    given = arguments.parse_args()
    settings = stage_settings(MeasureSettings, given.settings)
    measure(settings, given.output, given.result, given.sources, given.features, given.tracks)


if __name__ == "__main__":
    run(main)
