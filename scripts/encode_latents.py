"""python scripts/encode_latents.py --clip akita.png --vae VAE --output latents.safetensors --settings settings.json

Encodes a clip, and each of its frames alone, with the VAE. Settings: height, width, vae_dtype, vae_tiling.
"""

from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments, compute_of


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--clip", required=True, help="a clip (.mp4) or an image (.png)")
    arguments.add_argument("--vae", required=True, help="manifest or folder of an AutoencoderKLWan")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    add_compute_arguments(arguments)
    given = arguments.parse_args()

    from bico.encode.latents import LatentSettings, encode_latents
    from bico.settings.stage import stage_settings

    encode_latents(
        stage_settings(LatentSettings, given.settings), given.clip, given.vae, given.output, compute_of(given)
    )


if __name__ == "__main__":
    run(main)
