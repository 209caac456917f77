"""The embeds of a concept's training prompts, computed once: they never change while it trains."""

from pathlib import Path

import torch

from bico import InputError
from bico.command import progress
from bico.prompts import numbered_prompts
from bico.provenance import file_digest
from bico.tokens import PromptTokenizer
from bico.wan import encode_tokens, load_text_encoder, save_embeds


def encode_prompts(
    prompts: str | Path, tokenizer_folder: str | Path, encoder_folder: str | Path, output: str | Path,
    text_length: int, device: torch.device, dtype: torch.dtype, offload: str = "none",
) -> None:  # fmt: skip
    """Encodes the prompts of a CSV; see `save_embeds`. Raises InputError that names the file and the rows of prompts
    that are longer than `text_length` tokens."""
    tokenizer = PromptTokenizer(tokenizer_folder)
    rows = numbered_prompts(prompts)
    tokens = [tokenizer.tokenise_text(prompt) for _, _, prompt in rows]
    problems = [
        f"{prompts}, row {row}, prompt: {len(prompt)} tokens with end-of-text, allowed: at most {text_length}"
        for (row, _, _), prompt in zip(rows, tokens, strict=True)
        if len(prompt) > text_length
    ]
    if problems:
        raise InputError(*problems, "Shorten them, in this file or by fewer and shorter phrases in concepts.csv")
    encoder = load_text_encoder(encoder_folder, device, dtype, offload)
    ids = progress([prompt.ids for prompt in tokens], "prompts", "prompt")
    save_embeds(output, encode_tokens(encoder, ids, text_length, device), file_digest(prompts))
