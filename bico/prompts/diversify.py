"""The training prompts of a concept: written by the language model, or by template; with a report on them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bico import InputError
from bico.media.video import media_kind, probe, read_frames, read_frames_zip
from bico.models.components import component_digest, component_folder
from bico.prompts.table import write_prompts
from bico.prompts.writers import WITHOUT_MODEL
from bico.runtime.files import write_json
from bico.runtime.provenance import file_digest, made_by
from bico.text.phrases import Phrases, keeps_phrases, read_phrases, required_phrases

SAMPLING = ("temperature", "top_k", "top_p", "max_new_tokens")
SETTINGS = ("writer", "count", "seed", *SAMPLING, "attempts", "dtype", "text_length")


def write_training_prompts(
    settings: dict, media: str | Path, concept: str, phrases: str | Path, vlm: str | Path | None,
    output: str | Path, report: str | Path, compute: Mapping[str, str], tokenizer: str | Path | None = None,
) -> None:  # fmt: skip
    """Writes `count` prompts of a video or an image, or a spatial one for each frame of a zip of frames, as CSV; and
    the report: how many keep all their key phrases.

    settings: SETTINGS, of which `writer` (`vlm`, or one of WITHOUT_MODEL) and `count` are needed. vlm: the manifest of
    the model's weights, or its folder. compute: `device` and `offload` of the model. tokenizer: the text encoder's, the
    same way: no prompt of the model is longer than fits into `text_length` of its tokens; without it any length will
    do. The model's prompts are kept one by one in the run's folder (see `bico.runtime.runs`): a killed run goes on with
    the next. Raises InputError, Stopped.
    """
    if settings["writer"] in WITHOUT_MODEL:
        _publish(settings, output, report, *_without_model(settings, media, concept, read_phrases(phrases)))
        return
    from bico.models.devices import pick_device, pick_dtype
    from bico.runtime.runs import hold

    device = pick_device(compute["device"])
    dtype = pick_dtype(settings.get("dtype", "auto"), device)
    files = {"media": file_digest(media), "phrases": file_digest(phrases), "vlm": component_digest(vlm)}
    files["tokenizer"] = tokenizer and component_digest(tokenizer)
    made_from = {"settings": settings, **files, **made_by(__file__, "prompts", device.type, vlm=dtype)}
    with hold(made_from, output, report) as run:
        if run is not None:
            shown = (settings, media, concept, read_phrases(phrases))
            folders = component_folder(vlm), tokenizer and component_folder(tokenizer)
            written = _by_model(*shown, *folders, (device, dtype, compute["offload"]), run)
            _publish(settings, output, report, *written)


def _publish(settings: dict, output, report_file, names: list[str], prompts: list[str], report: dict) -> None:
    shares = {f"share_{kept}": report[kept] / report["count"] for kept in ("kept", "kept_first_try")}
    write_json(report_file, {"writer": settings["writer"], **report, **shares})
    write_prompts(output, list(zip(names, prompts, strict=True)))


def _without_model(settings: dict, media, concept: str, phrases: Phrases) -> tuple[list[str], list[str], dict]:
    frames = _is_frames(media)
    kind = "image" if frames else media_kind(media)
    names = _frames(media, concept)[0] if frames else _clip_names(settings, media)
    write = WITHOUT_MODEL[settings["writer"]]
    prompts = write(phrases, kind, len(names), **_chosen(settings, "seed"))
    kept = sum(keeps_phrases(prompt, required_phrases(phrases, kind)) for prompt in prompts)
    return names, prompts, {"count": len(prompts), "kept_first_try": kept, "kept": kept, "reasked": 0}


def _by_model(
    settings: dict, media, concept: str, phrases: Phrases, vlm: Path, tokenizer: Path | None, placed: tuple, run: Path
) -> tuple[list[str], list[str], dict]:
    """placed: the model's device, precision and offloading."""
    from bico.prompts.dialogue import Room, Sampling, diversify, diversify_frames
    from bico.prompts.writers.registry import open_writer
    from bico.runtime.runs import Journal

    room = Room(tokenizer, settings["text_length"]) if tokenizer else None
    model = open_writer(settings["writer"], vlm, *placed)
    options = {"sampling": Sampling(**_chosen(settings, *SAMPLING)), **_chosen(settings, "seed", "attempts")}
    options |= {"journal": Journal(run / "prompts.jsonl", counted=True), "room": room}
    if _is_frames(media):
        names, frames = _frames(media, concept)
        return names, *diversify_frames(model, frames, phrases, **options)
    names, frames, fps = _clip_names(settings, media), read_frames(media), probe(media).fps
    return names, *diversify(model, frames, media_kind(media), phrases, fps, count=len(names), **options)


def _is_frames(media) -> bool:
    return Path(media).suffix == ".zip"


def _clip_names(settings: dict, media) -> list[str]:
    return [Path(media).name] * settings["count"]


def _frames(media, concept: str) -> tuple[list[str], list[np.ndarray]]:
    """The frames' paths in the prompt CSV, and the frames, uint8 [H, W, 3]."""
    members = [(Path(name).name, np.asarray(image)) for name, image in read_frames_zip(media)]
    if not members:
        raise InputError(f"{media}: holds no frames")
    return [f"{concept}/{name}" for name, _ in members], [frame for _, frame in members]


def _chosen(settings: dict, *names: str) -> dict:
    """The named settings that are there; the others keep their defaults in bico."""
    return {name: settings[name] for name in names if name in settings}
