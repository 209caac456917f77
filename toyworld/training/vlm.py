"""The world's language model: a small Qwen2.5-VL that names a scene's visual concepts and writes its prompts.

It learns from the very conversations that `bico.prompts.writers.qwen` holds with the published model: the same system
prompts, requests, chat template and patches. The words before the picture are the same for all examples of a batch and
go through the model once.

Training has three phases, with the losses of fixed probes (`attributes`). First the vision tower alone: the probes of
its tokens have to give the attributes and the pose of a picture of two frames. The answers alone, few of whose tokens
depend on the picture, train it an order of magnitude slower. Then the language model's layers but for the last: the
probes of a clip's tokens have to give the subject's path and motion. Then conversations; there the probes of a text's
tokens have to give, along the same directions, what their phrase has named so far, so that words and pictures are
represented alike and the words of two subjects stay apart.
"""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention
from transformers.vision_utils import get_vision_position_ids

from bico.models.devices import pick_device, pick_dtype
from bico.prompts.writers import qwen as vlm
from bico.prompts.writers.qwen import Picture, Vlm
from bico.runtime.provenance import code_digest, file_digest
from toyworld.scene import FPS, FRAMES, SIZE
from toyworld.tiny.language_model import Sizes, build_vlm
from toyworld.training.attributes import (
    TEXT_ATTRIBUTES,
    draw_vision_batch,
    motion_loss,
    motion_targets,
    text_loss,
    text_targets,
    vision_loss,
    vlm_directions,
)
from toyworld.training.conversations import Example, corpus, draw_example, with_picture_of
from toyworld.training.loop import LEARNING, Learner, check_words, checked, learn

SETTINGS = LEARNING | {
    "vocabulary": 1100,
    "width": 192,
    "layers": 4,
    "vision_width": 120,
    "vision_layers": 4,
    "frames_per_second": 3.0,  # of a clip, that the model is given
    "vision_steps": 2500,  # of the vision tower alone; then
    "motion_steps": 700,  # of the language model's layers but for the last alone; then
    "steps": 6000,  # of conversations
    "pictures": 96,  # per vision step
    "motion_clips": 32,  # per motion step
    "images": 24,  # per step of conversations about images
    "clips": 12,  # per step of those about clips
    "writes": 0.4,  # the share of conversations that ask for a prompt; the others ask for the concepts
    "rewrites": 0.3,  # the share of these that ask again, after a prompt that drops a phrase
    "mismatched_prompts": 0.5,  # the share of prompts whose phrases are another picture's, so that it has to read them
    "pairs": 0.5,  # the share of conversations about two subjects, whose words are easily mixed up
    "concept_loss_weight": 10.0,  # of answers that name concepts: they are certain, and few of their tokens matter
    "motion_loss_weight": 1.0,  # of the probes of a clip's motion
    "learning_rate": 1.2e-3,
    "warmup": 300,
}
_IGNORED = -100


# The data


class Batches(Dataset):
    """The examples of each step, by its number: pictures, then clips, then conversations of one task and one kind."""

    def __init__(self, settings: dict, reader: Vlm):
        self.settings, self.reader = settings, reader
        self.frames_shown = shown_frames(reader)

    def __len__(self) -> int:
        return sum(self.settings[phase] for phase in ("vision_steps", "motion_steps", "steps"))

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.settings["seed"], 1, step])
        if step < self.settings["vision_steps"]:
            gap = int(np.diff(self.frames_shown[:2])[0])
            frames, words, poses = draw_vision_batch(self.settings["pictures"], gap, rng)
            pictures = [shown_picture(self.reader, pair, "video") for pair in frames]
            pixels, grid = (torch.cat([getattr(picture, name) for picture in pictures]) for name in ("pixels", "grid"))
            return {"pixels": pixels, "grid": grid, "words": words, "poses": poses}
        if is_motion_step := step < self.settings["vision_steps"] + self.settings["motion_steps"]:
            task, kind, count = "name", "video", self.settings["motion_clips"]
        else:
            task = "write" if rng.random() < self.settings["writes"] else "name"
            kind = "video" if rng.random() < 0.6 else "image"
            task = "rewrite" if task == "write" and rng.random() < self.settings["rewrites"] else task
            count = self.settings["images" if kind == "image" else "clips"]
        subjects = np.where(rng.random(count) < self.settings["pairs"], 2, 1).tolist()
        examples = [draw_example(task, kind, self.frames_shown, rng, number) for number in subjects]
        if task != "name":
            mismatched = rng.random(count) < self.settings["mismatched_prompts"]
            examples = [with_picture_of(e, examples[k - 1]) if mismatched[k] else e for k, e in enumerate(examples)]
        inputs = batch(self.reader, kind, examples)
        if is_motion_step:  # up to the clip's last token
            end = int((inputs["input_ids"][0] == self.reader.model.config.video_token_id).nonzero().max()) + 1
            inputs |= {name: inputs[name][..., :end] for name in ("input_ids", "position_ids")}
            inputs = {name: value for name, value in inputs.items() if name not in ("labels", "attributes")}
        if kind == "video":
            step = self.reader.images.temporal_patch_size
            targets = [motion_targets(example.scene, self.frames_shown, step) for example in examples]
            inputs["motions"], inputs["paths"] = (torch.stack(each) for each in zip(*targets, strict=True))
        if is_motion_step:
            return inputs
        return inputs | {"weight": self.settings["concept_loss_weight"] if task == "name" else 1.0}


