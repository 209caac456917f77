"""The probe targets of the video model: a map of what is at each token of a clip's latents, and the probes' losses."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from toyworld import captions
from toyworld import scene as world
from toyworld.captions import SCENE_FIELDS, SUBJECT_FIELDS, TEMPORAL_FIELDS, Words
from toyworld.scene import SIZE, Scene, Subject
from toyworld.training.probe import LOGIT, probe, probe_directions

MAP_ATTRIBUTES = [(name, word) for name in (*SUBJECT_FIELDS, *SCENE_FIELDS) for word in captions.WORDINGS[name]]
_POINTS = 2  # per side of a token, at which the distance to the nearest outline is a target
# The pose of a lone subject: where it is (x, y, radius; of the frame's side) and how far it moves in sixteen frames (x,
# y), standardised by its mean and deviation over the world.
_POSES = np.array([(0.5, 0.5, 0.18, 0, 0), (0.14, 0.14, 0.033, 0.075, 0.075)])
_PLACE = 3  # of these, that a single frame shows


def draw_map(scene: Scene, start: int, length: int, words: Words, cell: int = 8) -> np.ndarray:
    """The targets at each token of a clip's latents: float32 [1 + (length - 1) / 4, H / cell, W / cell, C]. words:
    those that hold of the clip.

    C: the signed distances to the nearest subject's outline at the centres of the token's quarters, in tokens from -1
    to 1; for each of MAP_ATTRIBUTES whether the word holds here: those of one of two subjects hold where it is at most
    half a token away, all others everywhere; and the pose, nan of two subjects, and what a single frame does not show
    of it.
    """
    latent = np.arange(1 + (length - 1) // 4)
    times = start + np.maximum(4 * latent - 1.5, 0)  # the middle of the frames that it codes
    step = cell / _POINTS
    y, x = np.meshgrid(*[np.arange(step / 2, SIZE, step)] * 2, indexing="ij")
    distances = np.stack([_outline_distance(subject, times, x, y) for subject in scene.subjects]) / cell
    side = SIZE // cell
    quarters = distances.reshape(len(distances), -1, side, _POINTS, side, _POINTS).swapaxes(3, 4)
    quarters = quarters.reshape(*quarters.shape[:4], _POINTS**2)
    here = (quarters.min(-1) < 0.5) | (len(scene.subjects) == 1)
    holds = np.zeros((*here.shape[1:], len(MAP_ATTRIBUTES)), np.float32)
    for k, (name, word) in enumerate(MAP_ATTRIBUTES):
        if name in SCENE_FIELDS:
            holds[..., k] = getattr(words, name) == word
        else:
            holds[..., k] = here[[getattr(subject, name) == word for subject in words.subjects]].any(0)
    pose = np.full((len(times), _POSES.shape[1]), np.nan)
    if len(scene.subjects) == 1:
        pose[:, :3] = world.poses(scene.subjects[0], times)[:, :3] / SIZE
        if length > 1:
            before, after = (world.poses(scene.subjects[0], times + way)[:, :2] / SIZE for way in (-8, 8))
            pose[:, 3:] = after - before
    pose = np.broadcast_to(((pose - _POSES[0]) / _POSES[1])[:, None, None], (*here.shape[1:], _POSES.shape[1]))
    return np.concatenate([np.clip(quarters.min(0), -1, 1), holds, pose], -1, dtype=np.float32)


def _outline_distance(subject: Subject, times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distances, pixels, at each time and point: [T, *points]."""
    at_x, at_y, radius, turn = world.poses(subject, times).T[:, :, None, None]
    upright = ((x - at_x) + 1j * (y - at_y)) / radius * np.exp(-1j * turn)
    return world.signed_distance(subject.shape, upright.real, upright.imag) * radius


# The losses


def map_directions(width: int) -> torch.Tensor:
    """The probe directions of the map: [C, width]."""
    return torch.cat(probe_directions(width, _POINTS**2 + len(MAP_ATTRIBUTES), _POSES.shape[1]))


def map_loss(hidden: torch.Tensor, directions: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """The sum of the losses of the probes of a map [B, tokens, C] in hidden states [B, tokens, W]: of the distances to
    near outlines, the share of their variance that is unexplained; of the words, the mean of the cross-entropies of
    the attributes that frames show, and of those that only clips do, each over the tokens where a word of it holds; of
    the place and the radius, a smooth L1 loss. So it does not matter how few tokens a subject covers."""
    names = (*SUBJECT_FIELDS, *SCENE_FIELDS)
    sizes = [_POINTS**2, *(len(captions.WORDINGS[name]) for name in names), _POSES.shape[1]]
    distances, *words, pose = probe(hidden, directions).split(sizes, -1)
    true_distances, *true_words, true_pose = true.split(sizes, -1)
    entropies, present = {}, {}
    for name, logits, holds in zip(names, words, true_words, strict=True):
        entropies[name] = -(holds * (LOGIT * logits).log_softmax(-1)).sum() / holds.sum().clamp(min=1)
        present[name] = holds.any().float()
    of_clips = [(entropies.pop(name), present.pop(name)) for name in TEMPORAL_FIELDS]
    of_frames = zip(entropies.values(), present.values(), strict=True)
    near = (true_distances.amin(-1, keepdim=True) < 1).float().expand_as(distances)
    deviation = true_distances - (near * true_distances).sum() / near.sum()
    unexplained = (near * (distances - true_distances).square()).sum() / (near * deviation.square()).sum()
    of_place = _pose_loss(pose[..., :_PLACE], true_pose[..., :_PLACE])
    return unexplained + _mean_of_present(of_frames) + _mean_of_present(of_clips) + of_place


def _mean_of_present(losses: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The mean of the losses whose attribute is present; 0 if none is."""
    losses, present = map(torch.stack, zip(*losses, strict=True))
    return losses.sum() / present.sum().clamp(min=1)


def path_loss(hidden: torch.Tensor, directions: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """The loss of the probes of a map's whole poses, with what a single frame does not show of them."""
    pose = slice(-_POSES.shape[1], None)
    return _pose_loss(probe(hidden, directions)[..., pose], true[..., pose])


def _pose_loss(pose: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    known = ~true.isnan()
    losses = nn.functional.smooth_l1_loss(pose, true.nan_to_num(), reduction="none")
    return (known * losses).sum() / known.sum().clamp(min=1)
