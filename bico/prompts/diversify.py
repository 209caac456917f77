"""The training prompts of a concept: written by the language model, or by template; with a report on them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bico import InputError
from bico.media.video import media_kind, probe, read_frames, read_frames_zip
from bico.models.components import component_digest, component_folder
from bico.prompts.table import write_prompts
from bico.prompts.writers import WRITERS
from bico.runtime.command import default_settings
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute
from bico.runtime.files import write_json
from bico.runtime.provenance import file_digest, made_by
from bico.text.phrases import Phrases, keeps_phrases, read_phrases, required_phrases

if TYPE_CHECKING:
    from bico.prompts.dialogue import Writer

DEFAULTS = default_settings("prompts")


@dataclass(frozen=True)
class PromptSettings:
    """The section `prompts` of the configuration, which says what each means. Those from `temperature` on are of
    writers that ask a model; dtype: of its weights; text_length: the most tokens of the text encoder, any without."""

    writer: str = DEFAULTS["writer"]
    count: int = DEFAULTS["count"]
    seed: int = DEFAULTS["seed"]
    temperature: float = DEFAULTS["temperature"]
    top_k: int = DEFAULTS["top_k"]
    top_p: float = DEFAULTS["top_p"]
    max_new_tokens: int = DEFAULTS["max_new_tokens"]
    attempts: int = DEFAULTS["attempts"]
    dtype: str = COMPUTE_DEFAULTS["dtype"]
    text_length: int | None = None


def write_training_prompts(
    settings: PromptSettings, media: str | Path, concept: str, phrases: str | Path, vlm: str | Path | None,
    tokenizer: str | Path | None, output: str | Path, report: str | Path, compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Writes `count` prompts of a video or an image, or a spatial one for each frame of a zip of frames, as CSV; and
    the report: how many keep all their key phrases.

    vlm: the manifest of the weights of the model that writes, or its folder, where the writer asks one. tokenizer: the
    text encoder's, the same way: no prompt of the model is longer than fits into `text_length` of its tokens; without
    it any length will do. The model's prompts are kept one by one in the run's folder (see `bico.runtime.runs`): a
    killed run goes on with the next. Raises InputError, Stopped.
    """
    _require_possible(settings, vlm, tokenizer)
    if not WRITERS[settings.writer].asks:
        _publish(settings, output, report, *_without_model(settings, media, concept, read_phrases(phrases)))
        return
    from bico.models.devices import place
    from bico.runtime.runs import claim_run

    placed = place(compute, settings.dtype)
    files = {"media": file_digest(media), "phrases": file_digest(phrases), "vlm": vlm and component_digest(vlm)}
    files["tokenizer"] = tokenizer and component_digest(tokenizer)
    made = made_by(__file__, "prompts", placed.device.type, vlm=placed.dtype)
    with claim_run({"settings": asdict(settings), **files, **made}, output, report) as run:
        if run is not None:
            shown = (settings, media, concept, read_phrases(phrases))
            folders = (path and component_folder(path) for path in (vlm, tokenizer))
            _publish(settings, output, report, *_by_model(*shown, *folders, placed, run))


def _require_possible(settings: PromptSettings, vlm, tokenizer) -> None:
    if settings.writer not in WRITERS:
        raise InputError(f"writer: found '{settings.writer}', allowed: {', '.join(WRITERS)}")
    if WRITERS[settings.writer].component and not vlm:
        raise InputError(f"writer: '{settings.writer}' asks a model, and none is given")
    if tokenizer and settings.text_length is None:
        raise InputError("text_length is missing, which the tokenizer's tokens are counted against")


def _publish(settings: PromptSettings, output, report_file, names: list[str], prompts: list[str], report: dict) -> None:
    shares = {f"share_{kept}": report[kept] / report["count"] for kept in ("kept", "kept_first_try")}
    write_json(report_file, {"writer": settings.writer, **report, **shares})
    write_prompts(output, list(zip(names, prompts, strict=True)))


def _without_model(
    settings: PromptSettings, media, concept: str, phrases: Phrases
) -> tuple[list[str], list[str], dict]:
    frames = _is_frames(media)
    kind = "image" if frames else media_kind(media)
    names = _frames(media, concept)[0] if frames else _clip_names(settings, media)
    prompts = WRITERS[settings.writer].prompts(phrases, kind, len(names), settings.seed)
    kept = sum(keeps_phrases(prompt, required_phrases(phrases, kind)) for prompt in prompts)
    return names, prompts, {"count": len(prompts), "kept_first_try": kept, "kept": kept, "reasked": 0}


def _by_model(
    settings: PromptSettings, media, concept: str, phrases: Phrases, vlm: Path | None, tokenizer: Path | None, placed,
    run: Path,
) -> tuple[list[str], list[str], dict]:  # fmt: skip
    from bico.prompts.dialogue import Room, Sampling, diversify, diversify_frames
    from bico.runtime.runs import Journal

    model = _open(settings.writer, vlm, placed)
    options = {
        "sampling": Sampling(settings.temperature, settings.top_k, settings.top_p, settings.max_new_tokens),
        "seed": settings.seed,
        "attempts": settings.attempts,
        "journal": Journal(run / "prompts.jsonl", counted=True),
        "room": Room(tokenizer, settings.text_length) if tokenizer else None,
    }
    if _is_frames(media):
        names, frames = _frames(media, concept)
        return names, *diversify_frames(model, frames, phrases, **options)
    names, frames, fps = _clip_names(settings, media), read_frames(media), probe(media).fps
    return names, *diversify(model, frames, media_kind(media), phrases, fps, count=len(names), **options)


def _open(writer: str, folder: Path | None, placed) -> "Writer":
    """A writer that asks a model. folder: of its component, if it has one."""
    match writer:
        case "vlm":
            from bico.prompts.writers import qwen

            return qwen.load(folder, placed)
    raise ValueError(f"no writer with a model is called {writer!r}")


def _is_frames(media) -> bool:
    return Path(media).suffix == ".zip"


def _clip_names(settings: PromptSettings, media) -> list[str]:
    return [Path(media).name] * settings.count


def _frames(media, concept: str) -> tuple[list[str], list[np.ndarray]]:
    """The frames' paths in the prompt CSV, and the frames, uint8 [H, W, 3]."""
    members = [(Path(name).name, np.asarray(image)) for name, image in read_frames_zip(media)]
    if not members:
        raise InputError(f"{media}: holds no frames")
    return [f"{concept}/{name}" for name, _ in members], [frame for _, frame in members]
