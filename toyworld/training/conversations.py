"""The conversations that the world's language model learns from: those of the pipeline, about scenes of the world."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bico.prompts.dialogue import concept_conversation, keep_request, prompt_conversation
from bico.prompts.instructions import CONCEPT_SYSTEM, PROMPT_SYSTEM
from bico.prompts.writers.template import template_prompts
from bico.text.phrases import KINDS, Phrases, fields_of, keeps_phrases, missing_phrases, required_phrases
from toyworld import captions
from toyworld.captions import phrases_of, say, thinned, words_of
from toyworld.scene import FRAMES, Scene, render, sample_scene

TASKS = ("name", "write", "rewrite")


@dataclass(frozen=True)
class Example:
    """A conversation up to the model's turn, its frames (uint8 [F, H, W, 3]; a clip's: those that the model is given),
    the answer, and the scene of the frames."""

    messages: list[dict]
    frames: np.ndarray
    answer: str
    scene: Scene


def phrases_in_reading_order(scene: Scene, frame: int | None = None) -> Phrases:
    """The phrases that a scene's clip, or one of its frames, should get: subjects in the order in which one reads,
    along the axis on which they stand farther apart."""
    places = np.array([subject.centre for subject in scene.subjects])
    order = np.argsort(places[:, np.ptp(places, axis=0).argmax()])
    return phrases_of(words_of(replace(scene, subjects=tuple(scene.subjects[k] for k in order)), frame))


def draw_example(
    task: str, kind: str, frames_shown: Sequence[int], rng: np.random.Generator, subjects: int | None = None
) -> Example:
    """task: of TASKS; kind: of KINDS; frames_shown: of a clip; subjects: as `sample_scene` takes them."""
    scene = sample_scene(rng, subjects)
    frame = int(rng.integers(FRAMES)) if kind == "image" else None
    pixels = render(scene, frames_shown if frame is None else [frame])
    if task == "name":
        phrases = phrases_in_reading_order(scene, frame)
        lists = {"spatial": phrases.spatial} | ({"temporal": phrases.temporal} if kind == "video" else {})
        return Example(concept_conversation(kind), pixels, json.dumps(lists), scene)
    if task == "write" and rng.random() < _INVENTED:
        phrases = _invented(kind, rng)
        answer = template_prompts(phrases, kind, 1, int(rng.integers(2**31)))[0]
        return Example(prompt_conversation(phrases, kind), pixels, answer, scene)
    words = words_of(scene, frame)
    words = words if rng.random() < 0.5 else thinned(words, rng)
    phrases, answer = phrases_of(words), _prompt(words, kind, rng)
    messages = prompt_conversation(phrases, kind)
    if task == "rewrite":
        missing = []
        while not missing:  # nothing is where both subjects move alike
            dropped = _prompt(_misread(words, rng), kind, rng)
            missing = missing_phrases(dropped, required_phrases(phrases, kind))
        reply = keep_request(missing)
        messages += [{"role": "assistant", "content": dropped}, {"role": "user", "content": reply}]
    return Example(messages, pixels, answer, scene)


def with_picture_of(asked: Example, other: Example) -> Example:
    """The conversation of one, with the picture of the other."""
    return replace(asked, frames=other.frames, scene=other.scene)


_INVENTED = 0.25  # the share of prompts with phrases that are not the world's, so that it learns to copy any phrase
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
    """The words with one attribute of a subject changed."""
    subject = words.subjects[k := int(rng.integers(len(words.subjects)))]
    name = str(rng.choice([name for name in captions.SUBJECT_FIELDS if getattr(subject, name)]))
    other = str(rng.choice([word for word in captions.WORDINGS[name] if word != getattr(subject, name)]))
    changed = replace(subject, **{name: other})
    return replace(words, subjects=(*words.subjects[:k], changed, *words.subjects[k + 1 :]))


def _invented(kind: str, rng: np.random.Generator) -> Phrases:
    """Phrases of common words and of random letters."""
    lists = [tuple(_invented_phrase(rng) for _ in range(rng.integers(1, 4))) for _ in fields_of(kind)]
    return Phrases(*(tuple(dict.fromkeys(phrases)) for phrases in lists))


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