def shown_frames(reader: Vlm) -> list[int]:
    """Which frames of the world's clips the model is given."""
    return vlm.sampled_frames(FRAMES, FPS, reader.videos, reader.images.temporal_patch_size).tolist()


def shown_picture(reader: Vlm, frames: np.ndarray, kind: str) -> Picture:
    """As `qwen.picture` cuts an image or a clip, but from those frames that the model is given, of the world's size."""
    images, step = reader.images, reader.images.temporal_patch_size
    mean, std = np.array(images.image_mean, np.float32), np.array(images.image_std, np.float32)
    pixels = (frames * np.float32(images.rescale_factor) - mean) / std
    if kind == "image":
        pixels = np.repeat(pixels, step, 0)
    patch, merge = images.patch_size, images.merge_size
    height, width = (side // patch // merge for side in frames.shape[1:3])
    steps = len(pixels) // step
    cut = pixels.reshape(steps, step, height, merge, patch, width, merge, patch, 3)
    cut = cut.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, 3 * step * patch * patch)
    seconds = None if kind == "image" else step * FRAMES / (len(frames) * FPS)
    return Picture(kind, torch.from_numpy(cut), torch.tensor([[steps, height * merge, width * merge]]), seconds)


def batch(reader: Vlm, kind: str, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Examples of one task and kind as the model's inputs.

    before: `input_ids` [1, P] and `position_ids` [4, 1, P] of the words before the picture; then `input_ids` [B, T],
    `position_ids` [4, B, T], `labels` [B, T] and `attributes` [B, T, len(TEXT_ATTRIBUTES)] (see `text_loss`), padded
    on the right; and the pictures under the model's names.
    """
    pictures = [shown_picture(reader, example.frames, kind) for example in examples]
    end = reader.tokenizer.convert_tokens_to_ids("<|im_end|>")
    rows = []
    for example, picture in zip(examples, pictures, strict=True):
        encoded = vlm.encode(reader, example.messages, picture)
        ids, positions = encoded["input_ids"][0].cpu(), encoded["position_ids"][:, 0].cpu()
        answer, named_in_answer = text_targets(reader, example.answer)
        answer = torch.tensor([*answer, end])
        attributes = torch.full((len(ids) + len(answer), len(TEXT_ATTRIBUTES)), torch.nan)
        for message in example.messages[1:]:
            text = message["content"]
            tokens, named = text_targets(reader, text if isinstance(text, str) else text[1]["text"])
            at = int(ids.unfold(0, len(tokens), 1).eq(torch.tensor(tokens)).all(1).nonzero()[-1])
            attributes[at : at + len(tokens)] = named
        attributes[len(ids) : -1] = named_in_answer
        after = positions[:, -1:] + torch.arange(1, len(answer) + 1)
        labels = torch.cat([torch.full_like(ids, _IGNORED), answer])
        rows.append((torch.cat([ids, answer]), torch.cat([positions, after], 1), labels, attributes))
    mark = {"image": reader.model.config.image_token_id, "video": reader.model.config.video_token_id}[kind]
    start = int((rows[0][0] == mark).nonzero()[0])
    length = max(len(ids) for ids, *_ in rows)
    pad = [(0, length - len(ids)) for ids, *_ in rows]
    merged = {name: torch.cat(parts) for name, parts in _inputs(reader, pictures).items()}
    return {
        "before": rows[0][0][None, :start],
        "before_position_ids": rows[0][1][:, None, :start],
        "input_ids": torch.stack([F.pad(row[0], p) for row, p in zip(rows, pad, strict=True)])[:, start:],
        "position_ids": torch.stack([F.pad(row[1], p) for row, p in zip(rows, pad, strict=True)], 1)[..., start:],
        "labels": torch.stack([F.pad(row[2], p, value=_IGNORED) for row, p in zip(rows, pad, strict=True)])[:, start:],
        "attributes": torch.stack(
            [F.pad(row[3], (0, 0, *p), value=torch.nan) for row, p in zip(rows, pad, strict=True)]
        )[:, start:],
        **merged,
    }


def _inputs(reader: Vlm, pictures: Sequence[Picture]) -> dict[str, list[torch.Tensor]]:
    gathered = defaultdict(list)
    for picture in pictures:
        for name, value in vlm.pixel_inputs(reader, picture).items():
            gathered[name].append(value)
    return gathered


# The model


def _attention(module, query, key, value, *rest, **options):
    """transformers' own, but in float32 on a CPU, where bfloat16 takes about three times as long; the vision tower's
    within each frame, of however many it is given at once."""
    is_tower = isinstance(module, Qwen2_5_VLVisionAttention)
    if is_tower:
        patches = (SIZE // module.config.patch_size) ** 2
        query, key, value = (x[0].unflatten(1, (-1, patches)).transpose(0, 1) for x in (query, key, value))
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()
    with torch.autocast(query.device.type, enabled=False):
        attended, weights = sdpa_attention_forward(module, query, key, value, *rest, **options)
    return attended.flatten(0, 1)[None] if is_tower else attended, weights


_ATTENTION = "sdpa_of_the_world"
AttentionInterface.register(_ATTENTION, _attention)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


def tower(model, pixels: torch.Tensor) -> torch.Tensor:
    """The vision tower's tokens [tokens, W] of the patches of pictures of the world's size: what `visual` gives, which
    goes through them one by one. A frame is a window, so all frames of all pictures are as those of one clip."""
    visual = model.model.visual
    if visual.config._attn_implementation != _ATTENTION:
        model.set_attn_implementation(_ATTENTION)
    side = SIZE // visual.patch_size
    grid, ends = torch.tensor([[len(pixels) // side**2, side, side]]), torch.tensor([0, len(pixels)])
    positions = get_vision_position_ids(grid, visual.spatial_merge_size).to(pixels.device)
    windows = torch.arange(len(pixels) // visual.spatial_merge_size**2, device=pixels.device)
    given = {"position_ids": positions, "window_index": windows, "cu_seqlens": ends, "cu_window_seqlens": ends}
    return visual(pixels, grid_thw=grid, **given).pooler_output


def hidden_states(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The last hidden states [B, T, W] of a batch from the picture on; what stands before it is computed once."""
    inputs = dict(inputs)
    for kind, name in (("image", "pixel_values"), ("video", "pixel_values_videos")):
        pixels = inputs.pop(name, None)
        if pixels is not None:
            encoded = BaseModelOutputWithPooling(pooler_output=[tower(model, pixels)])
            inputs["mm_encoder_outputs"] = {kind: encoded}
    cache = DynamicCache(config=model.config.get_text_config())
    before = {"input_ids": inputs.pop("before"), "position_ids": inputs.pop("before_position_ids")}
    model.model(**before, past_key_values=cache)
    for layer in cache.layers:
        layer.keys, layer.values = (x.expand(len(inputs["input_ids"]), -1, -1, -1) for x in (layer.keys, layer.values))
    return model.model(**inputs, past_key_values=cache).last_hidden_state


def answer_loss(model, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean cross-entropy of the answers' tokens in a batch, and the share of them that greedy search would take."""
    labels = inputs["labels"][:, 1:]
    inputs = {name: value for name, value in inputs.items() if name not in ("labels", "attributes")}
    answered = labels != _IGNORED
    logits, labels = model.lm_head(hidden_states(model, inputs)[:, :-1][answered]).float(), labels[answered]
    return F.cross_entropy(logits, labels), (logits.argmax(-1) == labels).float().mean()


# Training


def train(
    settings: dict, output: str | Path, log_file: str | Path, device: str = "auto", precision: str = "bfloat16",
    start_from: str | Path | None = None, **budget,
) -> None:  # fmt: skip
    """Trains the model and writes it with its tokenizer and processors, weights in float16, and its JSONL log.

    settings: what is to differ from SETTINGS. precision: of autocast. start_from: a folder that an earlier training
    wrote, to begin with. budget: as `toyworld.training.loop.learn` takes them.
    """
    settings, on = checked(settings, SETTINGS), pick_device(device)
    with tempfile.TemporaryDirectory() as start:
        build_vlm(start, settings["seed"], _sizes(settings), corpus())
        reader = vlm.load(start)
        if start_from:
            check_words(start_from, start)
            reader.model.load_state_dict(vlm.load(start_from).model.state_dict())

        def begin() -> _Learner:
            return _Learner(Path(start), reader, settings, on, pick_dtype(precision, on))

        first = start_from and file_digest(Path(start_from) / "model.safetensors")
        made_from = {"settings": settings, "start_from": first, "code": code_digest(__file__), "precision": precision}
        learn(made_from, output, log_file, begin, Batches(settings, reader), **budget)


def _sizes(settings: dict) -> Sizes:
    names = ("vocabulary", "width", "layers", "vision_width", "vision_layers")
    return Sizes(**{name: settings[name] for name in names}, fps=settings["frames_per_second"])


class _Learner(Learner):
    name = "vlm"

    def __init__(self, start: Path, reader: Vlm, settings: dict, device: torch.device, dtype: torch.dtype):
        steps = sum(settings[phase] for phase in ("vision_steps", "motion_steps", "steps"))
        super().__init__(reader.model, settings, steps, device, dtype)
        self.start = start
        self.vision, self.motion, self.text = (each.to(device) for each in vlm_directions(settings["width"]))
        layers = reader.model.model.language_model.layers
        layers[-2].register_forward_hook(lambda module, given, hidden: setattr(self, "late", hidden))
        layers[len(layers) // 2 - 1].register_forward_hook(lambda module, given, hidden: setattr(self, "half", hidden))

    def loss(self, step: int, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        weight = batch.pop("weight", None)
        inputs = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        with self.autocast():
            if "words" in inputs:
                tokens = tower(self.model, inputs["pixels"]).unflatten(0, (len(inputs["words"]), -1))
                loss, right = vision_loss(self.vision, tokens, inputs["words"], inputs["poses"])
                return loss, {"kind": "vision", "right": right}
            motions, paths, attributes = (inputs.pop(name, None) for name in ("motions", "paths", "attributes"))
            # A motion step leaves the tower as it is: the layers alone learn twice as fast.
            self.model.model.visual.requires_grad_(weight is not None)
            if weight is None:
                hidden_states(self.model, inputs)
                loss, right = self._motion_loss(inputs, motions, paths)
                return loss, {"kind": "motion", "right": right}
            loss, right = answer_loss(self.model, inputs)
            entry = {"kind": "image" if motions is None else "video", "answer": loss.detach(), "right": right}
            of_text = text_loss(self.text, self.half, attributes)
            entry["text_probe"] = of_text.detach()
            loss = weight * loss + of_text
            if motions is not None:
                of_motion, right = self._motion_loss(inputs, motions, paths)
                loss = loss + self.settings["motion_loss_weight"] * of_motion
                entry |= {"motion_probe": of_motion.detach(), "motion_right": right}
        return loss, entry

    def _motion_loss(self, inputs, motions, paths) -> tuple[torch.Tensor, torch.Tensor]:
        of_clip = inputs["input_ids"] == self.model.config.video_token_id
        return motion_loss(self.motion, self.late[of_clip].unflatten(0, (len(of_clip), -1)), motions, paths)

    def write(self, folder: Path, last: bool = False) -> None:
        shutil.copytree(self.start, folder)
        self.ema_model().to(torch.float16).save_pretrained(folder)
