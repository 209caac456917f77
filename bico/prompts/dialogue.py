"""How a language model that sees is asked: to name a clip's visual concepts, and to write the prompts that use them
(Diversify-and-Absorb). What it answers is checked, and asked for again where it cannot be used, whoever the writer is.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bico import InputError
from bico.prompts.answers import BY_HAND, parse_phrases
from bico.prompts.instructions import CONCEPT_SYSTEM, PROMPT_SYSTEM
from bico.runtime.command import default_settings, progress
from bico.runtime.runs import Journal, interruptible
from bico.text.phrases import Phrases, missing_phrases, required_phrases
from bico.text.tokens import PromptTokenizer

log = logging.getLogger(__name__)
DEFAULTS = default_settings("prompts")
SPARE = 8  # attempts more for a prompt of which there is none yet: none is usable once in a while, rarely twice
RESEED = 1_000_000  # between the seeds of one prompt's attempts: far more than the prompts of any clip


@dataclass(frozen=True)
class Sampling:
    """How prompts are sampled; the defaults are the paper's values."""

    temperature: float = DEFAULTS["temperature"]
    top_k: int = DEFAULTS["top_k"]
    top_p: float = DEFAULTS["top_p"]
    max_new_tokens: int = DEFAULTS["max_new_tokens"]


class Writer(Protocol):
    """A model that sees and writes. name: for the record."""

    name: str

    def show(self, messages: list[dict], frames: np.ndarray, kind: str, fps: float | None = None):
        """The messages, of which the user's shows a picture or clip (frames uint8 [F, H, W, 3], kind `image` or
        `video`), read by the model once for all answers to them."""

    def answer(self, seen, sampling: Sampling | None, seed: int, turns: Sequence[tuple[str, str]]) -> str:
        """The answer to what `show` returned: greedy without `sampling`, else sampled with `seed`, the same each time.
        turns: (the model's answer, the user's reply to it) that followed."""


