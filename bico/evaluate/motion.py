"""How things move in a clip, by dense optical flow (OpenCV's DIS, arXiv 1603.03590): the tracks of a grid of points,
and what neighbouring frames differ by that no motion explains. Lengths are shares of the frame's diagonal, so that
clips of any size can be compared."""

from itertools import pairwise

import cv2
import numpy as np

POINTS = 24  # a side of the grid whose points are tracked
FASTEST = 0.05  # the share of the pixels by whose speed a frame's is judged, as VBench's dynamic degree (2311.17982)
MOVING = 0.03  # how far from its start a track has to come to count as moving


def motion_features(frames: np.ndarray) -> dict[str, np.ndarray]:
    """frames: uint8 [F, H, W, 3], at least two. Returns float32 `tracks` [POINTS^2, F, 2], places (x, y) in diagonals;
    `speed` [F - 1], that of the fastest pixels of each frame, diagonals per frame; `flicker` [F - 1], the mean absolute
    difference, 0 to 1, of each frame and the next one moved back along the flow."""
    height, width = frames.shape[1:3]
    diagonal = float(np.hypot(height, width))
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    at = np.stack(np.meshgrid(*((np.arange(POINTS) + 0.5) * side / POINTS - 0.5 for side in (width, height))), -1)
    places = at.reshape(-1, 2).astype(np.float32)
    tracks, speed, flicker = [places], [], []
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    for number, (before, after) in enumerate(pairwise(grey)):
        flow = estimator.calc(before, after, None)
        places = np.clip(places + _sample(flow, places), 0, [width - 1, height - 1]).astype(np.float32)
        tracks.append(places)
        length = np.sort(np.hypot(flow[..., 0], flow[..., 1]), axis=None)
        speed.append(length[-max(1, round(FASTEST * length.size)) :].mean() / diagonal)
        back = cv2.remap(
            frames[number + 1], *np.moveaxis(pixels + flow, -1, 0), cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE
        )
        flicker.append(np.abs(back.astype(np.float32) - frames[number]).mean() / 255)
    return {
        "tracks": np.stack(tracks, 1) / np.float32(diagonal),
        "speed": np.array(speed, np.float32),
        "flicker": np.array(flicker, np.float32),
    }


def _sample(flow: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A flow [H, W, 2] at places [P, 2] between pixels: [P, 2]."""
    return cv2.remap(flow, places[:, None, 0], places[:, None, 1], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)[:, 0]


def moving(tracks: np.ndarray) -> np.ndarray:
    """Those of the tracks [P, F, 2] that move."""
    away = np.linalg.norm(tracks - tracks[:, :1], axis=-1).max(1)
    return tracks[away > MOVING]


def motion_fidelity(tracks: np.ndarray, others: np.ndarray) -> float | None:
    """How alike two clips move, -1 to 1; None where nothing moves in the second.

    As Yatim et al. (arXiv 2311.17009, Eq. 5): the mean, over the tracks of each clip that move, of the correlation with
    the most alike track of the other clip. A correlation here is that of the whole trajectory, sum of v . w over the
    root of sum |v|^2 sum |w|^2: averaged frame by frame, as there, the noise of frames at rest would count as much as a
    move.
    """
    count = min(tracks.shape[1], others.shape[1])
    mine, theirs = (np.diff(moving(each[:, :count]), axis=1).reshape(-1, 2 * (count - 1)) for each in (tracks, others))
    if not len(theirs):
        return None
    if not len(mine):
        return 0.0
    mine, theirs = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (mine, theirs))
    correlation = mine.astype(np.float64) @ theirs.T.astype(np.float64)
    return float((correlation.max(1).mean() + correlation.max(0).mean()) / 2)


def smoothness(tracks: np.ndarray) -> float | None:
    """1 where all that moves keeps its velocity, 0 where it turns back in every frame: 1 less the changes of velocity
    as a share of the most that these velocities could change by. None where nothing moves."""
    velocity = np.diff(moving(tracks), axis=1)
    speed = np.linalg.norm(velocity, axis=-1)
    most = (speed[:, 1:] + speed[:, :-1]).sum()
    return float(1 - np.linalg.norm(np.diff(velocity, axis=1), axis=-1).sum() / most) if most > 0 else None
