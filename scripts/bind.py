"""accelerate launch --num_processes 1 scripts/bind.py --latents latents.safetensors --prompts prompts.safetensors \\
    --transformers transformer.json --output stage1.safetensors --log stage1.jsonl \\
    --settings settings.json

Trains one stage of a concept's binders, on one process or several; resumes where it was killed. `python` does as well
as `accelerate launch` for one process.
"""

from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments, compute_of


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--latents", required=True)
    arguments.add_argument("--prompts", required=True, help="encoded prompts")
    arguments.add_argument("--transformers", nargs="+", required=True, help="manifests or folders: one, or two experts")
    arguments.add_argument("--start-from", nargs="?", help="the binder of stage 1, for stage 2")
    arguments.add_argument("--output", required=True, help="the binder")
    arguments.add_argument("--log", required=True, help="the log, a JSON object a line")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    add_compute_arguments(arguments, training=True, saves=True)
    given = arguments.parse_args()

    from bico.methods.bico.train import BindSettings, train
    from bico.settings.stage import stage_settings

    inputs = (given.latents, given.prompts, given.transformers, given.start_from)
    train(stage_settings(BindSettings, given.settings), *inputs, given.output, given.log, compute_of(given))


if __name__ == "__main__":
    run(main)
