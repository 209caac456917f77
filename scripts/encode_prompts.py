"""python scripts/encode_prompts.py --prompts akita_prompts.csv --tokenizer TOKENIZER --text-encoder ENCODER \\
    --output prompts.safetensors --settings settings.json

Encodes the prompts of a CSV with the text encoder. Settings: text_length, dtype.
"""

from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments, compute_of


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--prompts", required=True, help="CSV with the header video,prompt")
    arguments.add_argument("--tokenizer", required=True, help="manifest or folder of the text encoder's tokenizer")
    arguments.add_argument("--text-encoder", required=True, help="manifest or folder of a UMT5EncoderModel")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    add_compute_arguments(arguments, encodes=True)
    given = arguments.parse_args()

    from bico.encode.embeds import EmbedSettings, encode_prompts
    from bico.settings.stage import stage_settings

    files = (given.prompts, given.tokenizer, given.text_encoder, given.output)
    encode_prompts(stage_settings(EmbedSettings, given.settings), *files, compute_of(given))


if __name__ == "__main__":
    run(main)
