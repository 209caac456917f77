"""The world's language model: a small Qwen2.5-VL that names a scene's visual concepts and writes its prompts.

It learns from the very conversations that `bico.prompts.writers.qwen` holds with the published model: the same system
prompts, requests,
chat template and patches. The words before the picture are the same for all examples of a batch and are read once.

First the vision tower learns alone, at glances: along given directions its tokens have to tell what a picture of two
frames shows. From the answers' few telling words it would learn to see an order of magnitude slower. In the same way
the language model's layers but for the last learn what moves: its tokens of a clip have to tell where the subject is
and goes, and how it moves. And the tokens of a text have to tell, along the same directions, what their phrase has
named so far: so it is read as a picture is seen, and the words of two subjects do not mix.
"""

import json
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from bico.prompts.dialogue import concept_conversation, keep_request, prompt_conversation
from bico.prompts.instructions import CONCEPT_SYSTEM, PROMPT_SYSTEM
from bico.prompts.writers import qwen as vlm
from bico.prompts.writers.qwen import Picture, Vlm
from bico.prompts.writers.template import template_prompts
from bico.runtime.provenance import code_digest, file_digest
from bico.text.phrases import KINDS, Phrases, keeps_phrases, missing_phrases, required_phrases
from toyworld import captions, scene
from toyworld.captions import phrases_of, say, thinned, words_of
from toyworld.scene import FPS, FRAMES, SIZE, Scene, render, sample_scene
from toyworld.tiny.language_model import Sizes, build_vlm
from toyworld.training.loop import LEARNING, LOGIT, Learner, axes, check_words, checked, learn, told

SETTINGS = LEARNING | {
    "vocabulary": 1100,
    "width": 192,
    "layers": 4,
    "vision_width": 120,
    "vision_layers": 4,
    "frames_per_second": 3.0,  # shown of a clip
    "glances": 2500,  # steps of the tower alone; then
    "watches": 700,  # of the language model's lower layers alone; then
    "steps": 6000,  # of conversations
    "pictures": 96,  # a step of glances
    "watched": 32,  # clips a step of watches
    "images": 24,  # a step of conversations about images
    "clips": 12,
    "writes": 0.4,  # the share of conversations that ask for a prompt; the others ask for the concepts
    "rewrites": 0.3,  # the share of these that ask again, after a prompt that drops a phrase
    "strange": 0.5,  # the share of prompts with the phrases of another picture: they are to be read, not seen
    "pairs": 0.5,  # the share of conversations about two subjects, whose words are easily mixed up
    "named": 10.0,  # how much more these count: their answers are certain, and few of their tokens tell much
    "moves": 1.0,  # the weight of the loss of what a clip's tokens tell of how it moves
    "learning_rate": 1.2e-3,
    "warmup": 300,
}
TASKS = ("name", "write", "rewrite")
_IGNORED = -100


@dataclass(frozen=True)
class Example:
    """A conversation up to the model's turn, the frames it shows (uint8 [F, H, W, 3]; a clip's: those that the model
    is shown), and the answer."""

    messages: list[dict]
    frames: np.ndarray
    answer: str
    scene: Scene


# What it learns


def named(shown: Scene, frame: int | None = None) -> Phrases:
    """The phrases that a scene's clip, or one of its frames, should get: subjects in the order in which one reads,
    along the axis on which they stand farther apart."""
    places = np.array([subject.centre for subject in shown.subjects])
    order = np.argsort(places[:, np.ptp(places, axis=0).argmax()])
    return phrases_of(words_of(replace(shown, subjects=tuple(shown.subjects[k] for k in order)), frame))


