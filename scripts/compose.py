"""python scripts/compose.py --binders akita/stage1.safetensors gaming/stage2.safetensors \\
    --tokenizer TOKENIZER --text-encoder ENCODER --transformers TRANSFORMER --output bound.safetensors \\
    --settings '{"prompt": "[A dog](akita) [plays](gaming).", "negative_prompt": "", "text_length": 512}'

Encodes a prompt once and binds its words to their concepts, for each block of the transformer.
"""

from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments, compute_of


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--binders", nargs="*", default=[], help="one for each concept, in the prompt's order")
    arguments.add_argument("--tokenizer", required=True, help="manifest or folder of the text encoder's tokenizer")
    arguments.add_argument("--text-encoder", required=True, help="manifest or folder of a UMT5EncoderModel")
    arguments.add_argument("--transformers", nargs="+", required=True, help="manifests or folders: one, or two experts")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    add_compute_arguments(arguments, encodes=True)
    given = arguments.parse_args()

    from bico.methods.bico.compose import ComposeSettings, compose
    from bico.settings.stage import stage_settings

    components = (given.tokenizer, given.text_encoder, given.transformers)
    compose(
        stage_settings(ComposeSettings, given.settings), given.binders, *components, given.output, compute_of(given)
    )


if __name__ == "__main__":
    run(main)
