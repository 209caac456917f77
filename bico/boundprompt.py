"""The bound prompt's file: what each block attends to, and which word belongs to whom."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bico.files import atomic

FORMAT = "bico-bound-prompt"


@dataclass(frozen=True)
class BoundPrompt:
    """contexts, negative: [N, 1, L, D]; pieces: `text`, `concept` and `scale` of each; header: what made it."""

    contexts: torch.Tensor
    negative: torch.Tensor
    pieces: tuple[dict, ...]
    header: dict

    @property
    def concepts(self) -> tuple[str, ...]:
        """The linked concepts, in the order of the prompt."""
        return tuple(dict.fromkeys(piece["concept"] for piece in self.pieces if piece["concept"]))


def save_bound_prompt(
    path: str | Path, prompts: torch.Tensor, rows: torch.Tensor, bound: torch.Tensor, header: dict
) -> None:
    """prompts: p of the prompt and of the negative prompt, [2, L, D]; rows: positions of the owned tokens, [n]; bound:
    those tokens for each block, [N, n, D]. header: JSON values, `pieces` among them."""
    tensors = {"prompt": prompts[0], "negative": prompts[1], "rows": rows, "bound": bound}
    contiguous = {name: value.cpu().contiguous() for name, value in tensors.items()}
    with atomic(path) as part:
        save_file(contiguous, part, metadata={FORMAT: json.dumps(header, sort_keys=True, ensure_ascii=False)})


def load_bound_prompt(path: str | Path) -> BoundPrompt:
    """Reads what `save_bound_prompt` wrote: only owned tokens differ between the blocks."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[FORMAT])
        prompt, negative, rows, bound = (file.get_tensor(name) for name in ("prompt", "negative", "rows", "bound"))
    blocks = len(bound)
    contexts = prompt.expand(blocks, *prompt.shape).index_copy(1, rows, bound)[:, None]
    return BoundPrompt(contexts, negative.expand(blocks, 1, *negative.shape), tuple(header["pieces"]), header)