def draw_example(
    task: str, kind: str, frames_shown: Sequence[int], rng: np.random.Generator, subjects: int | None = None
) -> Example:
    """task: of TASKS; kind: of KINDS; frames_shown: of a clip; subjects: as `sample_scene` takes them."""
    shown = sample_scene(rng, subjects)
    frame = int(rng.integers(FRAMES)) if kind == "image" else None
    pixels = render(shown, frames_shown if frame is None else [frame])
    if task == "name":
        phrases = named(shown, frame)
        lists = {"spatial": phrases.spatial} | ({"temporal": phrases.temporal} if kind == "video" else {})
        return Example(concept_conversation(kind), pixels, json.dumps(lists), shown)
    if task == "write" and rng.random() < _INVENTED:
        phrases = _invented(kind, rng)
        answer = template_prompts(phrases, kind, 1, int(rng.integers(2**31)))[0]
        return Example(prompt_conversation(phrases, kind), pixels, answer, shown)
    words = words_of(shown, frame)
    words = words if rng.random() < 0.5 else thinned(words, rng)
    phrases, answer = phrases_of(words), _prompt(words, kind, rng)
    messages = prompt_conversation(phrases, kind)
    if task == "rewrite":
        missing = []
        while not missing:  # as of two subjects that do the same
            dropped = _prompt(_misread(words, rng), kind, rng)
            missing = missing_phrases(dropped, required_phrases(phrases, kind))
        reply = keep_request(missing)
        messages += [{"role": "assistant", "content": dropped}, {"role": "user", "content": reply}]
    return Example(messages, pixels, answer, shown)


def _shown(asked: Example, other: Example) -> Example:
    """What is asked of one, with the picture of the other."""
    return replace(asked, frames=other.frames, scene=other.scene)


_INVENTED = 0.25  # the share of prompts with phrases that are not the world's, so that it learns to copy any
_TRIES = 4


def _prompt(words: captions.Words, kind: str, rng: np.random.Generator) -> str:
    """A caption, or one by template, that keeps the words' phrases."""
    phrases = phrases_of(words)
    for _ in range(_TRIES):
        sentence = say(words, rng)
        if keeps_phrases(sentence, required_phrases(phrases, kind)):
            return sentence
    return template_prompts(phrases, kind, 1, int(rng.integers(2**31)))[0]


def _misread(words: captions.Words, rng: np.random.Generator) -> captions.Words:
    """The words, but one that is said of a subject is another."""
    subject = words.subjects[k := int(rng.integers(len(words.subjects)))]
    said = [name for name in ("shape", "colour", "texture", "size", "motion") if getattr(subject, name)]
    name = str(rng.choice(said))
    other = str(rng.choice([word for word in captions.SAID[name] if word != getattr(subject, name)]))
    changed = replace(subject, **{name: other})
    return replace(words, subjects=(*words.subjects[:k], changed, *words.subjects[k + 1 :]))


def _invented(kind: str, rng: np.random.Generator) -> Phrases:
    """Phrases of common words, and of words that are none."""
    lists = [tuple(_invented_phrase(rng) for _ in range(rng.integers(1, 4))) for _ in _fields(kind)]
    return Phrases(*(tuple(dict.fromkeys(phrases)) for phrases in lists))


def _fields(kind: str) -> tuple[str, ...]:
    return ("spatial",) if kind == "image" else ("spatial", "temporal")


def _invented_phrase(rng: np.random.Generator) -> str:
    def word() -> str:
        if rng.random() < 0.6:
            return str(rng.choice(_COMMON))
        return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(2, 8)))

    return " ".join(word() for _ in range(rng.integers(1, 4)))


_TEXTS = [*CONCEPT_SYSTEM.values(), *PROMPT_SYSTEM.values()]
_COMMON = sorted({word for text in _TEXTS for word in re.findall(r"[a-z]{3,}", text)})


