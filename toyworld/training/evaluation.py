"""How well the world's models do on scenes that they were never trained on. Training imports none of this, so that a
change here is no cause to train again."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from bico import InputError
from bico.methods.bico.binding import bind
from bico.models.denoiser import BlockwiseTransformer
from bico.models.devices import Placement, pick_device
from bico.models.wan import (
    decode_video,
    encode_tokens,
    encode_video,
    load_text_encoder,
    load_transformer,
    load_vae,
    pad_embeds,
)
from bico.prompts import dialogue
from bico.prompts.answers import parse_phrases
from bico.prompts.dialogue import concept_conversation
from bico.prompts.writers import qwen as vlm
from bico.prompts.writers.qwen import Vlm
from bico.render.render import sample
from bico.report.sheets import contact_sheet
from bico.runtime.command import progress
from bico.text.phrases import KINDS, Phrases
from bico.text.tokens import PromptTokenizer
from toyworld.captions import agreement, caption, parse, words_of
from toyworld.oracle import colour_distance, read_clip
from toyworld.scene import FPS, FRAMES, SIZE, Scene, render, sample_scene
from toyworld.training.conversations import phrases_in_reading_order
from toyworld.training.transformer import SETTINGS

HELD_OUT = {"vae": 700_000, "vlm": 800_000, "transformer": 900_000}  # seeds of the first scenes that none trains on
_ON_SHEET = 24  # clips on a sheet

# VAE


def evaluate_vae(vae: AutoencoderKLWan, scenes: int = 32) -> dict:
    """How well it gives held-out clips of 81 frames back; colours are of 255 levels.

    psnr: the mean over the clips, and the lowest; psnr_by_frame and colour_by_frame (how far the frame's mean colour is
    off) are [81], means over the clips; drift: the colour's error in the last 9 frames less that in the first 9.
    oracle: the share of reconstructions that show the scene's words, by attribute; oracle_before: of the clips
    themselves; shade: CIEDE2000 between the subjects' shades before and after (the median).
    """
    errors, colours, shades = [], [], []
    agreed = {"oracle": defaultdict(list), "oracle_before": defaultdict(list)}
    for scene, clip in _held_out(scenes):
        reconstruction = decode_video(vae, encode_video(vae, clip))
        difference = reconstruction.astype(np.float64) - clip
        errors.append(np.square(difference).mean((1, 2, 3)))
        colours.append(np.abs(difference.mean((1, 2))).mean(1))
        readings = {"oracle": read_clip(reconstruction), "oracle_before": read_clip(clip)}
        for name, reading in readings.items():
            for attribute, right in agreement(words_of(scene), reading.words).items():
                agreed[name][attribute].append(right)
        shades += [
            colour_distance(after.shade, before.shade)
            for after, before in zip(readings["oracle"].subjects, readings["oracle_before"].subjects, strict=False)
        ]
    by_clip = _psnr(np.mean(errors, 1))
    by_frame = np.mean(colours, 0)
    return {
        "scenes": scenes,
        "first_seed": HELD_OUT["vae"],
        "psnr": {"mean": by_clip.mean().item(), "lowest": by_clip.min().item()},
        "psnr_by_frame": _psnr(np.array(errors)).mean(0).round(2).tolist(),
        "colour_by_frame": by_frame.round(3).tolist(),
        "drift": (by_frame[-9:].mean() - by_frame[:9].mean()).item(),
        "shade": float(np.median(shades)) if shades else None,
        **{
            name: {key: float(np.mean(right)) for key, right in sorted(found.items())} for name, found in agreed.items()
        },
    }


def _psnr(squared_error: np.ndarray) -> np.ndarray:
    return 10 * np.log10(255**2 / np.maximum(squared_error, 1e-4))


def _held_out(count: int) -> Iterator[tuple[Scene, np.ndarray]]:
    for seed in range(HELD_OUT["vae"], HELD_OUT["vae"] + count):
        scene = sample_scene(np.random.default_rng(seed))
        yield scene, render(scene)


# Language model


def evaluate_vlm(folder: str | Path, scenes: int = 100, prompts: int = 8, device: str = "auto") -> dict:
    """How it answers the pipeline's own questions on held-out scenes: `scenes` clips, and as many images; of every
    tenth of them it writes `prompts` prompts.

    Of each kind: `valid`, the share of first answers that are JSON by the schema; `right`, the share of answers with
    just the right phrases; `words`, by attribute, the share of answers in which they are right; `kept`, the share of
    prompts that keep all key phrases, at the first try and in the end.
    """
    reader = vlm.load(folder, Placement(pick_device(device)))
    return {"scenes": scenes, "first_seed": HELD_OUT["vlm"]} | {
        kind: evaluate_kind(reader, kind, scenes, prompts) for kind in KINDS
    }


def evaluate_kind(reader: Vlm, kind: str, scenes: int, prompts: int) -> dict:
    """The shares that `evaluate_vlm` returns of a kind."""
    valid, right, words, reports = [], [], defaultdict(list), []
    for number in range(scenes):
        first = HELD_OUT["vlm"] + (scenes if kind == "image" else 0)
        rng = np.random.default_rng(first + number)
        scene = sample_scene(rng)
        frame = int(rng.integers(FRAMES)) if kind == "image" else None
        frames = render(scene) if frame is None else render(scene, [frame])
        phrases, expected = answered_phrases(reader, frames, kind), phrases_in_reading_order(scene, frame)
        valid.append(phrases is not None)
        found = phrases or Phrases(())
        right.append(_as_sets(found) == _as_sets(expected))
        claimed = parse(", ".join(found.all))
        claimed = replace(claimed, light=claimed.light or "steady")  # which no phrase says
        for attribute, agrees in agreement(words_of(scene, frame), claimed).items():
            words[attribute].append(agrees)
        if number % 10 == 0:
            _, report = dialogue.diversify(reader, frames, kind, expected, FPS, prompts, attempts=1)
            reports.append(report)
    written = sum(report["count"] for report in reports)
    return {
        "valid": float(np.mean(valid)),
        "right": float(np.mean(right)),
        "words": {attribute: float(np.mean(agreed)) for attribute, agreed in sorted(words.items())},
        **{name: sum(report[name] for report in reports) / written for name in ("kept_first_try", "kept")},
    }


def _as_sets(phrases: Phrases) -> tuple[set[str], set[str]]:
    return set(phrases.spatial), set(phrases.temporal)


def answered_phrases(reader: Vlm, frames: np.ndarray, kind: str) -> Phrases | None:
    """The phrases that the model names; None: its first answer is not usable."""
    inputs = vlm.see(reader, concept_conversation(kind), vlm.picture(reader, frames, kind, FPS))
    try:
        return parse_phrases(vlm.answer(reader, inputs), kind)
    except InputError:
        return None


# Text to video


@torch.no_grad()
def generate(
    folder: str | Path, vae: str | Path, texts: Sequence[str], frames: int, device: torch.device, seed: int = 0,
    text_length: int = SETTINGS["text_length"], steps: int = 25, shift: float = 5.0, guidance_scale: float = 2.0,
    batch: int = 4,
) -> Iterator[np.ndarray]:  # fmt: skip
    """The model's clips of some captions, uint8 [F, H, W, 3] each, through the pipeline's own functions."""
    folder = Path(folder)
    tokenizer = PromptTokenizer(folder / "tokenizer")
    encoder = load_text_encoder(folder / "text_encoder", Placement(device, torch.float32))
    ids = [tokenizer.tokenise_text(text).ids for text in ("", *texts)]
    embeds = pad_embeds(encode_tokens(encoder, ids, text_length, device), text_length).to(device)
    model = BlockwiseTransformer(load_transformer(folder / "transformer", Placement(device, torch.bfloat16)))
    negative, *prompts = bind(
        model.project(embeds.bfloat16())[0], torch.zeros(embeds.shape[:2]), [], model.blocks
    ).unbind(1)
    decoder = load_vae(vae, Placement(device, torch.float32))
    shape = (decoder.config.z_dim, 1 + frames // 4, SIZE // 8, SIZE // 8)
    for first in progress(range(0, len(texts), batch), "clips", "batch"):
        contexts = torch.stack(prompts[first : first + batch], 1)
        numbers = range(first, first + contexts.shape[1])
        noise = torch.stack([torch.randn(shape, generator=_generator(seed, number)) for number in numbers]).to(device)
        unconditional = negative[:, None].expand_as(contexts)
        *_, latents = sample(model, noise, contexts, unconditional, steps, shift, guidance_scale)
        yield from (decode_video(decoder, each) for each in latents)


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def evaluate_transformer(
    folder: str | Path, vae: str | Path, device: torch.device, count: int = 200, frames: int = FRAMES,
    sheet: str | Path | None = None, **sampling,
) -> dict:  # fmt: skip
    """Of `count` held-out captions, by attribute, the share of those that name it whose clip shows it, by the oracle;
    and how many name it; and `alone`, these shares of the captions of one subject.

    frames: 1 for captions of single frames. sheet: shows the first clips under their captions.
    """
    texts, caption_words = [], []
    for number in range(count):
        rng = np.random.default_rng(HELD_OUT["transformer"] + number)
        text, words = caption(sample_scene(rng), rng, int(rng.integers(FRAMES)) if frames == 1 else None)
        texts.append(text)
        caption_words.append(words)
    agreed, alone, rows = defaultdict(list), defaultdict(list), []
    clips = generate(folder, vae, texts, frames, device, **sampling)
    for text, words, clip in zip(texts, caption_words, clips, strict=True):
        right = agreement(words, read_clip(clip).words)
        wrong = ", ".join(attribute for attribute, agrees in right.items() if not agrees)
        rows.append((f"{text}  [not shown: {wrong}]" if wrong else text, clip))
        for attribute, agrees in right.items():
            agreed[attribute].append(agrees)
            if len(words.subjects) == 1:
                alone[attribute].append(agrees)
    if sheet:
        contact_sheet(sheet, rows[:_ON_SHEET], thumb_height=96)
    counts = {attribute: len(right) for attribute, right in sorted(agreed.items())}
    found = {"captions": count, "first_seed": HELD_OUT["transformer"], "frames": frames, "named": counts}
    return found | {"agreement": _shares(agreed), "alone": _shares(alone)}


def _shares(agreed: dict[str, list[bool]]) -> dict[str, float]:
    return {attribute: float(np.mean(right)) for attribute, right in sorted(agreed.items())}