class Room:
    """How long a prompt may be: what the text encoder takes, less what training needs for the absorbent tokens.

    tokenizer: the text encoder's, its folder; text_length: what it takes in tokens, end-of-text included.
    """

    def __init__(self, tokenizer: str | Path, text_length: int):
        self._tokenizer = PromptTokenizer(tokenizer)
        # How many absorbent tokens there are is a matter of each method, and the prompts are of all.
        self._most = text_length - max(text_length // 8, 1)

    def __str__(self) -> str:
        return f"at most {self._most} tokens of the text encoder"

    def holds(self, prompt: str) -> bool:
        return len(self._tokenizer.tokenise_text(prompt)) <= self._most


def conversation(system: str, request: str, kind: str) -> list[dict]:
    """The messages that show a picture under a system prompt, with a request."""
    content = [{"type": kind}, {"type": "text", "text": request}]
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def extract(writer: Writer, frames: np.ndarray, kind: str, fps: float | None = None) -> Phrases:
    """The visual concepts the model names: frames uint8 [F, H, W, 3], kind `image` or `video`, fps of a clip.

    Greedy. An answer that is not usable is shown to the model with what is wrong, and asked for once more; then
    InputError shows both answers. A clip in which the model sees nothing move has no temporal phrases.
    """
    seen = writer.show(concept_conversation(kind), frames, kind, fps)
    first = writer.answer(seen, None, 0, ())
    try:
        return parse_phrases(first, kind)
    except InputError as problem:
        refused = problem.problems
    try:
        return parse_phrases(writer.answer(seen, None, 0, [(first, repair_request(refused))]), kind)
    except InputError as problem:
        title = f"'{writer.name}' named no usable concepts, asked twice"
        raise InputError(f"{title}; at first:", *refused, "then:", *problem.problems, BY_HAND) from None


def concept_conversation(kind: str) -> list[dict]:
    """The messages that ask for the concepts of an image or a video."""
    return conversation(CONCEPT_SYSTEM[kind], f"Name the visual concepts of this {kind}.", kind)


def repair_request(problems: Sequence[str]) -> str:
    """What the model is told of its answer's problems (`parse_phrases`: the last is the answer, which it sees)."""
    return f"That answer cannot be used: {'; '.join(problems[:-1])}. Answer again, with the JSON object alone."


def keep_request(missing: Sequence[str]) -> str:
    """What the model is told of the phrases that its prompt dropped."""
    return f"Keep the words of each concept; these are not there: {'; '.join(missing)}. Write the prompt again."


def diversify(
    writer: Writer,
    frames: np.ndarray,
    kind: str,
    phrases: Phrases,
    fps: float | None = None,
    count: int = DEFAULTS["count"],
    sampling: Sampling = Sampling(),
    seed: int = DEFAULTS["seed"],
    attempts: int = DEFAULTS["attempts"],
    journal: Journal | None = None,
    room: Room | None = None,
) -> tuple[list[str], dict[str, int]]:
    """`count` prompts for one picture or clip (frames uint8 [F, H, W, 3]), and the report on them.

    Prompt i is sampled with seed + i. One that dropped a key phrase is asked for again, at most `attempts` times: the
    model is shown its sentence and what it dropped, and answers with seed + i + k * RESEED the k-th time. If none keeps
    all, the one that dropped fewest stays. One that is too long for the text encoder, as loops are, is asked for anew.
    InputError if the model writes none that can be used. The journal has the first prompts if
    a run was killed, and gets each further one; raises Stopped between two of them when it is told to stop.

    The report counts prompts: `count`, `kept_first_try`, `kept` (all key phrases, in the end), and `reasked`, how often
    the model was asked again.
    """
    required = _required(phrases, kind, room)
    seen = writer.show(prompt_conversation(phrases, kind), frames, kind, fps)
    journal = journal or Journal()
    for i in _left(journal, count):
        journal.append(_write(writer, seen, required, sampling, seed + i, attempts, room))
    return _reported(journal.entries)


def diversify_frames(
    writer: Writer,
    frames: Sequence[np.ndarray],
    phrases: Phrases,
    sampling: Sampling = Sampling(),
    seed: int = DEFAULTS["seed"],
    attempts: int = DEFAULTS["attempts"],
    journal: Journal | None = None,
    room: Room | None = None,
) -> tuple[list[str], dict[str, int]]:
    """One spatial prompt for each frame (uint8 [H, W, 3]), each shown alone as an image; the rest as `diversify`."""
    required = _required(phrases, "image", room)
    messages = prompt_conversation(phrases, "image")
    journal = journal or Journal()
    for i in _left(journal, len(frames)):
        seen = writer.show(messages, frames[i][None], "image")
        journal.append(_write(writer, seen, required, sampling, seed + i, attempts, room))
    return _reported(journal.entries)


def _left(journal: Journal, count: int) -> Iterator[int]:
    """The numbers of the prompts that are not written yet."""
    done = len(journal.entries)
    if done:
        log.info("going on with prompt %d of %d", done + 1, count)
    return interruptible(progress(range(done, count), "prompts", "prompt", initial=done, total=count))


def prompt_conversation(phrases: Phrases, kind: str) -> list[dict]:
    """The messages that ask for a prompt with these phrases."""
    request = f"Spatial concepts: {'; '.join(phrases.spatial)}\n"
    if kind == "video" and phrases.temporal:
        request += f"Temporal concepts: {'; '.join(phrases.temporal)}\n"
    return conversation(PROMPT_SYSTEM[kind], f"{request}Write the prompt.", kind)


def _required(phrases: Phrases, kind: str, room: Room | None) -> tuple[str, ...]:
    """The phrases that a prompt must keep. InputError if no prompt with all of them can be short enough."""
    required = required_phrases(phrases, kind)
    if room and not room.holds(" ".join(required)):
        raise InputError(f"the {len(required)} phrases are longer than a prompt may be, {room}", BY_HAND)
    return required


def _write(
    writer: Writer, seen, required: Sequence[str], sampling: Sampling, seed: int, attempts: int, room: Room | None
) -> dict:
    """One `prompt`, how many phrases it `dropped`, and how often it was `reasked`."""
    best, turns = None, []
    for again in range(attempts + SPARE + 1):
        text = _one_line(writer.answer(seen, sampling, seed + again * RESEED, turns))
        missing = missing_phrases(text, required)
        usable = text and (room is None or room.holds(text))
        if usable and (best is None or len(missing) < best[1]):
            best = text, len(missing)
        if best and (not best[1] or again >= attempts):
            return {"prompt": best[0], "dropped": best[1], "reasked": again}
        turns = [(text, keep_request(missing))] if usable else []
    raise InputError(
        f"'{writer.name}' wrote no prompt{f' of {room}' if room else ''}, asked {again + 1} times; the setting"
        " prompts.writer: template writes prompts without it",
        BY_HAND,
    )


def _one_line(text: str) -> str:
    """The answer as one line of visible characters, without quotation marks around the whole."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    quoted = len(line) > 1 and line[0] + line[-1] in ('""', "''", "“”")
    return line[1:-1].strip() if quoted else line


def _reported(written: Sequence[dict]) -> tuple[list[str], dict[str, int]]:
    report = {
        "count": len(written),
        "kept_first_try": sum(not one["dropped"] and not one["reasked"] for one in written),
        "kept": sum(not one["dropped"] for one in written),
        "reasked": sum(one["reasked"] for one in written),
    }
    return [one["prompt"] for one in written], report
