"""The bound prompt's file: what each block attends to, and which word belongs to whom."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bico import InputError
from bico.models.tensors import load_tensors, require_finite
from bico.runtime.files import atomic

FORMAT = "bico-bound-prompt"


@dataclass(frozen=True)
class BoundPrompt:
    """contexts, negative: [X N, 1, L, D], one after the other for each of X experts."""

    contexts: torch.Tensor
    negative: torch.Tensor


def save_bound_prompt(
    path: str | Path, prompts: torch.Tensor, rows: torch.Tensor, bound: torch.Tensor, header: dict
) -> None:
    """prompts: p of the prompt and of the negative prompt, [X, 2, L, D] of X experts; rows: positions of the owned
    tokens, [n]; bound: those tokens for each block of each expert, [X N, n, D]. header: JSON values. InputError if a
    number is none."""
    prompt, negative = (prompts[0] if len(prompts) == 1 else prompts).unbind(-3)
    tensors = {"prompt": prompt, "negative": negative, "rows": rows, "bound": bound}
    contiguous = {name: value.cpu().contiguous() for name, value in tensors.items()}
    require_finite(path, contiguous)
    with atomic(path) as part:
        save_file(contiguous, part, metadata={FORMAT: json.dumps(header, sort_keys=True, ensure_ascii=False)})


def read_header(path: str | Path) -> dict:
    """What made a bound prompt. InputError if the file is none."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})[FORMAT])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as problem:
        raise InputError(f"{path}: not a bound prompt ({problem})") from None


def load_bound_prompt(path: str | Path) -> BoundPrompt:
    """Reads what `save_bound_prompt` wrote: only owned tokens differ between the blocks. Raises InputError."""
    names = ("prompt", "negative", "rows", "bound")
    tensors = load_tensors(path, *names)
    prompt, negative, rows, bound = (tensors[name] for name in names)
    whole = prompt.ndim in (2, 3) and negative.shape == prompt.shape and rows.ndim == 1
    length, width = prompt.shape[-2:] if whole else (0, 0)
    if not whole or bound.shape[1:] != (len(rows), width) or not (rows < length).all():
        shapes = ", ".join(f"'{name}' {list(tensors[name].shape)}" for name in names)
        raise InputError(f"{path}: its tensors do not fit together: {shapes}")
    prompt, negative = (each.reshape(-1, 1, length, width) for each in (prompt, negative))
    blocks = len(bound) // len(prompt)
    contexts = prompt[:, 0].repeat_interleave(blocks, 0).index_copy(1, rows, bound)[:, None]
    return BoundPrompt(contexts, negative.repeat_interleave(blocks, 0))
