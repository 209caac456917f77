"""Composing: a prompt whose words know their sources, into what each block attends to; once a prompt."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bico import InputError
from bico.encode.embeds import TextEncoder
from bico.methods.bico.binding import bind_experts
from bico.methods.bico.checkpoint import load_binder
from bico.models.components import component_folder, component_id, component_ids
from bico.models.devices import place
from bico.models.wan import load_text_projection, pad_embeds, transformer_shape
from bico.render.bound_prompt import save_bound_prompt
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute
from bico.runtime.provenance import file_digest, made_by
from bico.text.grammar import Piece, parse


@dataclass(frozen=True)
class ComposeSettings:
    """One prompt of at most `text_length` tokens. bound: false lets no word pass through a binder; sources: the number
    of each binder in a released file of several; dtype: auto, float32 or bfloat16."""

    prompt: str
    negative_prompt: str
    text_length: int
    sources: tuple[int | None, ...] | None = None
    bound: bool = True
    dtype: str = COMPUTE_DEFAULTS["dtype"]


@torch.no_grad()
def compose(
    settings: ComposeSettings, binders: Sequence[str | Path], tokenizer: str | Path, text_encoder: str | Path,
    transformers: Sequence[str | Path], output: str | Path, compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Encodes a composition's prompt and negative prompt in one pass each, binds the prompt, writes both.

    binders: a file for each linked concept, in the order of the prompt. tokenizer, text_encoder, transformers (one, or
    two experts; only their text projections are loaded): their folders, or the manifests of their weights. The text
    encoder is dropped before the binders are loaded. Raises InputError.
    """
    folders, length = [component_folder(each) for each in transformers], settings.text_length
    placed = place(compute, settings.dtype)
    device, dtype = placed.device, placed.dtype
    encoder = TextEncoder(tokenizer, text_encoder, length, placed, compute.embeds)
    pieces = parse(settings.prompt)
    if not settings.bound:
        pieces = [Piece(piece.text) for piece in pieces]
    tokens = encoder.words.tokenise(pieces)
    negative = encoder.words.tokenise_text(settings.negative_prompt)
    if len(binders) != len(tokens.concepts):
        concepts = ", ".join(tokens.concepts) or "none"
        raise InputError(f"'{settings.prompt}' links {concepts}; found {len(binders)} binders, each concept has one")

    embeds = [embeds for (embeds,) in encoder.encode([[tokens.ids], [negative.ids]])]
    padded = pad_embeds(embeds, length).to(device, dtype)
    prompts = torch.stack([load_text_projection(folder, placed)(padded).float() for folder in folders])
    dim, blocks = transformer_shape(folders[0])
    sources = settings.sources or [None] * len(binders)
    read = [load_binder(path, dim, blocks, source, len(folders)) for path, source in zip(binders, sources, strict=True)]
    loaded = [binder.to(device) for binder, _ in read]
    owner, scale = torch.zeros(1, length, dtype=torch.long), torch.ones(1, length)
    owner[0, : len(tokens)], scale[0, : len(tokens)] = torch.tensor(tokens.owner), torch.tensor(tokens.scale)
    contexts = bind_experts(prompts[:, :1], owner.to(device), loaded, blocks, scale.to(device))

    rows = owner[0].nonzero().squeeze(1)
    header = {
        **asdict(settings),
        "pieces": [asdict(piece) for piece in pieces],
        "tokens": tokens.words,
        "owner": [tokens.concepts[k - 1] if k else None for k in tokens.owner],
        "made_by": {
            "inputs": {
                "tokenizer": component_id(tokenizer),
                "text_encoder": component_id(text_encoder),
                **component_ids("transformer", transformers),
            },
            **made_by(__file__, "compose", device.type, text_encoder=dtype),
        },
        "binders": [{"sha256": file_digest(path), **made} for path, (_, made) in zip(binders, read, strict=True)],
    }
    save_bound_prompt(output, prompts, rows, contexts[:, 0, rows.to(device)], header)
