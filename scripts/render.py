"""python scripts/render.py --bound bound.safetensors --transformers TRANSFORMER --vae VAE --output seed0.mp4 \\
    --made seed0.mp4.json --settings settings.json

Renders a bound prompt to a video, or to an image when the output ends in .png, and says what made it.
"""

from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments, compute_of


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bound", required=True, help="a bound prompt")
    arguments.add_argument("--transformers", nargs="+", required=True, help="manifests or folders: one, or two experts")
    arguments.add_argument("--vae", required=True, help="manifest or folder of an AutoencoderKLWan")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--made", required=True, help="the provenance, a JSON file")
    arguments.add_argument("--settings", type=settings_argument, required=True)
    add_compute_arguments(arguments, saves=True)
    given = arguments.parse_args()

    from bico.render.render import RenderSettings, render
    from bico.settings.stage import stage_settings

    files = (given.bound, given.transformers, given.vae, given.output, given.made)
    render(stage_settings(RenderSettings, given.settings), *files, compute_of(given))


if __name__ == "__main__":
    run(main)
