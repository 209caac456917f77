r"""The prompt of a composition, as a person writes it, into pieces that know their source.

Inline, in Markdown's link style; words outside a link are free:

    [A happy Akita dog,](akita) [raises its paws](gaming*0.8) in a cosy kitchen.

The released code's syntax: a template with `#` slots, then one text a slot, each behind a `|` and linked to its source:

    # # in a cosy kitchen. | [A happy Akita dog,](akita) | [raises its paws](gaming*0.8)

Both give the same pieces. A backslash makes any of `[ ] # | \` an ordinary character.
"""

import html
import re
from dataclasses import dataclass

import ftfy

ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_LINK = re.compile(r"\(\s*([^()*]*?)\s*(?:\*\s*([^()]*?)\s*)?\)")


class GrammarError(ValueError):
    """A prompt that does not parse; the message says where and what is allowed."""


@dataclass(frozen=True)
class Piece:
    """Words in a row with one source: `concept` None means free text. `scale` multiplies the binder's residual."""

    text: str
    concept: str | None = None
    scale: float = 1.0


def clean(text: str) -> str:
    """Text as Wan's own prompt cleaning leaves it: mojibake and full-width forms mended, HTML entities resolved, white
    space folded (diffusers' `prompt_clean`, Wan2.1's HuggingfaceTokenizer)."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def parse(prompt: str) -> list[Piece]:
    """The pieces of a prompt in either syntax, cleaned, empty free text dropped. Raises GrammarError."""
    parts = _split(prompt)
    pieces = _fill_slots(parts) if any(kind in "#|" for kind, _ in parts) else [value for _, value in parts]
    pieces = [Piece(clean(piece.text), piece.concept, piece.scale) for piece in pieces]
    pieces = [piece for piece in pieces if piece.text]
    if not pieces:
        raise GrammarError("the prompt has no words")
    return pieces


def _split(prompt: str) -> list[tuple[str, Piece | None]]:
    """The prompt's parts in order: ("free", piece), ("link", piece), ("#", None) and ("|", None)."""
    parts, free, at = [], "", 0

    def flush() -> None:
        nonlocal free
        if free:
            parts.append(("free", Piece(free)))
            free = ""

    while at < len(prompt):
        character = prompt[at]
        if character == "\\" and prompt[at + 1 : at + 2] in tuple("[]#|\\"):
            free += prompt[at + 1]
            at += 2
        elif character in "#|":
            flush()
            parts.append((character, None))
            at += 1
        elif character == "[":
            flush()
            link, at = _read_link(prompt, at)
            parts.append(("link", link))
        elif character == "]":
            raise GrammarError(rf"unbalanced ']' at character {at + 1}; write \] for a bracket that is no link")
        else:
            free += character
            at += 1
    flush()
    return parts


def _read_link(prompt: str, start: int) -> tuple[Piece, int]:
    """The link whose `[` stands at `start`, and the position behind it."""
    words, at = "", start + 1
    while at < len(prompt) and prompt[at] != "]":
        if prompt[at] == "[":
            raise GrammarError(rf"unbalanced '[' at character {at + 1}, inside a link; write \[ for a bracket")
        if prompt[at] == "\\" and prompt[at + 1 : at + 2] in tuple("[]#|\\"):
            at += 1
        words += prompt[at]
        at += 1
    if at == len(prompt):
        raise GrammarError(rf"unbalanced '[' at character {start + 1}; a link is [words](concept), a bracket \[")
    target = _LINK.match(prompt, at + 1)
    if target is None:
        raise GrammarError(rf"'[{words}]' is not followed by (concept); a link is [words](concept), a bracket \[")
    name, scale = target.groups()
    if not clean(words):
        raise GrammarError(f"the link '[{words}]({name})' is empty: it has no words")
    if not ID.fullmatch(name):
        raise GrammarError(f"the link '[{words}]' names '{name}'; a concept is letters, digits, '_' and '-'")
    return Piece(words, name, _read_scale(words, scale)), target.end()


def _read_scale(words: str, scale: str | None) -> float:
    if scale is None:
        return 1.0
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", scale):
        raise GrammarError(f"the link '[{words}]' is scaled by '{scale}'; a scale is a number of at least 0, like 0.8")
    return float(scale)


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
        found = f", found '{strays[0].strip()}'" if strays else ""
        raise GrammarError(f"each text behind a '|' is one link, [words](concept){found}")
    if slots != len(texts):
        raise GrammarError(rf"{slots} '#' slots but {len(texts)} texts; each slot takes one text (a plain '#' is \#)")
    remaining = iter(texts)
    return [next(remaining) if kind == "#" else value for kind, value in template]
