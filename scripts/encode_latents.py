"""python scripts/encode_latents.py --clip akita.png --vae VAE --output latents.safetensors --settings settings.json

Encodes a clip, and each of its frames alone, with the VAE. Settings: height, width, vae_dtype, vae_tiling.
"""

from bico.models.components import component_argument
from bico.runtime.command import add_compute_arguments, parser, run, settings_argument


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--clip", required=True, help="a clip (.mp4) or an image (.png)")
    arguments.add_argument("--vae", type=component_argument, required=True, help="an AutoencoderKLWan")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    add_compute_arguments(arguments)
    given = arguments.parse_args()

    from bico.encode.latents import encode_latents
    from bico.models.devices import pick_device, pick_dtype

    settings, device = given.settings, pick_device(given.device)
    dtype = pick_dtype(settings["vae_dtype"], device)
    size = (settings["height"], settings["width"])
    encode_latents(given.clip, given.vae, given.output, *size, device, dtype, settings.get("vae_tiling", False))


if __name__ == "__main__":
    run(main)
