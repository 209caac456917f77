"""python scripts/prompts.py --media boat.mp4 --concept boat --phrases boat.json --output boat_prompts.csv \\
    --report boat_prompts.report.json --settings '{"writer": "vlm"}' --vlm Qwen2.5-VL-7B-Instruct

Writes the training prompts of a video or an image, `count` of them, or of a zip of frames, one spatial prompt each.
Without a model: --settings '{"writer": "template"}'. The report holds the shares of prompts that keep all their key
phrases. Settings: writer, count, seed, temperature, top_k, top_p, max_new_tokens, attempts, dtype, text_length.
"""

from bico.prompts.diversify import PromptSettings, write_training_prompts
from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments, compute_of
from bico.settings.stage import stage_settings


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--media", required=True, help="a video, an image, or frames as scripts/frames.py writes them"
    )
    arguments.add_argument("--concept", required=True, help="the concept's name: the folder in the frames' paths")
    arguments.add_argument("--phrases", required=True, help="the concept file of scripts/concepts.py")
    arguments.add_argument("--output", required=True, help="the prompts to write (.csv)")
    arguments.add_argument("--report", required=True, help="the report to write (.json)")
    arguments.add_argument("--settings", type=settings_argument, default={})
    arguments.add_argument("--vlm", nargs="?", help="manifest or folder of a Qwen2_5_VLForConditionalGeneration")
    arguments.add_argument("--tokenizer", nargs="?", help="the text encoder's: no prompt is longer than text_length")
    add_compute_arguments(arguments)
    given = arguments.parse_args()
    files = (given.media, given.concept, given.phrases, given.vlm, given.tokenizer, given.output, given.report)
    write_training_prompts(stage_settings(PromptSettings, given.settings), *files, compute_of(given))


if __name__ == "__main__":
    run(main)
