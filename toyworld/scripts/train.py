"""python toyworld/scripts/train.py vae --output results/world/vae --log vae.jsonl --minutes 150
python toyworld/scripts/train.py transformer --vae resources/world/vae --output results/world/t2v --log t2v.jsonl

Trains a model of the procedural world, in pieces: told to stop, or after so many minutes, it saves itself and leaves
with status 75, and the same command goes on; the model as it is by then lies in model/ under .runs/ beside the output.
"""

import math
from importlib import import_module

from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments

MODELS = ("vae", "vlm", "transformer")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("model", choices=MODELS)
    arguments.add_argument("--output", required=True, help="the folder of the model that is to be trained")
    arguments.add_argument("--log", required=True, help="of the training, a JSON object a line")
    arguments.add_argument("--settings", type=settings_argument, default={}, help="what differs from its SETTINGS")
    arguments.add_argument("--vae", help="the folder of the world's VAE; the transformer learns its latents")
    arguments.add_argument("--start-from", help="the folder of a model to begin with")
    arguments.add_argument("--minutes", type=float, default=math.inf, help="the most that this piece takes")
    arguments.add_argument("--workers", type=int, default=0, help="processes that draw examples")
    arguments.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of the training")
    arguments.add_argument("--compile", action="store_true", help="the transformer; needs a C++ compiler")
    add_compute_arguments(arguments, saves=True)
    given = arguments.parse_args()
    if (given.vae is None) == (given.model == "transformer"):
        arguments.error("--vae goes with the transformer")
    module = import_module(f"toyworld.training.{given.model}")
    how = {name: getattr(given, name) for name in ("device", "precision", "start_from")}
    how |= {name: getattr(given, name) for name in ("minutes", "checkpoint_minutes", "workers")}
    how |= {"vae": given.vae, "compiled": given.compile} if given.vae else {}
    module.train(given.settings, output=given.output, log_file=given.log, **how)


if __name__ == "__main__":
    run(main)
