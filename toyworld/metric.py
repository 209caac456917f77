"""The oracle as a metric of the workflow: `evaluation: {metrics: [motion, toyworld.metric]}`.

Of results of this world it says what no other judge knows exactly: whether what the prompt says is there, how far a
subject's colours are from those of the subject that its words are bound to, and how like it moves.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from bico.evaluate.measure import Measurement
from bico.media.video import read_frames
from bico.text.grammar import Piece, plain_text
from toyworld.captions import Words, agreement, parse
from toyworld.oracle import Seen, SeenSubject, colour_distance, in_pixels, motion_match, read_clip

WORDS = "the oracle: the share of what the prompt says that is there; more is better"
LOOKS = {
    "shade": "the oracle: how far the subject's colour is from its source's, CIEDE2000; less is better",
    "mean_colour": "the oracle: the same of its mean colour, with the marks of its texture; less is better",
    "texture_kept": "the oracle: whether the subject has its source's texture; more is better",
}
MOVES = {
    "path": "the oracle: the correlation of the subject's path with its source's; more is better",
    "speed_error": "the oracle: how far the subject's speed is from its source's, as a share of it; less is better",
}


def measure(result: str, sources: Mapping[str, str], pieces: Iterable[tuple[str, str | None]]) -> Iterator[Measurement]:
    """See `bico.evaluate.measure.module_rows`. The subject that is compared with a source is the one that looks most
    like what its words say."""
    pieces = [Piece(*piece) for piece in pieces]
    seen = _read(result)
    said = parse(plain_text(pieces))
    if seen and said != Words(()):
        yield Measurement("words", float(np.mean(list(agreement(said, seen.words).values()))), meaning=WORDS)
    else:
        yield Measurement("words", None, reason=_WORDLESS if seen else _STRANGE, meaning=WORDS)
    for concept, path in sources.items():
        yield from _compared(concept, _read(path), seen, plain_text([p for p in pieces if p.concept == concept]))


_WORDLESS = "the prompt says nothing that this world has"
_STRANGE = "not of the toy world: its frames have another size"


def _read(path: str) -> Seen | None:
    frames = read_frames(path)
    try:
        return read_clip(frames if len(frames) > 1 else frames[0])
    except ValueError:
        return None


def _compared(concept: str, source: Seen | None, seen: Seen | None, words: str) -> Iterator[Measurement]:
    """The metrics of what the linked words are about: looks, if they name a shape; moves, if they name a motion."""
    named = parse(words).subjects
    moves = parse(f"a star {words}").subjects[-1].motion
    wanted = _likest(source, named)
    subject = _likest(seen, named)
    for asked, meanings, compare in ((named, LOOKS, _looks), (moves, MOVES, _moves)):
        found = compare(wanted, subject) if wanted and subject else {}
        nothing = "no subject is seen, or it does not move" if source and seen else _STRANGE
        for name, meaning in meanings.items() if asked else ():
            value = found.get(name)
            yield Measurement(name, value, concept, nothing if value is None else "", meaning)


def _likest(seen: Seen | None, named: tuple) -> SeenSubject | None:
    def fits(subject: SeenSubject) -> int:
        return sum(getattr(subject.words, name) == word for one in named for name, word in vars(one).items() if word)

    return max(seen.subjects, key=fits, default=None) if seen else None


def _looks(wanted: SeenSubject, subject: SeenSubject) -> dict[str, float]:
    return {
        "shade": colour_distance(subject.shade, wanted.shade),
        "mean_colour": colour_distance(subject.mean, wanted.mean),
        "texture_kept": float(subject.words.texture == wanted.words.texture),
    }


def _moves(wanted: SeenSubject, subject: SeenSubject) -> dict[str, float]:
    if len(wanted.pose) != len(subject.pose) or len(subject.pose) < 2:
        return {}
    path, speed = motion_match(in_pixels(subject.pose), in_pixels(wanted.pose))
    return {"path": float(np.nan_to_num(path)), "speed_error": abs(float(np.nan_to_num(speed)) - 1)}
