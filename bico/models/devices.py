"""Where the models run, and in which precision."""

from dataclasses import dataclass

import torch

from bico import InputError
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute

# Without loss scaling float16 would round small gradients to zero.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Placement:
    """Where a model computes, and in which precision. offload: `cpu` keeps its weights in main memory, and each of its
    layers goes to the device while it computes."""

    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    offload: str = "none"


def place(compute: Compute, dtype: str = COMPUTE_DEFAULTS["dtype"], device: torch.device | None = None) -> Placement:
    """A model's placement. dtype: auto, float32 or bfloat16. device: the one that is picked already. Raises
    InputError."""
    device = device or pick_device(compute.device)
    return Placement(device, pick_dtype(dtype, device), compute.offload)


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
