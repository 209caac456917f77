"""The probe targets of the language model: which attributes pictures, clips and texts have, and the probes' losses.

Of pictures and clips also the pose of a lone subject, standardised by its mean and deviation over the world.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from bico.prompts.writers.qwen import Vlm
from toyworld import captions
from toyworld import scene as world
from toyworld.captions import SCENE_FIELDS, SUBJECT_FIELDS, TEMPORAL_FIELDS, words_of
from toyworld.scene import FRAMES, SIZE, Scene, render, sample_scene
from toyworld.training.probe import LOGIT, probe, probe_directions

# Pictures: the words of two frames, and the pose: where a lone subject is in the first and how large (x, y, radius; of
# the frame's side), how far it moves and grows to the second (x, y, radius) and by how much it turns (radians).
_SUBJECT = tuple(name for name in SUBJECT_FIELDS if name not in TEMPORAL_FIELDS)
_SCENE = tuple(name for name in SCENE_FIELDS if name not in TEMPORAL_FIELDS)
VISION_ATTRIBUTES = [(name, word) for name in (*_SUBJECT, *_SCENE) for word in captions.WORDINGS[name]]
_POSES = np.array([(0.5, 0.5, 0.18, 0, 0, 0, 0), (0.14, 0.14, 0.033, 0.026, 0.026, 0.0016, 0.1)])  # mean, deviation


def draw_vision_batch(count: int, gap: int, rng: np.random.Generator) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Pictures of two frames each, uint8 [count, 2, H, W, 3], the same twice (an image) or `gap` apart (a clip's);
    which of VISION_ATTRIBUTES hold, [count, len(VISION_ATTRIBUTES)]; the poses, [count, 7], nan of two subjects."""
    frames, words = [], torch.zeros(count, len(VISION_ATTRIBUTES))
    poses = torch.full((count, _POSES.shape[1]), torch.nan)
    for k in range(count):
        scene, first = sample_scene(rng), int(rng.integers(FRAMES - gap))
        pair = [first, first + gap * int(rng.integers(2))]
        frames.append(render(scene, pair))
        true = words_of(scene, first)
        present = {(name, getattr(subject, name)) for subject in true.subjects for name in _SUBJECT}
        present |= {(name, getattr(true, name)) for name in _SCENE}
        words[k] = _indicators(present, VISION_ATTRIBUTES)
        if len(scene.subjects) == 1:
            pose, later = world.poses(scene.subjects[0], pair) / [SIZE, SIZE, SIZE, 1]
            mean, deviation = _POSES
            poses[k] = torch.from_numpy((np.concatenate([pose[:3], later - pose]) - mean) / deviation)
    return np.stack(frames), words, poses


def _indicators(present: set[tuple[str, str]], attributes: Sequence[tuple[str, str]]) -> torch.Tensor:
    return torch.tensor([float(attribute in present) for attribute in attributes])


# Clips: the words of motion and light, and the path: where a lone subject is in the middle of each token's frames and
# how far it has come since the token before (x, y, radius; of the frame's side).
MOTION_ATTRIBUTES = [(name, word) for name in TEMPORAL_FIELDS for word in captions.WORDINGS[name]]
_PATH = np.array([(0.5, 0.5, 0.18, 0, 0, 0), (0.14, 0.14, 0.035, 0.05, 0.05, 0.005)])  # mean, deviation


