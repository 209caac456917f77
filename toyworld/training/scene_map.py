"""The map of a clip: what each token of the video model has to show of what is there, and how far it is off."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from toyworld import captions, scene
from toyworld.captions import Words
from toyworld.scene import SIZE, Scene, Subject
from toyworld.training.probe import LOGIT, axes

# What each token of the map tells: outlines, and which words hold of the subject and of the scene.
_SUBJECT, _SCENE = ("shape", "colour", "texture", "size", "motion"), ("style", "background", "pattern", "light")
MAPPED = [(name, word) for name in (*_SUBJECT, *_SCENE) for word in captions.SAID[name]]
_POINTS = 2  # a token's side, at which it tells how far the nearest outline is
# Wherever it is, it tells where a lone subject is (x, y, radius; of the side) and how far that goes in sixteen frames
# (x, y), in their deviations from their means over the world.
_POSES = np.array([(0.5, 0.5, 0.18, 0, 0), (0.14, 0.14, 0.033, 0.075, 0.075)])
_PLACE = 3  # of it that a frame tells


def draw_map(shown: Scene, start: int, length: int, said: Words, cell: int = 8) -> np.ndarray:
    """What is there at each token of a clip's latents: float32 [1 + (length - 1) / 4, H / cell, W / cell, C]. said: the
    words that hold of the clip.

    C: the signed distances to the nearest subject's outline at the centres of the token's quarters, in tokens from -1
    to 1; for each of MAPPED whether the word holds here: those of one of two subjects hold where it is at most half a
    token away, all others everywhere; and the pose, nan of two subjects, and what a single frame does not tell of it.
    """
    latent = np.arange(1 + (length - 1) // 4)
    times = start + np.maximum(4 * latent - 1.5, 0)  # the middle of the frames that it codes
    step = cell / _POINTS
    y, x = np.meshgrid(*[np.arange(step / 2, SIZE, step)] * 2, indexing="ij")
    distances = np.stack([_outline_distance(subject, times, x, y) for subject in shown.subjects]) / cell
    side = SIZE // cell
    quarters = distances.reshape(len(distances), -1, side, _POINTS, side, _POINTS).swapaxes(3, 4)
    quarters = quarters.reshape(*quarters.shape[:4], _POINTS**2)
    here = (quarters.min(-1) < 0.5) | (len(shown.subjects) == 1)
    words = np.zeros((*here.shape[1:], len(MAPPED)), np.float32)
    for k, (name, word) in enumerate(MAPPED):
        if name in _SCENE:
            words[..., k] = getattr(said, name) == word
        else:
            words[..., k] = here[[getattr(subject, name) == word for subject in said.subjects]].any(0)
    pose = np.full((len(times), _POSES.shape[1]), np.nan)
    if len(shown.subjects) == 1:
        pose[:, :3] = scene.poses(shown.subjects[0], times)[:, :3] / SIZE
        if length > 1:
            before, after = (scene.poses(shown.subjects[0], times + way)[:, :2] / SIZE for way in (-8, 8))
            pose[:, 3:] = after - before
    pose = np.broadcast_to(((pose - _POSES[0]) / _POSES[1])[:, None, None], (*here.shape[1:], _POSES.shape[1]))
    return np.concatenate([np.clip(quarters.min(0), -1, 1), words, pose], -1, dtype=np.float32)


def _outline_distance(subject: Subject, times: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distances, pixels, at each time and point: [T, *points]."""
    at_x, at_y, radius, turn = scene.poses(subject, times).T[:, :, None, None]
    upright = ((x - at_x) + 1j * (y - at_y)) / radius * np.exp(-1j * turn)
    return scene.signed_distance(subject.shape, upright.real, upright.imag) * radius


def map_axes(width: int) -> torch.Tensor:
    """The axes along which hidden states tell the map: [C, width]."""
    return torch.cat(axes(width, _POINTS**2 + len(MAPPED), _POSES.shape[1]))


def map_loss(shown: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """The share of the variance of the distances to near outlines that is not told, and the cross-entropy of each
    attribute's words where any of them holds, its mean over what frames show and over what only clips do; maps are [B,
    tokens, C]. So it does not matter how few tokens a subject covers. And how far the place and the radius are off."""
    sizes = [_POINTS**2, *(len(captions.SAID[name]) for name in (*_SUBJECT, *_SCENE)), _POSES.shape[1]]
    distances, *words, pose = shown.split(sizes, -1)
    true_distances, *true_words, true_pose = true.split(sizes, -1)
    entropies, there = {}, {}
    for name, said, holds in zip((*_SUBJECT, *_SCENE), words, true_words, strict=True):
        entropies[name] = -(holds * (LOGIT * said).log_softmax(-1)).sum() / holds.sum().clamp(min=1)
        there[name] = holds.any().float()
    of_clips = [(entropies.pop(name), there.pop(name)) for name in ("motion", "light")]
    of_frames = zip(entropies.values(), there.values(), strict=True)
    near = (true_distances.amin(-1, keepdim=True) < 1).float().expand_as(distances)
    deviation = true_distances - (near * true_distances).sum() / near.sum()
    untold = (near * (distances - true_distances).square()).sum() / (near * deviation.square()).sum()
    off = _off(pose[..., :_PLACE], true_pose[..., :_PLACE])
    return untold + _mean_of_those(of_frames) + _mean_of_those(of_clips) + off


def _mean_of_those(losses: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The mean of the losses that are there; 0 if none is."""
    losses, there = map(torch.stack, zip(*losses, strict=True))
    return losses.sum() / there.sum().clamp(min=1)


def path_loss(shown: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """How far the poses of maps are off, with what a single frame does not tell of them."""
    return _off(*(each[..., -_POSES.shape[1] :] for each in (shown, true)))


def _off(pose: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    known = ~true.isnan()
    losses = nn.functional.smooth_l1_loss(pose, true.nan_to_num(), reduction="none")
    return (known * losses).sum() / known.sum().clamp(min=1)
