"""python scripts/world_evaluate.py transformer --folder resources/world --report t2v.json --count 200

Says how well a model of the procedural world does on scenes that it was never trained on.
"""

from pathlib import Path

from bico.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("model", choices=("vae", "vlm", "transformer"))
    arguments.add_argument("--folder", required=True, help="of the world's models: vae/, vlm/, transformer/, ...")
    arguments.add_argument("--report", required=True, help="to write (.json)")
    arguments.add_argument("--count", type=int, default=100, help="scenes or captions (default: %(default)s)")
    arguments.add_argument("--frames", type=int, default=81, help="of the transformer's clips (default: %(default)s)")
    arguments.add_argument("--sheet", help="shows the first of the transformer's clips under their captions (.jpg)")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    given = arguments.parse_args()

    import torch

    from bico.devices import pick_device
    from bico.files import write_json
    from bico.wan import load_vae
    from bico.world import transformer, vae, vlm

    folder, device = Path(given.folder), pick_device(given.device)
    if given.model == "vae":
        report = vae.evaluate(load_vae(folder / "vae", device, torch.float32), given.count)
    elif given.model == "vlm":
        report = vlm.evaluate(folder / "vlm", given.count, device=given.device)
    else:
        report = transformer.evaluate(folder, folder / "vae", device, given.count, given.frames, given.sheet)
    write_json(given.report, report)


if __name__ == "__main__":
    run(main)
