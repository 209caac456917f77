"""python scripts/encode_prompts.py --prompts akita_prompts.csv --tokenizer TOKENIZER --text-encoder ENCODER \\
    --output prompts.safetensors --settings settings.json

Encodes the prompts of a CSV with the text encoder. Settings: text_length, dtype.
"""

from bico.runtime.command import add_compute_arguments, parser, run, settings_argument


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--prompts", required=True, help="CSV with the header video,prompt")
    arguments.add_argument("--tokenizer", required=True, help="manifest or folder of the text encoder's tokenizer")
    arguments.add_argument("--text-encoder", required=True, help="manifest or folder of a UMT5EncoderModel")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    add_compute_arguments(arguments, encodes=True)
    given = arguments.parse_args()

    from bico.encode.embeds import TextEncoder
    from bico.models.devices import pick_device, pick_dtype

    settings, device = given.settings, pick_device(given.device)
    placed = (settings["text_length"], device, pick_dtype(settings["dtype"], device), given.offload, given.embeds)
    TextEncoder(given.tokenizer, given.text_encoder, *placed).encode_csv(given.prompts, given.output)


if __name__ == "__main__":
    run(main)
