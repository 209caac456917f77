"""What a clip or frame of this world shows, measured in its pixels alone.

The background is fitted first; what is far brighter is a subject. Its outline is compared with every shape at every
angle, which also says how it turns; its pixels, turned and scaled back and averaged over the frames, show its texture,
colour and style; its path is its motion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from scipy import ndimage

from toyworld.captions import MIDDLING, SubjectWords, Words
from toyworld.colour import ciede2000, lab_of_rgb
from toyworld.scene import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZE,
    WHITENESS,
    Rgb,
    signed_distance,
    texture_marks,
    unit_area,
)


@dataclass(frozen=True)
class SeenSubject:
    """`shade` is under full light, and `mean` the mean colour with the texture's marks; `period` (radii) and `angle`
    (radians, as the first frame shows it) are None without a texture; `pose` is [F, 4] as `scene.poses` has it, its
    angle up to the shape's symmetry."""

    words: SubjectWords
    shade: Rgb
    mean: Rgb
    period: float | None
    angle: float | None
    pose: np.ndarray


@dataclass(frozen=True)
class Seen:
    """`words` says it all in words; `background` is its mean colour under full light; `light` is [F]."""

    words: Words
    subjects: tuple[SeenSubject, ...]
    background: Rgb
    light: np.ndarray


def read_clip(frames: np.ndarray) -> Seen:
    """What a clip, uint8 [F, H, W, 3], or a frame, uint8 [H, W, 3], shows (of a frame no motion and no light).
    Raises ValueError for another size of the frames."""
    clip = np.asarray(frames, np.float32).reshape(-1, *frames.shape[-3:]) / 255
    if clip.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(f"the world's frames are {SIZE} x {SIZE} x 3, found {list(frames.shape)}")
    value = ndimage.gaussian_filter(clip.max(-1), (0, 0.7, 0.7))
    cover, free, light = _cover(value)
    clip /= light[:, None, None, None]
    backdrop = np.stack([_plane_fit(clip[..., channel], free) for channel in range(3)], -1)
    views = [_view(clip, backdrop, own) for own in _tracks(cover)]
    style, moving = _style(views), len(clip) > 1
    subjects = tuple(_subject(view, style, moving) for view in views)
    words = tuple(subject.words for subject in subjects)
    shade, pattern = backdrop.mean((0, 1)), _pattern(clip.mean(-1), free)
    words = Words(words, style, _background_word(shade), pattern, _light_word(light) if moving else None)
    return Seen(words, subjects, tuple(shade.tolist()), light)


# Background and light


_PLANE = np.stack([np.ones((SIZE, SIZE)), *np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]], -1)


