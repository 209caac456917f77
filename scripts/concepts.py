"""python scripts/concepts.py --clip boat.mp4 --output boat.json --vlm Qwen2.5-VL-7B-Instruct

Names the visual concepts of a video or an image. Settings: spatial, temporal, dtype. Phrases given there (from the
concept table) are written as they are and no model is loaded:
--settings '{"spatial": ["red boat"], "temporal": ["sails"]}'.
"""

from bico.prompts.concepts import ConceptSettings, write_concept
from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments, compute_of
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--clip", required=True, help="a video or an image")
    arguments.add_argument("--output", required=True, help="the concept file to write (.json)")
    arguments.add_argument("--settings", type=settings_argument, default={})
    arguments.add_argument("--vlm", nargs="?", help="manifest or folder of a Qwen2_5_VLForConditionalGeneration")
    add_compute_arguments(arguments)
    given = arguments.parse_args()
    write_concept(
        stage_settings(ConceptSettings, given.settings), given.clip, given.output, given.vlm, compute_of(given)
    )


if __name__ == "__main__":
    run(main)