def corpus(examples: int = 3000) -> Iterator[str]:
    """What its tokenizer's words are learned from: the texts it reads most, and examples of its conversations."""
    yield from _TEXTS * 200
    for number in range(examples):
        rng = np.random.default_rng([3, number])
        example = draw_example(TASKS[number % 2], KINDS[number // 2 % 2], [0], rng)
        yield example.messages[1]["content"][1]["text"]
        yield example.answer


# What a glance tells: words, and where a lone subject is in the first frame and how large (x, y, radius; of the side),
# and how far it goes, grows (of the side) and turns (radians) to the second: slight, and all there is to a motion. So
# all are told in their deviations from their means over the world.
_SUBJECT = ("shape", "colour", "texture", "size")
_SCENE = ("style", "background", "pattern")
GLANCED = [(name, word) for name in (*_SUBJECT, *_SCENE) for word in captions.SAID[name]]
_POSES = np.array([(0.5, 0.5, 0.18, 0, 0, 0, 0), (0.14, 0.14, 0.033, 0.026, 0.026, 0.0016, 0.1)])


def draw_glances(count: int, gap: int, rng: np.random.Generator) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Pictures of two frames each, uint8 [count, 2, H, W, 3], the same twice (an image) or `gap` apart (a clip's);
    which of GLANCED hold, [count, len(GLANCED)]; the poses, [count, 7], nan of two subjects."""
    frames, words, poses = [], torch.zeros(count, len(GLANCED)), torch.full((count, _POSES.shape[1]), torch.nan)
    for k in range(count):
        shown, first = sample_scene(rng), int(rng.integers(FRAMES - gap))
        pair = [first, first + gap * int(rng.integers(2))]
        frames.append(render(shown, pair))
        said = words_of(shown, first)
        true = {(name, getattr(subject, name)) for subject in said.subjects for name in _SUBJECT}
        true |= {(name, getattr(said, name)) for name in _SCENE}
        words[k] = _which(true, GLANCED)
        if len(shown.subjects) == 1:
            pose, later = scene.poses(shown.subjects[0], pair) / [SIZE, SIZE, SIZE, 1]
            mean, deviation = _POSES
            poses[k] = torch.from_numpy((np.concatenate([pose[:3], later - pose]) - mean) / deviation)
    return np.stack(frames), words, poses


def _which(true: set[tuple[str, str]], words: Sequence[tuple[str, str]]) -> torch.Tensor:
    return torch.tensor([float(one in true) for one in words])


# What a clip's tokens tell besides: how it moves, and where a lone subject is in the middle of each token's frames and
# how far it has come since those before (x, y, radius; of the side), in deviations too.
MOVED = [(name, word) for name in ("motion", "light") for word in captions.SAID[name]]
_PATH = np.array([(0.5, 0.5, 0.18, 0, 0, 0), (0.14, 0.14, 0.035, 0.05, 0.05, 0.005)])


def draw_moves(shown: Scene, frames: Sequence[int], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a clip of which every `step` of some frames make a token: which of MOVED hold, [len(MOVED)], and the path,
    [len(frames) / step, 6], nan of two subjects."""
    true = {("motion", subject.motion.word) for subject in shown.subjects} | {("light", shown.light.word)}
    words = _which(true, MOVED)
    if len(shown.subjects) > 1:
        return words, torch.full((len(frames) // step, _PATH.shape[1]), torch.nan)
    middles = np.reshape(frames, (-1, step)).mean(1)
    places = scene.poses(shown.subjects[0], middles)[:, :3] / SIZE
    mean, deviation = _PATH
    path = (np.concatenate([places, np.diff(places, axis=0, prepend=places[:1])], 1) - mean) / deviation
    return words, torch.from_numpy(path).float()


# What a text's tokens tell: what their phrases have named so far.
HEARD = [*GLANCED, *MOVED]


def _heard(reader: Vlm, text: str) -> tuple[list[int], torch.Tensor]:
    """A text's tokens, and which of HEARD its phrases have named at each, [tokens, len(HEARD)]; nan where there is
    nothing to tell."""
    tokens = reader.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    named = {end: _which(true, HEARD) for end, true in captions.so_far(text)}
    nothing = torch.full((len(HEARD),), torch.nan)
    return tokens["input_ids"], torch.stack([named.get(end, nothing) for _, end in tokens["offset_mapping"]])


class Batches(Dataset):
    """The examples of each step, by its number: glances, watched clips, then conversations of one task and one kind."""

    def __init__(self, settings: dict, reader: Vlm):
        self.settings, self.reader = settings, reader
        self.frames_shown = shown_frames(reader)

    def __len__(self) -> int:
        return sum(self.settings[phase] for phase in ("glances", "watches", "steps"))

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.settings["seed"], 1, step])
        if step < self.settings["glances"]:
            frames, words, poses = draw_glances(self.settings["pictures"], int(np.diff(self.frames_shown[:2])[0]), rng)
            shown = [shown_picture(self.reader, pair, "video") for pair in frames]
            pixels, grid = (torch.cat([getattr(one, name) for one in shown]) for name in ("pixels", "grid"))
            return {"pixels": pixels, "grid": grid, "words": words, "poses": poses}
        if watches := step < self.settings["glances"] + self.settings["watches"]:
            task, kind, count = "name", "video", self.settings["watched"]
        else:
            task, kind = TASKS[rng.random() < self.settings["writes"]], KINDS[rng.random() < 0.6]
            task = "rewrite" if task == "write" and rng.random() < self.settings["rewrites"] else task
            count = self.settings["images" if kind == "image" else "clips"]
        pairs = 1 + (rng.random(count) < self.settings["pairs"])
        examples = [draw_example(task, kind, self.frames_shown, rng, int(subjects)) for subjects in pairs]
        if task != "name":
            strange = rng.random(count) < self.settings["strange"]
            examples = [_shown(one, examples[k - 1]) if strange[k] else one for k, one in enumerate(examples)]
        inputs = batch(self.reader, kind, examples)
        if watches:
            seen = int((inputs["input_ids"][0] == self.reader.model.config.video_token_id).nonzero().max()) + 1
            inputs |= {name: inputs[name][..., :seen] for name in ("input_ids", "position_ids")}
            inputs = {name: value for name, value in inputs.items() if name not in ("labels", "heard")}
        if kind == "video":
            step = self.reader.images.temporal_patch_size
            moves = [draw_moves(example.scene, self.frames_shown, step) for example in examples]
            inputs["moves"], inputs["paths"] = (torch.stack(each) for each in zip(*moves, strict=True))
        return inputs if watches else inputs | {"weight": self.settings["named"] if task == "name" else 1.0}


def shown_frames(reader: Vlm) -> list[int]:
    """Which frames of the world's clips the model is shown."""
    return vlm.sampled_frames(FRAMES, FPS, reader.videos, reader.images.temporal_patch_size).tolist()


def shown_picture(reader: Vlm, frames: np.ndarray, kind: str) -> Picture:
    """As `qwen.picture` cuts the image or the clip, but from the frames that are shown, of the world's size."""
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
    `position_ids` [4, B, T], `labels` [B, T] and `heard` [B, T, len(HEARD)] (see `heard_loss`), padded on the right;
    and the pictures under the model's names.
    """
    pictures = [shown_picture(reader, example.frames, kind) for example in examples]
    end = reader.tokenizer.convert_tokens_to_ids("<|im_end|>")
    rows = []
    for example, shown in zip(examples, pictures, strict=True):
        read = vlm.encode(reader, example.messages, shown)
        ids, places = read["input_ids"][0].cpu(), read["position_ids"][:, 0].cpu()
        answer, named_in_answer = _heard(reader, example.answer)
        answer = torch.tensor([*answer, end])
        heard = torch.full((len(ids) + len(answer), len(HEARD)), torch.nan)
        for message in example.messages[1:]:
            text = message["content"]
            tokens, named = _heard(reader, text if isinstance(text, str) else text[1]["text"])
            at = int(ids.unfold(0, len(tokens), 1).eq(torch.tensor(tokens)).all(1).nonzero()[-1])
            heard[at : at + len(tokens)] = named
        heard[len(ids) : -1] = named_in_answer
        after = places[:, -1:] + torch.arange(1, len(answer) + 1)
        labels = torch.cat([torch.full_like(ids, _IGNORED), answer])
        rows.append((torch.cat([ids, answer]), torch.cat([places, after], 1), labels, heard))
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
        "heard": torch.stack([F.pad(row[3], (0, 0, *p), value=torch.nan) for row, p in zip(rows, pad, strict=True)])[
            :, start:
        ],
        **merged,
    }


def _inputs(reader: Vlm, pictures: Sequence[Picture]) -> dict[str, list[torch.Tensor]]:
    gathered = defaultdict(list)
    for shown in pictures:
        for name, value in vlm.pixel_inputs(reader, shown).items():
            gathered[name].append(value)
    return gathered


def _attention(module, query, key, value, *rest, **options):
    """transformers' own, which a CPU computes about three times slower in bfloat16; the vision tower's within each
    frame, of however many it is given at once."""
    frames = isinstance(module, Qwen2_5_VLVisionAttention)
    if frames:
        patches = (SIZE // module.config.patch_size) ** 2
        query, key, value = (x[0].unflatten(1, (-1, patches)).transpose(0, 1) for x in (query, key, value))
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()
    with torch.autocast(query.device.type, enabled=False):
        seen, weights = sdpa_attention_forward(module, query, key, value, *rest, **options)
    return seen.flatten(0, 1)[None] if frames else seen, weights


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
    places = get_vision_position_ids(grid, visual.spatial_merge_size).to(pixels.device)
    windows = torch.arange(len(pixels) // visual.spatial_merge_size**2, device=pixels.device)
    given = {"position_ids": places, "window_index": windows, "cu_seqlens": ends, "cu_window_seqlens": ends}
    return visual(pixels, grid_thw=grid, **given).pooler_output


def told_axes(width: int) -> list[torch.Tensor]:
    """The axes along which tokens tell what a glance tells, and how a clip moves."""
    return axes(width, len(GLANCED) + _POSES.shape[1], _PATH.shape[1] + len(MOVED))


def glance_loss(model, along: torch.Tensor, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """How badly each of the tower's tokens of each picture tells the words and poses, and the share of words that it
    has right among those that hold. Every token is to tell of the whole picture: the language model's layers have no
    absolute places, and would hardly learn to gather it."""
    tokens = tower(model, inputs["pixels"]).unflatten(0, (len(inputs["words"]), -1))
    words, poses = told(tokens, along).split([len(GLANCED), _POSES.shape[1]], -1)
    alone = ~inputs["poses"].isnan().any(-1)
    true_words, true_poses = (inputs[name][:, None].expand(-1, words.shape[1], -1) for name in ("words", "poses"))
    loss = 3 * F.binary_cross_entropy_with_logits(LOGIT * words, true_words)
    loss = loss + F.smooth_l1_loss(poses[alone], true_poses[alone])
    return loss, ((words > 0) * true_words).sum().detach() / true_words.sum()


def heard_loss(along: torch.Tensor, tokens: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """How badly the tokens [B, T, W] of a text tell which of HEARD their phrases have named so far, [B, T, len(HEARD)];
    nan where there is nothing to tell."""
    known = ~heard.isnan().any(-1)
    said, true = LOGIT * told(tokens[known], along), heard[known]
    return 3 * F.binary_cross_entropy_with_logits(said, true, reduction="sum") / max(true.numel(), 1)


def read(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The hidden states [B, T, W] of a batch's words from the picture on; what stands before it is read once."""
    inputs = dict(inputs)
    for kind in KINDS:
        pixels = inputs.pop("pixel_values" + "_videos" * (kind == "video"), None)
        if pixels is not None:
            seen = BaseModelOutputWithPooling(pooler_output=[tower(model, pixels)])
            inputs["mm_encoder_outputs"] = {kind: seen}
    cache = DynamicCache(config=model.config.get_text_config())
    before = {"input_ids": inputs.pop("before"), "position_ids": inputs.pop("before_position_ids")}
    model.model(**before, past_key_values=cache)
    for layer in cache.layers:
        layer.keys, layer.values = (x.expand(len(inputs["input_ids"]), -1, -1, -1) for x in (layer.keys, layer.values))
    return model.model(**inputs, past_key_values=cache).last_hidden_state


def answer_loss(model, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean cross-entropy of the answers' tokens in a batch, and the share of them that greedy search would take."""
    labels = inputs["labels"][:, 1:]
    inputs = {name: value for name, value in inputs.items() if name not in ("labels", "heard")}
    answered = labels != _IGNORED
    logits, labels = model.lm_head(read(model, inputs)[:, :-1][answered]).float(), labels[answered]
    return F.cross_entropy(logits, labels), (logits.argmax(-1) == labels).float().mean()


def moves_loss(
    along: torch.Tensor, tokens: torch.Tensor, moves: torch.Tensor, paths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How badly each of a clip's tokens [B, tokens, W] tells the path up to there, and those of its second half how it
    moves, see `draw_moves`; and the share of these that tell a motion that there is."""
    path, words = told(tokens, along).unflatten(1, (paths.shape[1], -1)).split([_PATH.shape[1], len(MOVED)], -1)
    alone = ~paths.isnan().any(-1)
    true = paths[alone][:, None].expand_as(path[alone])
    loss = F.smooth_l1_loss(path[alone], true, reduction="sum") / max(true.numel(), 1)
    sizes = [len(captions.SAID[name]) for name in ("motion", "light")]
    for said, holds in zip(words[:, paths.shape[1] // 2 :].split(sizes, -1), moves.split(sizes, -1), strict=True):
        share = (holds / holds.sum(-1, keepdim=True))[:, None, None]
        loss = loss - (share * (LOGIT * said).log_softmax(-1)).sum(-1).mean()
    motions = words[:, paths.shape[1] // 2 :, :, : sizes[0]].argmax(-1).flatten(1)
    return loss, moves[:, : sizes[0]].gather(1, motions).mean()


# Training


def train(
    settings: dict, output: str | Path, log_file: str | Path, device: str = "auto", precision: str = "bfloat16",
    start_from: str | Path | None = None, **pieces,
) -> None:  # fmt: skip
    """Trains the model and writes it with its tokenizer and processors, weights in float16, and its JSONL log.

    settings: what is to differ from SETTINGS. precision: of autocast. start_from: a folder that an earlier training
    wrote, to begin with. pieces: as `toyworld.training.loop.learn` takes them.
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
        learn(made_from, output, log_file, begin, Batches(settings, reader), **pieces)


def _sizes(settings: dict) -> Sizes:
    named_so = ("vocabulary", "width", "layers", "vision_width", "vision_layers")
    return Sizes(**{name: settings[name] for name in named_so}, fps=settings["frames_per_second"])


class _Learner(Learner):
    name = "vlm"

    def __init__(self, start: Path, reader: Vlm, settings: dict, device: torch.device, dtype: torch.dtype):
        steps = sum(settings[phase] for phase in ("glances", "watches", "steps"))
        super().__init__(reader.model, settings, steps, device, dtype)
        self.start, (self.glanced, self.moved) = start, (along.to(device) for along in told_axes(settings["width"]))
        self.heard = torch.cat([self.glanced[: len(GLANCED)], self.moved[_PATH.shape[1] :]])
        layers = reader.model.model.language_model.layers
        layers[-2].register_forward_hook(lambda module, given, hidden: setattr(self, "hidden", hidden))
        layers[len(layers) // 2 - 1].register_forward_hook(lambda module, given, hidden: setattr(self, "half", hidden))

    def loss(self, step: int, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
        weight = batch.pop("weight", None)
        inputs = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        with self.autocast():
            if "words" in inputs:
                loss, right = glance_loss(self.model, self.glanced, inputs)
                return loss, {"kind": "glance", "right": right}
            moves, paths, heard = (inputs.pop(name, None) for name in ("moves", "paths", "heard"))
            # What it watches does not teach the tower: the layers alone learn twice as fast.
            self.model.model.visual.requires_grad_(weight is not None)
            if weight is None:
                read(self.model, inputs)
                loss, right = self._moves_loss(inputs, moves, paths)
                return loss, {"kind": "watch", "right": right}
            loss, right = answer_loss(self.model, inputs)
            entry = {"kind": "image" if moves is None else "video", "answer": loss.detach(), "right": right}
            misheard = heard_loss(self.heard, self.half, heard)
            entry["heard"] = misheard.detach()
            loss = weight * loss + misheard
            if moves is not None:
                read_badly, right = self._moves_loss(inputs, moves, paths)
                loss = loss + self.settings["moves"] * read_badly
                entry |= {"moves": read_badly.detach(), "moves_right": right}
        return loss, entry

    def _moves_loss(self, inputs, moves, paths) -> tuple[torch.Tensor, torch.Tensor]:
        shown = inputs["input_ids"] == self.model.config.video_token_id
        return moves_loss(self.moved, self.hidden[shown].unflatten(0, (len(shown), -1)), moves, paths)

    def write(self, folder: Path, last: bool = False) -> None:
        shutil.copytree(self.start, folder)
        self.averaged().to(torch.float16).save_pretrained(folder)
