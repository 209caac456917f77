"""python toyworld/scripts/evaluate.py vae --folder results/world/vae --report vae.json
python toyworld/scripts/evaluate.py transformer --folder resources/world --vae resources/world/vae --report t2v.json

Says how well a model of the procedural world does on scenes that it was never trained on.
"""

from bico.models.devices import Placement
from bico.runtime.command import parser, run
from bico.runtime.compute import add_compute_arguments


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("model", choices=("vae", "vlm", "transformer"))
    arguments.add_argument("--folder", required=True, help="the model's; transformer/, text_encoder/, tokenizer/ in it")
    arguments.add_argument("--vae", help="the folder of the world's VAE, for the transformer's clips")
    arguments.add_argument("--report", required=True, help="to write (.json)")
    arguments.add_argument("--count", type=int, default=100, help="scenes or captions (default: %(default)s)")
    arguments.add_argument("--frames", type=int, default=81, help="of the transformer's clips (default: %(default)s)")
    arguments.add_argument("--sheet", help="shows the first of the transformer's clips under their captions (.jpg)")
    add_compute_arguments(arguments)
    given = arguments.parse_args()
    if given.model == "transformer" and given.vae is None:
        arguments.error("--vae is missing: the transformer's clips are latents")

    import torch

    from bico.models.devices import pick_device
    from bico.models.wan import load_vae
    from bico.runtime.files import write_json
    from toyworld.training.evaluation import evaluate_transformer, evaluate_vae, evaluate_vlm

    device = pick_device(given.device)
    if given.model == "vae":
        report = evaluate_vae(load_vae(given.folder, Placement(device, torch.float32)), given.count)
    elif given.model == "vlm":
        report = evaluate_vlm(given.folder, given.count, device=given.device)
    else:
        report = evaluate_transformer(given.folder, given.vae, device, given.count, given.frames, given.sheet)
    write_json(given.report, report)


if __name__ == "__main__":
    run(main)
