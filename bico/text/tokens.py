"""Prompt pieces to token ids, and which source owns each token. Needs no torch: prompts are measured before any job."""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from bico import InputError
from bico.text.grammar import Piece, clean


@dataclass(frozen=True)
class Tokens:
    """A tokenised prompt: its words, then one end-of-text token; no padding.

    ids: token ids; owner: index of the token's concept in `concepts` plus one, 0 for none; scale: residual scale.
    """

    ids: tuple[int, ...]
    owner: tuple[int, ...]
    scale: tuple[float, ...]
    concepts: tuple[str, ...]
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


class PromptTokenizer:
    """The text encoder's tokenizer, read from `folder` (`tokenizer.json`, `tokenizer_config.json`)."""

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if not (folder / name).is_file():
                raise InputError(f"{folder}: not a tokenizer folder, '{name}' is missing")
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            end = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["eos_token"]
            self.end = self._tokenizer.token_to_id(end if isinstance(end, str) else end["content"])
        except Exception as problem:  # the tokenizers library raises nothing narrower
            raise InputError(f"{folder}: its tokenizer cannot be read: {problem!r}") from None
        if self.end is None:
            raise InputError(f"{folder / 'tokenizer.json'}: its vocabulary lacks the end-of-text token {end!r}")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def tokenise(self, pieces: list[Piece]) -> Tokens:
        """Pieces are tokenised apart, without special tokens, and joined, as in the released code; then end-of-text."""
        concepts = tuple(dict.fromkeys(piece.concept for piece in pieces if piece.concept))
        ids, owner, scale, words = [], [], [], []
        for piece in pieces:
            encoded = self._tokenizer.encode(piece.text, add_special_tokens=False)
            ids += encoded.ids
            words += encoded.tokens
            owner += [concepts.index(piece.concept) + 1 if piece.concept else 0] * len(encoded.ids)
            scale += [piece.scale] * len(encoded.ids)
        end = self._tokenizer.id_to_token(self.end)
        return Tokens((*ids, self.end), (*owner, 0), (*scale, 1.0), concepts, (*words, end))

    def tokenise_text(self, text: str) -> Tokens:
        """A plain text as one free piece; an empty text is the end-of-text token alone."""
        cleaned = clean(text)
        return self.tokenise([Piece(cleaned)] if cleaned else [])


def readable_tokenizer(folder: str | Path) -> PromptTokenizer | None:
    """The tokenizer of a folder; None while it is missing, or damaged, as `snakemake weights` says."""
    try:
        return PromptTokenizer(folder)
    except InputError:
        return None