def _cover(value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far subjects cover each pixel, 0 to 1, and where the background is free of their glow, both [F, H, W], and
    how much light there is, [F], 1 at most; from the frames' largest channel, [F, H, W]. Subjects stand out from a
    background that is a plane times the light."""
    light, plane = np.maximum(np.median(value, (1, 2)), _DARKEST), np.ones((SIZE, SIZE))
    top = np.quantile(value, 0.995, (1, 2))[:, None, None]
    for _ in range(2):
        ground = light[:, None, None] * plane
        excess = (value - ground) / np.maximum(top - ground, _FAINTEST)
        free = ~ndimage.maximum_filter(excess > _HALF, (1, 2 * _HALO + 1, 2 * _HALO + 1))
        lit = value / light[:, None, None]
        plane, known = _plane_fit(lit, free), _mean(lit, free) * free
        light = np.maximum((value * known).sum((1, 2)) / np.maximum((known**2).sum((1, 2)), 1e-6), _DARKEST)
    return _filled(np.clip(0.5 + (excess - _HALF) / 0.4, 0, 1)), free, light / light.max()


_HALF = 0.52  # of the way from the background to the brightest, where a subject covers half a pixel
_DARKEST = 0.01  # of the light, so that it can be divided by
_FAINTEST = 0.15  # the least that subjects stand out by
_HALO = 8  # pixels around a subject that its glow may light


def _plane_fit(images: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The plane [H, W] through the `free` pixels of images [F, H, W]."""
    root = np.sqrt(free.sum(0))
    target = (_mean(images, free) * root).ravel()
    solution, *_ = np.linalg.lstsq((_PLANE * root[..., None]).reshape(-1, 3), target, rcond=None)
    return _PLANE @ solution


def _mean(images: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The mean [H, W] of images [F, H, W] over the frames in which a pixel is free; 0 if it never is."""
    return (images * free).sum(0) / np.maximum(free.sum(0), 1)


_IN_FRAME = np.zeros((3, 3, 3), int)
_IN_FRAME[1] = ndimage.generate_binary_structure(2, 1)


def _filled(cover: np.ndarray) -> np.ndarray:
    """With the holes of every frame covered: what does not reach the frame's edge."""
    labels, _ = ndimage.label(cover <= 0.5, _IN_FRAME)
    edge = np.unique(np.concatenate([labels[:, [0, -1]].ravel(), labels[:, :, [0, -1]].ravel(), [0]]))
    return np.where(np.isin(labels, edge), cover, 1)


def _pattern(clip: np.ndarray, free: np.ndarray) -> str:
    """The word of the background's pattern, from the frames' mean channel, [F, H, W], under full light."""
    plane, seen = _plane_fit(clip, free), free.any(0)
    rest = ndimage.gaussian_filter(np.where(seen, _mean(clip, free) - plane, 0), 1)[seen]
    slope = np.hypot(plane[-1, 0] - plane[0, 0], plane[0, -1] - plane[0, 0])
    if np.linalg.norm(rest) > _CHECKERED * np.sqrt(rest.size):
        return "checkered"
    return "gradient" if slope > _GRADIENT else "plain"


_CHECKERED, _GRADIENT = 4 / 255, 18 / 255  # the least deviation from a plane, the least rise across the frame


def _background_word(shade: np.ndarray) -> str:
    """The word of the nearest hue; what has none is grey or, if darker than any dimmed grey, black."""
    lab = lab_of_rgb(shade)
    chroma, hue = np.hypot(lab[1], lab[2]), np.degrees(np.arctan2(lab[2], lab[1])) % 360
    if chroma < 9:
        return "grey" if lab[0] > 13.5 else "black"
    return _nearest_hue(hue, {word: ranges[2] for word, ranges in BACKGROUNDS.items() if word not in ("black", "grey")})


def _nearest_hue(hue: float, ranges: dict[str, tuple[float, float]]) -> str:
    return min(ranges, key=lambda word: abs((hue - sum(ranges[word]) / 2 + 180) % 360 - 180))


def _light_word(light: np.ndarray) -> str:
    change = np.polyfit(np.linspace(0, 1, len(light)), light, 1)[0]
    return "fading" if change < -0.15 else "rising" if change > 0.15 else "steady"


# Outlines


_LEAST, _MOST = 25, 4  # the pixels that a subject has at least; the subjects that are looked at


def _tracks(cover: np.ndarray) -> list[np.ndarray]:
    """How far each subject covers each pixel, [F, H, W] each. There are as many as in the median frame; from frame to
    frame each is the one that is nearest."""
    labels, total = ndimage.label(cover > 0.5, _IN_FRAME)
    pixels = np.nonzero(labels)
    label = labels[pixels]
    areas = np.bincount(label, minlength=total + 1)
    where = np.stack([np.bincount(label, axis, total + 1) for axis in pixels], -1) / np.maximum(areas, 1)[:, None]
    found: list[list[int]] = [[] for _ in cover]
    for large in np.argsort(-areas)[: np.sum(areas >= _LEAST)]:
        found[round(where[large, 0])].append(large)
    count = min(int(np.median([len(frame) for frame in found])), _MOST)
    tracks, places = [np.zeros(cover.shape, bool) for _ in range(count)], np.zeros((count, 2))
    for number, frame in enumerate(found):
        chosen = frame[:count]
        ways = permutations(range(count), len(chosen))
        way = min(ways, key=lambda way: np.hypot(*(places[list(way)] - where[chosen, 1:]).T).sum())
        for track, one in zip(way, chosen, strict=True):
            tracks[track][number] = labels[number] == one
            places[track] = where[one, 1:]
    return [cover * ndimage.maximum_filter(track, (1, 3, 3)) for track in tracks]


_SYMMETRY = {"square": 4, "triangle": 3, "star": 5, "heart": 1, "cross": 4, "moon": 1}
_GRID = 24  # points a side of a patch
_PATCH = np.stack(np.meshgrid(*[np.linspace(-1.7, 1.7, _GRID)] * 2), -1).reshape(-1, 2).astype(np.float32)


@cache
def _templates(shape: str) -> np.ndarray:
    """The shape's outline at all angles up to its symmetry, some 5 degrees apart: [angles, points of _PATCH], each
    without mean and of norm 1. The points' unit is the radius of the disc of the same area."""
    turns = np.linspace(0, 2 * np.pi / _SYMMETRY[shape], -(-72 // _SYMMETRY[shape]), endpoint=False)
    scale = np.sqrt(unit_area(shape) / np.pi)
    x, y = np.moveaxis(_rotated(_PATCH * scale, -turns[:, None]), -1, 0)
    return _standard(np.clip(0.5 - signed_distance(shape, x, y) / (0.25 * scale), 0, 1))


def _shape_and_turn(cover: np.ndarray, centre: np.ndarray, area: np.ndarray) -> tuple[str, np.ndarray]:
    """The shape whose outline fits best over all frames, and the angle it is turned by in each, [F]."""
    points = centre[:, None] + np.sqrt(area / np.pi)[:, None, None] * _PATCH
    patches = _standard(_sampled(cover, points))
    scores = {shape: patches @ _templates(shape).T for shape in SHAPES}
    shape = max(scores, key=lambda shape: scores[shape].max(1).mean())
    return shape, _turn(scores[shape], 2 * np.pi / _SYMMETRY[shape])


def _turn(scores: np.ndarray, period: float) -> np.ndarray:
    """The angles, [F], where scores [F, angles over one period] peak, without jumps from frame to frame."""
    best, frames = scores.argmax(1), np.arange(len(scores))
    before, peak, after = (scores[frames, (best + step) % scores.shape[1]] for step in (-1, 0, 1))
    finer = best + 0.5 * (before - after) / np.minimum(before - 2 * peak + after, -1e-9)
    return np.unwrap(finer * period / scores.shape[1], period=period)


def _standard(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors - vectors.mean(-1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _sampled(images: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Images [F, H, W] at points [F, points, 2 (x, y)], between pixels as between their centres: [F, points]."""
    frames = np.broadcast_to(np.arange(len(images))[:, None], points.shape[:2])
    return ndimage.map_coordinates(
        images, [frames, points[..., 1] - 0.5, points[..., 0] - 0.5], order=1, mode="nearest"
    )


# Appearance


@dataclass(frozen=True)
class _View:
    """A subject turned upright and averaged over its frames, at points around its centre."""

    shape: str
    pose: np.ndarray  # [F, 4]
    scale: float  # of _VIEW's points, radii
    distance: np.ndarray  # [points]: to the outline, pixels, negative inside
    colour: np.ndarray  # [points, 3]: under full light
    cover: np.ndarray  # [points]: from the background's colour, 0, to the subject's, 1


# The points of a sunflower: evenly dense, and along no line that an outline could follow.
_COUNT = np.arange(1800)
_VIEW = 1.9 * np.sqrt((_COUNT + 0.5) / 1800)[:, None] * np.stack([np.cos(2.4 * _COUNT), np.sin(2.4 * _COUNT)], -1)
_VIEWED = 27  # frames that are averaged


def _view(clip: np.ndarray, backdrop: np.ndarray, own: np.ndarray) -> _View:
    """The view of the subject that covers its `own` part, [F, H, W], of the clip."""
    area, frames = own.sum((1, 2)), np.arange(len(own))
    seen = np.flatnonzero(area)
    line = np.arange(SIZE) + 0.5
    centre = np.stack([(own.sum(1) @ line)[seen], (own.sum(2) @ line)[seen]], -1) / area[seen, None]
    shape, turn = _shape_and_turn(own[seen], centre, area[seen])
    radius = np.sqrt(area[seen] / unit_area(shape))
    found = np.column_stack([centre, radius, turn])
    pose = np.stack([np.interp(frames, seen, column) for column in found.T], -1)

    picked = np.unique(np.linspace(0, len(seen) - 1, _VIEWED).astype(int))
    x, y, radius, turn = found[picked].T[..., None]
    points = np.stack([x, y], -1) + radius[..., None] * _rotated(_VIEW, turn)
    images = clip[seen[picked]]
    colour = np.stack([_sampled(images[..., channel], points).mean(0) for channel in range(3)], -1)
    ground = np.stack([_sampled(backdrop[None, ..., channel], points.mean(0)[None])[0] for channel in range(3)], -1)
    distance = signed_distance(shape, *_VIEW.T) * radius.mean()
    contrast = np.median((colour - ground)[_core(distance, 2)], 0)
    cover = (colour - ground) @ contrast / max(contrast @ contrast, 1e-6)
    wider = _edge(distance, cover)
    pose[:, 2] += wider
    return _View(shape, pose, radius.mean() / (radius.mean() + wider), distance - wider, colour, cover)


def _core(distance: np.ndarray, depth: float) -> np.ndarray:
    """The points [points] that lie `depth` pixels inside the outline; the deepest if hardly any does."""
    return distance <= max(-depth, np.quantile(distance, 0.02))


def _edge(distance: np.ndarray, cover: np.ndarray) -> float:
    """The distance [points] at which the cover [points] falls fastest: how far the outline is from where it was
    thought to be, pixels outwards. A subject dimmer than its neighbour is thought too small at first."""
    bins = np.arange(-1.75, 3, 0.5)
    weight = np.exp(-(((distance - bins[:, None]) / 0.5) ** 2)) + 1e-9
    drop = -np.diff(weight @ cover / weight.sum(1))
    steepest = 1 + drop[1:-1].argmax()
    before, peak, after = drop[steepest - 1 : steepest + 2]
    finer = 0.25 * (before - after) / min(before - 2 * peak + after, -1e-9)
    return bins[steepest] + 0.25 + np.clip(finer, -0.25, 0.25)


def _rotated(points: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Points [points, 2] turned clockwise by angles [F, 1]: [F, points, 2]."""
    x, y = points.T
    return np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], -1)


def _style(views: Sequence[_View]) -> str | None:
    """The style that all subjects are in."""
    if not views:
        return None
    halo = np.mean([_halo(view) for view in views])
    rim = np.mean([_rim(view) for view in views])
    return "glowing" if halo > 0.12 else "outlined" if rim > 0.5 else "flat"


def _halo(view: _View) -> float:
    """How far its own colour shines around the subject, from 0 to 1."""
    return np.median(view.cover[(view.distance > 1.2) & (view.distance < 3.8)])


def _rim(view: _View) -> float:
    """How white the outline is where it is least white, from 0 (the subject's shade) to 1."""
    white = _whiteness(view.colour)
    shade = np.quantile(white[_core(view.distance, _RIM)], 0.15)
    rim = np.quantile(white[(view.distance > -1.3) & (view.distance < -0.3)], 0.25)
    return (rim - shade) / max(1 - shade, 1e-3)


_RIM = 2.8  # pixels inside the outline where what is white is no outline


def _whiteness(colour: np.ndarray) -> np.ndarray:
    return colour.min(-1) / np.maximum(colour.max(-1), 1e-3)


def _subject(view: _View, style: str, moving: bool) -> SeenSubject:
    core = _core(view.distance, _RIM if style == "outlined" else 1.2)
    texture, period, angle, marks = _texture(_whiteness(view.colour), core)
    shade = _shade(view.colour[core], marks, moving)
    _, a, b = lab_of_rgb(shade)
    colour = _nearest_hue(np.degrees(np.arctan2(b, a)) % 360, {word: hues for word, (*_, hues) in COLOURS.items()})
    radius = np.median(view.pose[:, 2])
    size = "small" if radius < np.mean(MIDDLING) else "big"
    words = SubjectWords(view.shape, colour, texture, size, _motion(view.pose) if moving else None)
    if texture != "plain":
        period, angle = period * view.scale, (angle + view.pose[0, 3]) % _TURNS[texture]
    mean = view.colour[core].mean(0)
    return SeenSubject(words, tuple(shade.tolist()), tuple(mean.tolist()), period, angle, view.pose)


def _shade(colour: np.ndarray, marks: np.ndarray, moving: bool) -> np.ndarray:
    """The shade of a subject whose marks whiten the colours [points, 3] of its core. Blurred marks leave the mean
    colour as it is, and so it is the best to go by; but how bright white is under the light only a clip tells."""
    if moving and marks.any():
        white = WHITENESS * marks.mean()
        return np.clip((colour.mean(0) - white) / (1 - white), 0, 1)
    return np.median(colour[marks <= max(marks.min(), 0.15)], 0)


_TURNS = {"striped": np.pi, "dotted": np.pi / 2}  # the angle after which a texture looks the same


def _texture(white: np.ndarray, core: np.ndarray) -> tuple[str, float | None, float | None, np.ndarray]:
    """Kind, period, angle and marks [inside the core] of the texture that the whiteness [points] follows best in the
    core; plain if it hardly varies so."""
    white, (x, y) = white[core], _VIEW[core].T
    ways, marks = _textures()
    texture, period, angle = ways[np.argmax(_standard(marks[:, core]) @ _standard(white))]
    finer = [
        (texture, period + longer, angle + np.radians(more))
        for longer in (-0.02, -0.01, 0, 0.01, 0.02)
        for more in (-4, -2, 0, 2, 4)
    ]
    marks = np.stack([texture_marks(*way, x, y) for way in finer])
    fits = _standard(marks) @ _standard(white)
    best = np.argmax(fits)
    shade = np.quantile(white, 0.15)
    if fits[best] * white.std() < _PLAIN * (1 - shade):
        return "plain", None, None, np.zeros_like(white)
    return *finer[best], marks[best]


@cache
def _textures() -> tuple[list[tuple[str, float, float]], np.ndarray]:
    """Textures of all periods and angles, and their marks at the points of _VIEW, float32 [textures, points]."""
    ways = [
        (texture, period, angle)
        for texture, turn in _TURNS.items()
        for period in np.arange(0.48, 0.95, 0.04).tolist()
        for angle in np.arange(0, turn, np.radians(6)).tolist()
    ]
    return ways, np.stack([texture_marks(*way, *_VIEW.T) for way in ways]).astype(np.float32)


_PLAIN = 0.09  # the share of the way from the shade to white that a texture's deviation is at least


# Motions


def _motion(pose: np.ndarray) -> str:
    """The word of a path [F, 4] that lasts about as long as the world's clips."""
    x, y, radius, turn = pose.T
    if abs(growth := _trend(radius) / radius.mean()) > 0.25:
        return "growing" if growth > 0 else "shrinking"
    if abs(_trend(turn)) > np.radians(60):
        return "spinning"
    if round_trip := _round_trip(x, y):
        return "clockwise" if round_trip > 0 else "anticlockwise"
    travel = np.array([_slope(x), _slope(y)])
    wobble = np.array([_spread(x), _spread(y)])
    if wobble.max() < 2.5:
        if np.abs(travel).max() < 8:
            return "still"
        across, down = travel
        return ("right" if across > 0 else "left") if abs(across) > abs(down) else ("down" if down > 0 else "up")
    if wobble[1] > wobble[0]:
        return "zigzag" if abs(travel[0]) > 10 else "bouncing"
    return "swinging" if wobble[0] > 9 else "shaking"


def _trend(track: np.ndarray) -> float:
    """How much a track [F] changes during the clip, whatever a minority of its frames do."""
    step = max(len(track) // 4, 1)
    return np.median(track[step:] - track[:-step]) * (len(track) - 1) / step


def _slope(track: np.ndarray) -> float:
    return np.polyfit(np.linspace(0, 1, len(track)), track, 1)[0]


def _spread(track: np.ndarray) -> float:
    """How far a track [F] departs from a straight line, from one side to the other."""
    time = np.linspace(0, 1, len(track))
    rest = track - np.polyval(np.polyfit(time, track, 1), time)
    return np.ptp(np.quantile(rest, [0.05, 0.95]))


def _round_trip(x: np.ndarray, y: np.ndarray) -> float:
    """How many times the path goes round the circle that fits it best, clockwise positive; 0 if it is no circle."""
    fit, *_ = np.linalg.lstsq(np.column_stack([x, y, np.ones_like(x)]), x**2 + y**2, rcond=None)
    across, down = x - fit[0] / 2, y - fit[1] / 2
    distance = np.hypot(across, down)
    turns = np.ptp(np.unwrap(np.arctan2(down, across))) / (2 * np.pi)
    signed = np.sum(across[:-1] * down[1:] - down[:-1] * across[1:])
    circle = distance.std() < 0.2 * distance.mean() and 4 < distance.mean() < 24 and turns > 0.6
    return np.sign(signed) * turns if circle else 0.0


# Against a reference


def colour_distance(shade1: Rgb, shade2: Rgb) -> float:
    """The CIEDE2000 distance of two colours, sRGB from 0 to 1."""
    return float(ciede2000(lab_of_rgb(shade1), lab_of_rgb(shade2)))


def motion_match(path: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """How a path follows another, both [F, K]: the correlation of what they do around their means (1: the same but for
    a shift and a factor; nan where one stands still), and the ratio of their speeds (nan to one that stands still).
    For the trajectory alone give `pose[:, :2]`; for all that a subject does `in_pixels(pose)`."""
    own, other = (track - track.mean(0) for track in (path, reference))
    norms = np.linalg.norm(own) * np.linalg.norm(other)
    correlation = (own * other).sum() / norms if norms > 0 else np.nan
    speeds = [np.linalg.norm(np.diff(_smooth(track), axis=0), axis=1).mean() for track in (path, reference)]
    return float(correlation), float(speeds[0] / speeds[1]) if speeds[1] > 0 else np.nan


def in_pixels(pose: np.ndarray) -> np.ndarray:
    """A pose [F, 4] with its angle as the way that a point of the outline goes."""
    return np.column_stack([pose[:, :3], pose[:, 3] * pose[:, 2].mean()])


def _smooth(track: np.ndarray) -> np.ndarray:
    """Moving averages over nine frames, which take the pixels' noise out of the speed."""
    return ndimage.uniform_filter1d(track, 9, axis=0, mode="nearest")
