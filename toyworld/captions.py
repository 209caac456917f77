"""Scenes in words: captions, the phrases that name their concepts, and what a caption claims.

The words are those of `scene`. Whatever is continuous in a scene (shade, texture frequency and angle, speed, reach,
phase, place) stands in no caption.
"""

import re
from dataclasses import dataclass, fields, replace
from itertools import permutations

import numpy as np

from bico.prompts.writers.template import template_prompts
from bico.text.phrases import Phrases
from toyworld.scene import BACKGROUNDS, COLOURS, SHAPES, Scene, Subject, poses

# The wordings of each word. The first is the one of the phrases.
WORDINGS = {
    "size": {"small": ("small", "little"), "big": ("big", "large")},
    "colour": {word: (word,) for word in COLOURS},
    "texture": {"plain": ("plain",), "striped": ("striped",), "dotted": ("dotted", "spotted")},
    "shape": {word: (word,) for word in SHAPES},
    "motion": {
        "still": ("standing still", "resting"),
        "left": ("sliding to the left", "moving left"),
        "right": ("sliding to the right", "moving right"),
        "up": ("sliding up", "moving upwards"),
        "down": ("sliding down", "moving downwards"),
        "clockwise": ("circling clockwise", "moving in a clockwise circle"),
        "anticlockwise": ("circling anticlockwise", "moving in an anticlockwise circle"),
        "bouncing": ("bouncing", "bouncing up and down"),
        "swinging": ("swinging", "swinging from side to side"),
        "zigzag": ("zigzagging", "moving in a zigzag"),
        "spinning": ("spinning", "turning around itself"),
        "growing": ("growing", "getting bigger"),
        "shrinking": ("shrinking", "getting smaller"),
        "shaking": ("shaking", "trembling"),
    },
    "style": {"flat": ("flat",), "outlined": ("outlined",), "glowing": ("glowing",)},
    "pattern": {"plain": ("plain",), "gradient": ("gradient",), "checkered": ("checkered",)},
    "background": {word: (word,) for word in BACKGROUNDS},
    "light": {
        "steady": ("in steady light",),
        "fading": ("in fading light", "while the light fades"),
        "rising": ("in rising light", "while the light rises"),
    },
}
MIDDLING = (11.0, 12.5)  # pixels: a frame's subject of a radius between is called neither small nor big


@dataclass(frozen=True)
class SubjectWords:
    """The attributes of a subject that a text names; None: it does not."""

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None
    size: str | None = None
    motion: str | None = None


@dataclass(frozen=True)
class Words:
    """The attributes of a clip or frame that a text names; None: it does not. `background` is its colour."""

    subjects: tuple[SubjectWords, ...]
    style: str | None = None
    background: str | None = None
    pattern: str | None = None
    light: str | None = None


SUBJECT_FIELDS = tuple(field.name for field in fields(SubjectWords))
SCENE_FIELDS = tuple(field.name for field in fields(Words) if field.name != "subjects")
TEMPORAL_FIELDS = ("motion", "light")  # which a single frame does not show


def words_of(scene: Scene, frame: int | None = None) -> Words:
    """All that words can say of the scene's clip, or of one of its frames: no motion and no change of light then,
    and the size that the frame shows."""
    subjects = tuple(_subject_words(subject, frame) for subject in scene.subjects)
    light = scene.light.word if frame is None else None
    return Words(subjects, scene.style, scene.background.colour, scene.background.pattern, light)


def _subject_words(subject: Subject, frame: int | None) -> SubjectWords:
    words = SubjectWords(subject.shape, subject.colour, subject.texture, subject.size, subject.motion.word)
    if frame is None:
        return words
    radius = poses(subject, [frame])[0, 2]
    size = "small" if radius <= MIDDLING[0] else "big" if radius >= MIDDLING[1] else None
    return replace(words, size=size, motion=None)


