"""Scenes and their frames.

Positions and lengths are pixels, x to the right and y down, from the frame's upper left corner; angles are radians,
clockwise; times are frames; colours are sRGB from 0 to 1. Subjects are bright and backgrounds dark, so that no subject
is lost on its background; colour words are hues, so that the light changes no word; no shape is a disc, so that every
one is seen to spin.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from toyworld.colour import rgb_of_lch

SIZE, FRAMES, FPS = 64, 81, 15
Rgb = tuple[float, float, float]

SHAPES = ("square", "triangle", "star", "heart", "cross", "moon")
# CIELAB lightness, chroma and hue (degrees) of each word's shades, from and to.
COLOURS = {
    "red": ((46, 62), (52, 78), (24, 40)),
    "orange": ((62, 78), (54, 78), (56, 72)),
    "yellow": ((77, 91), (54, 80), (90, 106)),
    "green": ((67, 84), (40, 66), (134, 152)),
    "cyan": ((70, 86), (28, 42), (192, 216)),
    "blue": ((51, 68), (38, 58), (268, 286)),
    "purple": ((53, 70), (44, 70), (308, 324)),
    "pink": ((62, 79), (38, 58), (344, 364)),
}
TEXTURES = ("plain", "striped", "dotted")
SIZES = {"small": (9.0, 10.5), "big": (13.0, 14.5)}  # pixels: the radius
STYLES = ("flat", "outlined", "glowing")
BACKGROUNDS = {
    "black": ((5, 11), (0, 2), (0, 360)),
    "grey": ((32, 39), (0, 2), (0, 360)),
    "blue": ((22, 31), (22, 30), (270, 290)),
    "green": ((27, 36), (20, 30), (134, 160)),
    "purple": ((23, 32), (22, 32), (312, 330)),
    "brown": ((25, 34), (20, 30), (52, 72)),
}
PATTERNS = ("plain", "gradient", "checkered")
LIGHTS = ("steady", "fading", "rising")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
# Of each motion: its speed and its reach, from and to. Sliding: pixels a frame, none. Growing and shrinking: the share
# of the radius a frame, none. All others: periods a frame; the radius of the circle, the height of the bounce, half
# the width of the swing, zigzag or shake in pixels.
MOTIONS = {
    "still": ((0, 0), (0, 0)),
    **dict.fromkeys(DIRECTIONS, ((0.2, 0.4), (0, 0))),
    "clockwise": ((0.012, 0.02), (7, 12)),
    "anticlockwise": ((0.012, 0.02), (7, 12)),
    "bouncing": ((0.025, 0.037), (10, 16)),
    "swinging": ((0.018, 0.028), (9, 13)),
    "zigzag": ((0.03, 0.042), (5, 8)),
    "spinning": ((0.01, 0.02), (0, 0)),
    "growing": ((0.006, 0.0075), (0, 0)),
    "shrinking": ((0.006, 0.0075), (0, 0)),
    "shaking": ((0.06, 0.08), (2, 3)),
}
PERIODS = (0.55, 0.85)  # of a texture, in radii
WHITENESS = 0.75  # how far a texture's marks are from the shade to white
LOW_LIGHT = (0.55, 0.7)  # the light's lower end; the upper one is 1

_MARGIN = 3  # pixels between a subject and the frame's edge, or the half of the frame that it has to itself
_ZIGZAG_DRIFT = 0.28  # pixels a frame, to the right
_SWING_ARC = 0.3  # how far the ends of a swing lie above its middle, in reaches
_OUTLINE = 1.8  # pixels
_GLOW, _GLOW_REACH = 0.55, 9.0  # the halo's strength at the outline; pixels to where it ends
_GRADIENT, _CHECKERS = 20 / 255, 14 / 255  # how far a background's pattern departs from its colour


@dataclass(frozen=True)
class Motion:
    word: str
    speed: float
    reach: float
    phase: float  # of a period


@dataclass(frozen=True)
class Subject:
    """`period` and `angle` are the texture's, in radii and radians; `centre` is what the motion moves around."""

    shape: str
    colour: str
    shade: Rgb
    texture: str
    period: float
    angle: float
    size: str
    radius: float
    centre: tuple[float, float]
    motion: Motion


@dataclass(frozen=True)
class Background:
    """`period` is two cells of the checkered pattern, pixels; `angle` is the pattern's or the gradient's."""

    colour: str
    shade: Rgb
    pattern: str
    period: float
    angle: float


@dataclass(frozen=True)
class Light:
    word: str
    low: float


