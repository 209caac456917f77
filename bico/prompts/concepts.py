"""The visual concepts of a clip or image, as words: those of the concept table, or those that a model names."""

from dataclasses import dataclass
from pathlib import Path

from bico import InputError
from bico.media.video import media_kind, probe, read_frames
from bico.models.components import component_folder
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute
from bico.text.phrases import check_phrases, write_phrases


@dataclass(frozen=True)
class ConceptSettings:
    """spatial, temporal: phrases given by hand, of which no model is asked; dtype: of the model, auto, float32 or
    bfloat16."""

    spatial: tuple[str, ...] = ()
    temporal: tuple[str, ...] = ()
    dtype: str = COMPUTE_DEFAULTS["dtype"]


def write_concept(
    settings: ConceptSettings, clip: str | Path, output: str | Path, vlm: str | Path | None,
    compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Writes the concept file of a clip or an image (JSON). vlm: the folder of a Qwen2.5-VL, or the manifest of its
    weights; none is needed where the phrases are given. Raises InputError."""
    kind = media_kind(clip)
    given = {"spatial": list(settings.spatial), "temporal": list(settings.temporal)}
    if by_hand := {name: phrases for name, phrases in given.items() if phrases}:
        write_phrases(output, check_phrases(by_hand, kind), "manifest")
        return
    if not vlm:
        raise InputError(f"{clip}: its phrases are not given, and there is no model that could name them")
    from bico.models.devices import place
    from bico.prompts.dialogue import extract
    from bico.prompts.writers.qwen import load

    writer = load(component_folder(vlm), place(compute, settings.dtype))
    write_phrases(output, extract(writer, read_frames(clip), kind, probe(clip).fps), writer.name)