def phrases_of(words: Words) -> Phrases:
    """The key phrases, as a concept extractor should name them: each subject ("big red striped star"), the style, the
    background; each motion and a change of the light."""
    spatial = [_noun(subject, _first) for subject in words.subjects]
    if words.style:
        spatial.append(f"{words.style} style")
    if words.background or words.pattern:
        spatial.append(_backdrop(words))
    temporal = [_first("motion", subject.motion) for subject in words.subjects if subject.motion]
    if words.light not in (None, "steady"):
        temporal.append(_first("light", words.light))
    return Phrases(tuple(dict.fromkeys(spatial)), tuple(dict.fromkeys(temporal)))


def _first(field: str, word: str) -> str:
    return WORDINGS[field][word][0]


def _noun(subject: SubjectWords, say) -> str:
    adjectives = [say(field, word) for field in ("size", "colour", "texture") if (word := getattr(subject, field))]
    return " ".join([*adjectives, subject.shape])


def _backdrop(words: Words) -> str:
    return " ".join(word for word in (words.pattern, words.background, "background") if word)


# Captions


def caption(scene: Scene, rng: np.random.Generator, frame: int | None = None) -> tuple[str, Words]:
    """A caption of the scene's clip, or of one of its frames, and what it says; some attributes are left out."""
    words = thinned(words_of(scene, frame), rng)
    return say(words, rng), words


_LEFT_OUT = {"size": 0.35, "texture": 0.3, "colour": 0.1, "style": 0.35, "background": 0.1, "pattern": 0.3}


def thinned(words: Words, rng: np.random.Generator) -> Words:
    """Without some of the words. A clip keeps its motions; steady light is rarely worth a word."""
    left_out = _LEFT_OUT | {"light": 0.9 if words.light == "steady" else 0.2}
    subjects = tuple(_without(subject, left_out, rng) for subject in words.subjects)
    return replace(_without(words, left_out, rng), subjects=subjects)


def _without(words, left_out: dict[str, float], rng: np.random.Generator):
    gone = [field.name for field in fields(words) if rng.random() < left_out.get(field.name, 0)]
    return replace(words, **dict.fromkeys(gone))


def say(words: Words, rng: np.random.Generator) -> str:
    """One of many sentences that say just these words; every subject has a shape."""
    one_motion = len({subject.motion for subject in words.subjects}) == 1
    # The pipeline's own prompts enumerate phrases: they cannot say which motion is whose, nor that nothing changes.
    if one_motion and words.light != "steady" and rng.random() < 0.2:
        phrases = phrases_of(words)
        return template_prompts(phrases, "video" if phrases.temporal else "image", 1, int(rng.integers(2**31)))[0]
    return _sentence(words, rng)


def _sentence(words: Words, rng: np.random.Generator) -> str:
    def pick(*ways: str) -> str:
        return str(rng.choice(ways))

    def wording(field: str, word: str) -> str:
        return pick(*WORDINGS[field][word])

    prefixed = words.style and rng.random() < 0.5
    subjects = []
    for subject in words.subjects:
        noun = _noun(subject, wording)
        noun = f"{words.style} {noun}" if prefixed else noun
        motion = subject.motion and wording("motion", subject.motion)
        subjects.append(f"{_article(noun)} {noun}" + (pick(" ", " that is ", ", ") + motion if motion else ""))
    what = pick(" and ", " next to ").join(subjects)

    around = []
    if words.background or words.pattern:
        backdrop = _backdrop(words)
        around.append(f"{pick('on', 'in front of', 'against')} {_article(backdrop)} {backdrop}")
    if words.style and not prefixed:
        around.append(f"in {words.style} style")
    if words.light:
        around.append(wording("light", words.light))

    medium = pick("video", "clip") if words.subjects[0].motion else pick("picture", "image")
    openings = what, f"{_article(medium)} {medium} of {what}", f"the {medium} shows {what}"
    ways = [[opening, *around] for opening in openings]
    if around:
        ways.append([f"{around[0]}, {what}", *around[1:]])
    text = pick(" ", ", ").join(ways[rng.integers(len(ways))])
    return f"{text[0].upper()}{text[1:]}."


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


