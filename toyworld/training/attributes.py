"""What the language model's hidden states have to show of pictures, clips and texts, and how far they are off."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from bico.prompts.writers.qwen import Vlm
from toyworld import captions, scene
from toyworld.captions import words_of
from toyworld.scene import FRAMES, SIZE, Scene, render, sample_scene
from toyworld.training.probe import LOGIT, axes, told

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


def text_targets(reader: Vlm, text: str) -> tuple[list[int], torch.Tensor]:
    """A text's tokens, and which of HEARD its phrases have named at each, [tokens, len(HEARD)]; nan where there is
    nothing to tell."""
    tokens = reader.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    named = {end: _which(true, HEARD) for end, true in captions.so_far(text)}
    nothing = torch.full((len(HEARD),), torch.nan)
    return tokens["input_ids"], torch.stack([named.get(end, nothing) for _, end in tokens["offset_mapping"]])


def told_axes(width: int) -> list[torch.Tensor]:
    """The axes along which tokens tell what a glance tells, how a clip moves, and what phrases have named, of the words
    of the other two: [count, width] each."""
    glances, moves = axes(width, len(GLANCED) + _POSES.shape[1], _PATH.shape[1] + len(MOVED))
    return [glances, moves, torch.cat([glances[: len(GLANCED)], moves[_PATH.shape[1] :]])]


def glance_loss(
    along: torch.Tensor, tokens: torch.Tensor, words: torch.Tensor, poses: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How badly each of the tower's tokens [pictures, tokens, W] tells the words and poses, see `draw_glances`, and the
    share of words that it has right among those that hold. Every token is to tell of the whole picture: the language
    model's layers have no absolute places, and would hardly learn to gather it."""
    told_words, told_poses = told(tokens, along).split([len(GLANCED), _POSES.shape[1]], -1)
    alone = ~poses.isnan().any(-1)
    words, poses = (true[:, None].expand(-1, tokens.shape[1], -1) for true in (words, poses))
    loss = 3 * F.binary_cross_entropy_with_logits(LOGIT * told_words, words)
    loss = loss + F.smooth_l1_loss(told_poses[alone], poses[alone])
    return loss, ((told_words > 0) * words).sum().detach() / words.sum()


def heard_loss(along: torch.Tensor, tokens: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """How badly the tokens [B, T, W] of a text tell which of HEARD their phrases have named so far, [B, T, len(HEARD)];
    nan where there is nothing to tell."""
    known = ~heard.isnan().any(-1)
    said, true = LOGIT * told(tokens[known], along), heard[known]
    return 3 * F.binary_cross_entropy_with_logits(said, true, reduction="sum") / max(true.numel(), 1)


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
