"""python scripts/world_vae.py --output resources/world/vae --log vae.jsonl --minutes 150
python scripts/world_vae.py --evaluate resources/world/vae --report vae.json

Trains the VAE of the procedural world, in pieces: told to stop, or after so many minutes, it saves itself and leaves
with status 75, and the same command goes on; the VAE as it is by then lies under .runs/ beside the output. Or says how
well a VAE gives held-out clips back.
"""

import math

from bico.command import parser, run, settings_argument


def main() -> None:
    arguments = parser(__doc__)
    what = arguments.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", help="the folder of the VAE that is to be trained")
    what.add_argument("--evaluate", help="the folder of a trained VAE")
    arguments.add_argument("--log", help="of the training, a JSON object a line")
    arguments.add_argument("--settings", type=settings_argument, default={}, help="what differs from SETTINGS")
    arguments.add_argument("--start-from", help="the folder of a VAE to begin with")
    arguments.add_argument("--minutes", type=float, default=math.inf, help="the most that this piece takes")
    arguments.add_argument("--checkpoint-minutes", type=float, default=5.0)
    arguments.add_argument("--workers", type=int, default=0, help="processes that draw clips")
    arguments.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of the training")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    arguments.add_argument("--report", help="of the evaluation, JSON")
    arguments.add_argument("--scenes", type=int, default=32, help="of the evaluation (default: %(default)s)")
    given = arguments.parse_args()
    needed = "log" if given.output else "report"
    if not getattr(given, needed):
        arguments.error(f"--{needed} is missing")

    import torch

    from bico.devices import pick_device
    from bico.files import write_json
    from bico.wan import load_vae
    from bico.world.vae import evaluate, train

    if given.evaluate:
        vae = load_vae(given.evaluate, pick_device(given.device), torch.float32)
        write_json(given.report, evaluate(vae, given.scenes))
        return
    train(
        given.settings, given.output, given.log, given.device, given.precision, given.start_from,
        minutes=given.minutes, checkpoint_minutes=given.checkpoint_minutes, workers=given.workers,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
