"""python scripts/concepts.py --clip boat.mp4 --output boat.json --vlm Qwen2.5-VL-7B-Instruct

Names the visual concepts of a video or an image. Settings: spatial, temporal, dtype. Phrases given there (from the
concept table) are written as they are and no model is loaded:
--settings '{"spatial": ["red boat"], "temporal": ["sails"]}'.
"""

import argparse

from bico.media.video import media_kind, probe, read_frames
from bico.models.components import component_argument
from bico.runtime.command import add_compute_arguments, parser, run, settings_argument
from bico.text.phrases import Phrases, check_phrases, write_phrases


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--clip", required=True, help="a video or an image")
    arguments.add_argument("--output", required=True, help="the concept file to write (.json)")
    arguments.add_argument("--settings", type=settings_argument, default={})
    arguments.add_argument("--vlm", nargs="?", type=component_argument, help="a Qwen2_5_VLForConditionalGeneration")
    add_compute_arguments(arguments)
    given = arguments.parse_args()
    kind = media_kind(given.clip)
    if by_hand := {name: given.settings[name] for name in ("spatial", "temporal") if given.settings.get(name)}:
        phrases, source = check_phrases(by_hand, kind), "manifest"
    elif given.vlm:
        phrases, source = named_by_model(given, kind)
    else:
        arguments.error("--vlm is needed: the settings hold no phrases")
    write_phrases(given.output, phrases, source)


def named_by_model(given: argparse.Namespace, kind: str) -> tuple[Phrases, str]:
    from bico.models.devices import pick_device, pick_dtype
    from bico.prompts.dialogue import extract
    from bico.prompts.writers.qwen import load

    device = pick_device(given.device)
    vlm = load(given.vlm, device, pick_dtype(given.settings.get("dtype", "auto"), device), given.offload)
    return extract(vlm, read_frames(given.clip), kind, probe(given.clip).fps), vlm.name


if __name__ == "__main__":
    run(main)
