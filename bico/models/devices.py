"""Where the models run, and in which precision."""

import torch

from bico import InputError

# Without loss scaling float16 would round small gradients to zero.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU; else a torch device name. InputError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise InputError(f"device '{name}' cannot be used here: {problem}") from None
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on an accelerator and float32 on the CPU; otherwise one of DTYPES."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise InputError(f"dtype '{name}' is unknown; allowed: auto, {', '.join(DTYPES)}")
    return DTYPES[name]