def motion_targets(scene: Scene, frames: Sequence[int], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a clip of which every `step` of some frames make a token: which of MOTION_ATTRIBUTES hold,
    [len(MOTION_ATTRIBUTES)], and the path, [len(frames) / step, 6], nan of two subjects."""
    present = {("motion", subject.motion.word) for subject in scene.subjects} | {("light", scene.light.word)}
    words = _indicators(present, MOTION_ATTRIBUTES)
    if len(scene.subjects) > 1:
        return words, torch.full((len(frames) // step, _PATH.shape[1]), torch.nan)
    middles = np.reshape(frames, (-1, step)).mean(1)
    places = world.poses(scene.subjects[0], middles)[:, :3] / SIZE
    mean, deviation = _PATH
    path = (np.concatenate([places, np.diff(places, axis=0, prepend=places[:1])], 1) - mean) / deviation
    return words, torch.from_numpy(path).float()


# Texts: what the phrase that a token belongs to has named up to this token.
TEXT_ATTRIBUTES = [*VISION_ATTRIBUTES, *MOTION_ATTRIBUTES]


def text_targets(reader: Vlm, text: str) -> tuple[list[int], torch.Tensor]:
    """A text's tokens, and which of TEXT_ATTRIBUTES its phrases have named up to each, [tokens, len(TEXT_ATTRIBUTES)];
    nan at the tokens that end no word of the world."""
    tokens = reader.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    named = {end: _indicators(present, TEXT_ATTRIBUTES) for end, present in captions.attributes_so_far(text)}
    unknown = torch.full((len(TEXT_ATTRIBUTES),), torch.nan)
    return tokens["input_ids"], torch.stack([named.get(end, unknown) for _, end in tokens["offset_mapping"]])


# The losses


def vlm_directions(width: int) -> list[torch.Tensor]:
    """The probe directions of pictures, of clips, and of texts, which are those of the words of the other two:
    [count, width] each."""
    counts = len(VISION_ATTRIBUTES) + _POSES.shape[1], _PATH.shape[1] + len(MOTION_ATTRIBUTES)
    vision, motion = probe_directions(width, *counts)
    return [vision, motion, torch.cat([vision[: len(VISION_ATTRIBUTES)], motion[_PATH.shape[1] :]])]


def vision_loss(
    directions: torch.Tensor, tokens: torch.Tensor, words: torch.Tensor, poses: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of the probes of a picture's words and pose (see `draw_vision_batch`) in each of its tokens [pictures,
    tokens, W], and the share of the words that hold which they have right. The target of every token is the whole
    picture: the language model's layers have no absolute positions, and would hardly learn to gather it."""
    probed_words, probed_poses = probe(tokens, directions).split([len(VISION_ATTRIBUTES), _POSES.shape[1]], -1)
    alone = ~poses.isnan().any(-1)
    words, poses = (true[:, None].expand(-1, tokens.shape[1], -1) for true in (words, poses))
    loss = 3 * F.binary_cross_entropy_with_logits(LOGIT * probed_words, words)
    loss = loss + F.smooth_l1_loss(probed_poses[alone], poses[alone])
    return loss, ((probed_words > 0) * words).sum().detach() / words.sum()


def text_loss(directions: torch.Tensor, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of the probes of TEXT_ATTRIBUTES in the tokens [B, T, W] of a text. targets: see `text_targets`, [B, T,
    len(TEXT_ATTRIBUTES)]; nan where there is no target."""
    known = ~targets.isnan().any(-1)
    logits, true = LOGIT * probe(tokens[known], directions), targets[known]
    return 3 * F.binary_cross_entropy_with_logits(logits, true, reduction="sum") / max(true.numel(), 1)


def motion_loss(
    directions: torch.Tensor, tokens: torch.Tensor, motions: torch.Tensor, paths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of the probes of the path in each of a clip's tokens [B, tokens, W], and of its words of motion and
    light in those of the second half (see `motion_targets`); and the share of these whose likeliest motion holds."""
    probed = probe(tokens, directions).unflatten(1, (paths.shape[1], -1))
    path, words = probed.split([_PATH.shape[1], len(MOTION_ATTRIBUTES)], -1)
    alone = ~paths.isnan().any(-1)
    true = paths[alone][:, None].expand_as(path[alone])
    loss = F.smooth_l1_loss(path[alone], true, reduction="sum") / max(true.numel(), 1)
    sizes = [len(captions.WORDINGS[name]) for name in TEMPORAL_FIELDS]
    words = words[:, paths.shape[1] // 2 :]
    for logits, holds in zip(words.split(sizes, -1), motions.split(sizes, -1), strict=True):
        share = (holds / holds.sum(-1, keepdim=True))[:, None, None]
        loss = loss - (share * (LOGIT * logits).log_softmax(-1)).sum(-1).mean()
    likeliest = words[..., : sizes[0]].argmax(-1).flatten(1)
    return loss, motions[:, : sizes[0]].gather(1, likeliest).mean()