@dataclass(frozen=True)
class Scene:
    subjects: tuple[Subject, ...]
    style: str
    background: Background
    light: Light


# Drawing lots


def sample_scene(rng: np.random.Generator, subjects: int | None = None) -> Scene:
    """A scene of one or two subjects (None: two in a quarter of the scenes), every word of an attribute equally
    likely but for what does not fit: two subjects are small, differ in shape and colour, and keep to halves of the
    frame; no subject has its background's colour; the light is steady in 70 % of the scenes."""
    count = subjects or (2 if rng.random() < 0.25 else 1)
    background = _sample_background(rng)
    shapes = rng.permutation(SHAPES)
    colours = rng.permutation([word for word in COLOURS if word != background.colour])
    sizes = list(SIZES) if count == 1 else ["small"]
    return Scene(
        tuple(
            _sample_subject(rng, str(shape), str(colour), sizes, box)
            for shape, colour, box in zip(shapes, colours, _boxes(rng, count), strict=False)
        ),
        str(rng.choice(STYLES)),
        background,
        Light(str(rng.choice(LIGHTS, p=(0.7, 0.15, 0.15))), rng.uniform(*LOW_LIGHT)),
    )


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Where each of `count` subjects may be: [count, 2 (from, to), 2 (x, y)]."""
    if count == 1:
        return np.array([[[0, 0], [SIZE, SIZE]]])
    halves = np.array([[[0, 0], [SIZE / 2, SIZE]], [[SIZE / 2, 0], [SIZE, SIZE]]])
    return rng.permutation(halves if rng.random() < 0.5 else halves[..., ::-1])


def _sample_subject(rng: np.random.Generator, shape: str, colour: str, sizes: Sequence[str], box: np.ndarray):
    size, texture = str(rng.choice(sizes)), str(rng.choice(TEXTURES))
    radius = rng.uniform(*SIZES[size])
    room = np.ptp(box, axis=0) - 2 * _MARGIN
    while True:
        motion = _sample_motion(rng)
        low, high = _extent(shape, radius, motion)
        if (high - low <= room).all():
            break
    centre = rng.uniform(box[0] + _MARGIN - low, box[1] - _MARGIN - high)
    period, angle = rng.uniform(*PERIODS), rng.uniform(0, np.pi)
    return Subject(
        shape,
        colour,
        _shade(rng, COLOURS[colour]),
        texture,
        period,
        angle,
        size,
        radius,
        tuple(centre.tolist()),
        motion,
    )


def _sample_motion(rng: np.random.Generator) -> Motion:
    word = str(rng.choice(list(MOTIONS)))
    speed, reach = MOTIONS[word]
    return Motion(word, rng.uniform(*speed), rng.uniform(*reach), rng.uniform())


def _sample_background(rng: np.random.Generator) -> Background:
    colour, pattern = str(rng.choice(list(BACKGROUNDS))), str(rng.choice(PATTERNS))
    return Background(colour, _shade(rng, BACKGROUNDS[colour]), pattern, rng.uniform(18, 26), rng.uniform(0, 2 * np.pi))


def _shade(rng: np.random.Generator, ranges: Sequence[tuple[float, float]]) -> Rgb:
    return tuple(rgb_of_lch(*(rng.uniform(low, high) for low, high in ranges)).tolist())


def _extent(shape: str, radius: float, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """How far a subject reaches around its centre during a clip: to the upper left, to the lower right, each [2]."""
    x, y, scale, turn = _path(motion, np.arange(FRAMES)).T
    turned = np.exp(1j * turn)[:, None] * (outline(shape) @ [1, 1j]) * radius * scale[:, None]
    reached = np.stack([x[:, None] + turned.real, y[:, None] + turned.imag])
    return reached.min((1, 2)), reached.max((1, 2))


# What moves where


def poses(subject: Subject, frames: Sequence[int] = range(FRAMES)) -> np.ndarray:
    """Where the subject is in each frame, [F, 4]: x, y and radius in pixels, and the angle it is turned by."""
    path = _path(subject.motion, np.asarray(frames))
    return path * [1, 1, subject.radius, 1] + [*subject.centre, 0, 0]


def _path(motion: Motion, frames: np.ndarray) -> np.ndarray:
    """[F, 4]: x and y around the centre, the scale, and the angle."""
    frames = np.asarray(frames, float)
    since_middle = frames - (FRAMES - 1) / 2
    periods = motion.speed * frames + motion.phase
    cos, sin = np.cos(2 * np.pi * periods), np.sin(2 * np.pi * periods)
    x, y, turn, scale = (np.full_like(frames, value) for value in (0, 0, 0, 1))
    match motion.word:
        case "left" | "right" | "up" | "down":
            x, y = np.multiply.outer(DIRECTIONS[motion.word], motion.speed * since_middle)
        case "clockwise":
            x, y = motion.reach * cos, motion.reach * sin
        case "anticlockwise":
            x, y = motion.reach * cos, -motion.reach * sin
        case "bouncing":
            y = motion.reach * (0.5 - 4 * (periods % 1) * (1 - periods % 1))
        case "swinging":
            x, y = motion.reach * sin, -_SWING_ARC * motion.reach * sin**2
        case "zigzag":
            x, y = _ZIGZAG_DRIFT * since_middle, motion.reach * (4 * np.abs(periods % 1 - 0.5) - 1)
        case "spinning":
            turn = 2 * np.pi * periods
        case "growing":
            scale = 1 + motion.speed * since_middle
        case "shrinking":
            scale = 1 - motion.speed * since_middle
        case "shaking":
            x = motion.reach * sin
    return np.stack([x, y, scale, turn], -1)


def light_levels(light: Light, frames: Sequence[int] = range(FRAMES)) -> np.ndarray:
    """What the frames' colours are multiplied by, [F], 1 at the clip's brightest."""
    done = np.asarray(frames) / (FRAMES - 1)
    down = {"steady": 0.0, "fading": done, "rising": 1 - done}[light.word]
    return 1 - (1 - light.low) * down * np.ones(len(done))


# Shapes


@cache
def outline(shape: str) -> np.ndarray:
    """The corners of a shape of radius 1 around its centroid, upright, clockwise, [corners, 2]. The radius is half way
    between that of the disc of the same area and the distance of the farthest corner."""
    corners = _CORNERS[shape]()
    area, centroid = _area_and_centroid(corners)
    corners = corners - centroid
    return 2 * corners / (np.sqrt(area / np.pi) + np.hypot(*corners.T).max())


def unit_area(shape: str) -> float:
    """The area of the shape of radius 1."""
    return _area_and_centroid(outline(shape))[0]


def _area_and_centroid(corners: np.ndarray) -> tuple[float, np.ndarray]:
    following = np.roll(corners, -1, 0)
    cross = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
    return cross.sum() / 2, ((corners + following) * cross[:, None]).sum(0) / (3 * cross.sum())


def _regular(count: int, start: float = -np.pi / 2) -> np.ndarray:
    angle = start + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def _star() -> np.ndarray:
    return np.stack([_regular(5), 0.5 * _regular(5, -np.pi / 2 + np.pi / 5)], 1).reshape(10, 2)


def _cross() -> np.ndarray:
    arm = np.array([[-0.34, -1], [0.34, -1], [0.34, -0.34]])
    turns = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([arm @ turn for turn in turns])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], -1)


def _moon() -> np.ndarray:
    """A disc without a smaller one to its right, whose edge passes through the disc's at two tips."""
    tip, inner = 1.0, 0.75
    reach = np.hypot(np.cos(tip) - inner, np.sin(tip))
    inner_tip = np.arctan2(np.sin(tip), np.cos(tip) - inner)
    outwards, inwards = np.linspace(tip, 2 * np.pi - tip, 40), np.linspace(2 * np.pi - inner_tip, inner_tip, 32)
    arcs = np.exp(1j * outwards), inner + reach * np.exp(1j * inwards[1:-1])
    return np.concatenate([np.stack([arc.real, arc.imag], -1) for arc in arcs])


