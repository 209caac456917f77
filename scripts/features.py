"""python scripts/features.py --media seed0.mp4 --clip CLIP --dino DINO --output seed0.mp4.features.safetensors \\
    --settings settings.json

Embeds the frames of a video or an image, and the text that it was made by, with CLIP and DINOv2. Settings: text, dtype.
"""

from bico.runtime.command import parser, run, settings_argument
from bico.runtime.compute import add_compute_arguments, compute_of


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--media", required=True, help="a video or an image")
    arguments.add_argument("--clip", nargs="?", help="manifest or folder of a CLIPModel")
    arguments.add_argument("--dino", nargs="?", help="manifest or folder of a Dinov2Model")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, required=True)
    add_compute_arguments(arguments)
    given = arguments.parse_args()

    from bico.evaluate.features import FeatureSettings, write_features
    from bico.settings.stage import stage_settings

    settings = stage_settings(FeatureSettings, given.settings)
    write_features(settings, given.media, given.output, given.clip, given.dino, compute_of(given))


if __name__ == "__main__":
    run(main)