# What a caption claims


_FIELDS = ("size", "colour", "texture", "style", "pattern", "background", "motion", "light")
_WORDS = sorted(
    {wording for words in WORDINGS.values() for wordings in words.values() for wording in wordings},
    key=len,
    reverse=True,
)
_PATTERN = re.compile(rf"\b({'|'.join([*_WORDS, 'background'])})\b", re.IGNORECASE)


def parse(text: str) -> Words:
    """What a caption or a prompt of this world's words claims. Adjectives belong to the shape, or to the word
    "background", that follows them; motions to the subjects in their order, and a lone one to all."""
    subjects, motions, found, adjectives = [], [], {}, []
    end = 0
    for match in _PATTERN.finditer(text):
        if text[end : match.start()].strip():
            adjectives = []
        end, way = match.end(), match[1].lower()
        if way in SHAPES:
            subjects.append(SubjectWords(way, **_read(adjectives, ("size", "colour", "texture"))))
        elif way == "background":
            found |= _read(adjectives, ("pattern", "background"))
        elif read := _read([way], ("motion",)):
            motions.append(read["motion"])
        elif read := _read([way], ("style", "light")):
            found |= read
            continue
        else:
            adjectives.append(way)
            continue
        adjectives = []
    if len(motions) == 1:
        motions *= len(subjects)
    motions += [None] * (len(subjects) - len(motions))
    pairs = zip(subjects, motions, strict=False)
    return Words(tuple(replace(subject, motion=motion) for subject, motion in pairs), **found)


def attributes_so_far(text: str) -> list[tuple[int, set[tuple[str, str]]]]:
    """Where each of the world's words ends, and the attributes that its phrase has named up to there. Before the shape,
    or the word "background", an adjective may be of either."""
    found, adjectives, end = [], [], 0
    for match in _PATTERN.finditer(text):
        if text[end : match.start()].strip():
            adjectives = []
        end, way = match.end(), match[1].lower()
        names = _FIELDS
        if way == "background":
            names = ("pattern", "background")
        elif way in SHAPES:
            names = ("size", "colour", "texture", "shape")
        found.append((end, set(_named([*adjectives, way], names))))
        adjectives = [] if way == "background" or way in SHAPES else [*adjectives, way]
    return found


def _read(ways: list[str], names: tuple[str, ...]) -> dict[str, str]:
    return dict(_named(ways, names))


def _named(ways: list[str], names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        (name, word) for name in names for word, wordings in WORDINGS[name].items() for way in ways if way in wordings
    ]


def agreement(claimed: Words, seen: Words) -> dict[str, bool]:
    """Of each attribute that is claimed, whether what is seen has it; "count" for the number of subjects, which the
    order of the subjects does not matter for. With too few or too many seen, all that is claimed of subjects fails."""
    agreed = {name: getattr(claimed, name) == getattr(seen, name) for name in SCENE_FIELDS if getattr(claimed, name)}
    matches = [_subjects_agree(claimed.subjects, order) for order in permutations(seen.subjects)]
    best = max(matches, key=lambda match: (match.get("shape", 0) + match.get("colour", 0), sum(match.values())))
    return {"count": len(claimed.subjects) == len(seen.subjects)} | best | agreed


def _subjects_agree(claimed: tuple[SubjectWords, ...], seen: tuple[SubjectWords, ...]) -> dict[str, bool]:
    agreed: dict[str, bool] = {}
    for number, subject in enumerate(claimed):
        for field in fields(subject):
            if word := getattr(subject, field.name):
                right = len(seen) == len(claimed) and getattr(seen[number], field.name) == word
                agreed[field.name] = agreed.get(field.name, True) and right
    return agreed