_CORNERS = {
    "square": lambda: _regular(4, -3 * np.pi / 4),
    "triangle": lambda: _regular(3),
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "moon": _moon,
}


_TABLE, _TABLE_REACH = 512, 2.5  # of `_distances`: cells a side, radii from its centre to its sides


@cache
def _distances(shape: str) -> np.ndarray:
    """Signed distances to the outline of the shape of radius 1, negative inside: float32 [_TABLE, _TABLE] (y, x)."""
    line = (np.arange(_TABLE) + 0.5) * (2 * _TABLE_REACH / _TABLE) - _TABLE_REACH
    x, y = np.meshgrid(line, line)
    nearest, inside = np.full_like(x, np.inf), np.zeros_like(x, bool)
    corners = outline(shape)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        nearest = np.minimum(nearest, (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2)
        # A ray to the right crosses the outline an odd number of times from inside.
        inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0 or 1))
    return np.where(inside, -1, 1) * np.sqrt(nearest).astype(np.float32)


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The signed distance to the outline of the shape of radius 1 at points (x, y) around its centre; negative inside,
    float32, exact to 0.005; beyond 2.5 from the centre that of the nearest point there."""
    column, row = (
        np.clip((a + _TABLE_REACH) * (_TABLE / (2 * _TABLE_REACH)), 0, _TABLE - 1).astype(np.int32) for a in (x, y)
    )
    return _distances(shape).ravel()[row * _TABLE + column]


# Frames


def render(scene: Scene, frames: Sequence[int] = range(FRAMES)) -> np.ndarray:
    """The scene's frames: uint8 [F, H, W, 3]. `frames` picks some: render(scene, [k]) is render(scene)[[k]]."""
    canvas = np.repeat(_backdrop(scene.background)[None], len(frames), 0)
    for subject in scene.subjects:
        _paint(canvas, subject, scene.style, frames)
    canvas *= 255 * light_levels(scene.light, frames).astype(np.float32)[:, None, None, None]
    canvas += 0.5
    return canvas.astype(np.uint8)


