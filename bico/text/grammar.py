r"""The prompt of a composition, as a person writes it, into pieces that know their source.

Inline, in Markdown's link style; words outside a link are free:

    [A happy Akita dog,](akita) [raises its paws](gaming*0.8) in a cosy kitchen.

The released code's syntax: a template with `#` slots, then one text a slot, each behind a `|` and linked to its source:

    # # in a cosy kitchen. | [A happy Akita dog,](akita) | [raises its paws](gaming*0.8)

Both give the same pieces. A backslash makes any of `[ ] # | \` an ordinary character.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import ftfy

from bico.runtime.reading import shorten

# Longer than what any text encoder reads, and short enough for ftfy, whose time grows with the square of some texts.
LONGEST = 20_000
ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
LARGEST_SCALE = 1000.0
LONGEST_ID = 100  # it becomes a part of file names, which end at 255 bytes
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
# What nobody sees and what turns the order of letters around, so that a text is not what it looks like. The joiners of
# emoji and of scripts, and the marks of their direction, are fine.
INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc\ufffe\uffff\ud800-\udfff]"
)
# No alternative can begin where another one ends, so every scan is linear. In turn: an escaped special character, a
# special character, anything else.
_PART = re.compile(r"\\([\[\]#|\\])|([\[\]#|])|([^\[\]#|\\]+|\\)")
_SPECIAL = re.compile(r"[\[\]#|\\]")
_BEFORE_A_STOP = re.compile(r" (?=[,.;:!?])")
_TARGET = re.compile(r"\(([^()]*)\)")


class GrammarError(ValueError):
    """A prompt that does not parse; the message says where and what is allowed."""


@dataclass(frozen=True)
class Piece:
    """Words in a row with one source: `concept` None means free text. `scale` multiplies the binder's residual."""

    text: str
    concept: str | None = None
    scale: float = 1.0


def bad_id(name: str) -> str | None:
    """What speaks against an id of a concept, a composition or a method; None if nothing does."""
    if len(name) > LONGEST_ID:
        return (
            f"'{shorten(name)}' has {len(name)} characters, allowed: at most {LONGEST_ID}, since files are named by it"
        )
    if not ID.fullmatch(name):
        return f"found '{shorten(name)}', allowed: letters, digits, '_' and, not first, '-'"
    if _DEVICES.fullmatch(name):
        return f"found '{name}', the name of a device where Windows keeps the files; allowed: any other"
    return None


def clean(text: str) -> str:
    """Text as Wan's own prompt cleaning leaves it: mojibake and full-width forms mended, HTML entities resolved, white
    space folded (diffusers' `prompt_clean`, Wan2.1's HuggingfaceTokenizer)."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def parse(prompt: str) -> list[Piece]:
    """The pieces of a prompt in either syntax, cleaned, empty free text dropped. Raises GrammarError."""
    if len(prompt) > LONGEST:
        raise GrammarError(f"the prompt has {len(prompt):,} characters, allowed: at most {LONGEST:,}")
    parts = _split(prompt)
    pieces = _fill_slots(parts) if any(kind in "#|" for kind, _ in parts) else [value for _, value in parts]
    pieces = [Piece(clean(piece.text), piece.concept, piece.scale) for piece in pieces]
    pieces = [piece for piece in pieces if piece.text]
    if not pieces:
        raise GrammarError("the prompt has no words")
    return pieces


def link(words: str, concept: str) -> str:
    """The link of words to a concept, as it stands in a prompt."""
    escaped = _SPECIAL.sub(r"\\\g<0>", words)
    return f"[{escaped}]({concept})"


def plain_text(pieces: Sequence[Piece]) -> str:
    """The words of a prompt as one sentence, without its links."""
    return _BEFORE_A_STOP.sub("", " ".join(piece.text for piece in pieces))


def _split(prompt: str) -> list[tuple[str, Piece | None]]:
    """The prompt's parts in order: ("free", piece), ("link", piece), ("#", None) and ("|", None)."""
    parts, at = [], 0
    while at < len(prompt):
        text, at = _read_text(prompt, at)
        if text:
            parts.append(("free", Piece(text)))
        character = prompt[at : at + 1]
        if character == "]":
            raise GrammarError(rf"unbalanced ']' at character {at + 1}; write \] for a bracket that is no link")
        if character == "[":
            link, at = _read_link(prompt, at)
            parts.append(("link", link))
        elif character:
            parts.append((character, None))
            at += 1
    return parts


def _read_text(prompt: str, start: int, ends: str = "[]#|") -> tuple[str, int]:
    """The text from `start` up to one of `ends` that no backslash escapes, and where that stands."""
    text = []
    while found := _PART.match(prompt, start):
        escaped, special, plain = found.groups()
        if special and special in ends:
            break
        text.append(escaped or special or plain)
        start = found.end()
    return "".join(text), start


def _read_link(prompt: str, start: int) -> tuple[Piece, int]:
    """The link whose `[` stands at `start`, and the position behind it."""
    words, at = _read_text(prompt, start + 1, "[]")
    if at == len(prompt):
        raise GrammarError(rf"unbalanced '[' at character {start + 1}; a link is [words](concept), a bracket \[")
    if prompt[at] == "[":
        raise GrammarError(rf"unbalanced '[' at character {at + 1}, inside a link; write \[ for a bracket")
    shown = f"[{shorten(words)}]"
    target = _TARGET.match(prompt, at + 1)
    if target is None:
        raise GrammarError(rf"'{shown}' is not followed by (concept); a link is [words](concept), a bracket \[")
    name, scaled, scale = (part.strip() for part in target[1].partition("*"))
    if not clean(words):
        raise GrammarError(f"the link '{shown}({shorten(name)})' is empty: it has no words")
    if not ID.fullmatch(name):
        raise GrammarError(f"the link '{shown}' names '{shorten(name)}'; a concept is letters, digits, '_' and '-'")
    return Piece(words, name, _read_scale(shown, scale) if scaled else 1.0), target.end()


def _read_scale(link: str, text: str) -> float:
    scale = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text) else math.inf
    if scale > LARGEST_SCALE:
        allowed = f"a number from 0 to {LARGEST_SCALE:g}, like 0.8"
        raise GrammarError(f"the link '{link}' is scaled by '{shorten(text)}'; a scale is {allowed}")
    return scale


def _fill_slots(parts: list[tuple[str, Piece | None]]) -> list[Piece]:
    """The released syntax: the template in front of the first `|`, its slots filled with the texts in order."""
    kinds = [kind for kind, _ in parts]
    end = kinds.index("|") if "|" in kinds else len(parts)
    template, texts = parts[:end], [value for kind, value in parts[end:] if kind == "link"]
    strays = [value.text for kind, value in parts[end:] if kind == "free" and value.text.strip()]
    slots = sum(kind == "#" for kind, _ in template)
    if any(kind == "link" for kind, _ in template):
        raise GrammarError(r"links and '#' slots in one text; use one of the two syntaxes (a plain '#' is \#)")
    if strays or "#" in kinds[end:] or kinds[end:].count("|") != len(texts):
        found = f", found '{shorten(strays[0].strip())}'" if strays else ""
        raise GrammarError(f"each text behind a '|' is one link, [words](concept){found}")
    if slots != len(texts):
        raise GrammarError(rf"{slots} '#' slots but {len(texts)} texts; each slot takes one text (a plain '#' is \#)")
    remaining = iter(texts)
    return [next(remaining) if kind == "#" else value for kind, value in template]