def _backdrop(background: Background) -> np.ndarray:
    """float32 [H, W, 3] from 0 to 1."""
    line = np.arange(SIZE) + 0.5 - SIZE / 2
    along, across = _turned(*np.meshgrid(line, line), background.angle)
    relief = np.zeros_like(along)
    if background.pattern == "gradient":
        relief = _GRADIENT * along / (SIZE / 2)
    elif background.pattern == "checkered":
        u, v = (np.clip(3 * np.sin(2 * np.pi * a / background.period), -1, 1) for a in (along, across))
        relief = _CHECKERS * u * v
    return np.clip(np.add.outer(relief, background.shade), 0, 1).astype(np.float32)


def _paint(canvas: np.ndarray, subject: Subject, style: str, frames: Sequence[int]) -> None:
    """Paints the subject over `canvas`, float32 [F, H, W, 3]."""
    reach = _GLOW_REACH if style == "glowing" else 1
    pose = poses(subject, frames).astype(np.float32)
    x, y, radius, turn = pose.T[:, :, None, None]
    (left, top), (right, bottom) = _window(pose, reach)
    columns, rows = np.arange(left, right, dtype=np.float32)[None, None], np.arange(top, bottom)[None, :, None]
    across, down = _turned((columns + 0.5 - x) / radius, (rows + np.float32(0.5) - y) / radius, turn)
    distance = signed_distance(subject.shape, across, down) * radius

    flat = canvas.reshape(-1, 3)
    place = np.arange(canvas[..., 0].size).reshape(canvas.shape[:3])[:, top:bottom, left:right]
    shade = np.array(subject.shade, np.float32)
    if style == "glowing":
        lit = distance < reach
        halo = _GLOW * (1 - np.maximum(distance[lit], 0) / _GLOW_REACH) ** 2
        flat[place[lit]] += halo[:, None] * (shade - flat[place[lit]])
    near = np.flatnonzero(distance < 1)
    distance, across, down, place = (each.ravel()[near] for each in (distance, across, down, place))
    white = WHITENESS * texture_marks(subject.texture, subject.period, subject.angle, across, down)
    if style == "outlined":
        white = np.maximum(white, np.clip(distance + _OUTLINE + 0.5, 0, 1))
    colour, under = shade + white[:, None] * (1 - shade), flat[place]
    flat[place] = under + _covered(distance)[:, None] * (colour - under)


def _window(pose: np.ndarray, reach: float) -> np.ndarray:
    """The pixels that a subject comes `reach` near to in any frame: [2 (from, to), 2 (x, y)]."""
    reach = 1.25 * pose[:, 2].max() + reach
    corners = np.stack([pose[:, :2].min(0) - reach, pose[:, :2].max(0) + reach + 1])
    return np.clip(corners, 0, SIZE).astype(int)


def _covered(distance: np.ndarray) -> np.ndarray:
    """How much of a pixel a shape covers, by the signed distance in pixels: a soft edge, two pixels wide."""
    t = np.clip(0.5 - distance / 2, 0, 1)
    return t * t * (3 - 2 * t)


def texture_marks(texture: str, period: float, angle: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far the texture whitens points (x, y) around the subject's centre, 0 to 1; lengths in radii."""
    if texture == "plain":
        return np.zeros_like(x)
    u, v = (np.cos(2 * np.pi / period * a) for a in _turned(x, y, angle))
    return np.clip(0.5 + 1.5 * (v if texture == "striped" else u + v - 0.7), 0, 1)


def _turned(x: np.ndarray, y: np.ndarray, angle: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in a frame that is turned clockwise by `angle`."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x
