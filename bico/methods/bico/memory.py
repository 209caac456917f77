"""How much memory a stage of training needs, told before it begins; and how much there is."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from bico import InputError
from bico.methods.bico.layout import BinderSpec, shapes

log = logging.getLogger(__name__)
FLOAT = 4  # bytes: binders, their optimiser, latents and prompts are float32
# A binder's parameter, its gradient and AdamW's two averages; all exist from the first step.
COPIES = 4


@dataclass(frozen=True)
class Need:
    """Bytes. weights: of the frozen transformer. binders: with their gradients and the optimiser's state. examples:
    latents and projected prompts. These three are exact; activations, of one step, are an estimate."""

    weights: int
    binders: int
    examples: int
    activations: int

    @property
    def fixed(self) -> int:
        return self.weights + self.binders + self.examples

    def __str__(self) -> str:
        parts = {
            "the transformer": self.weights,
            "binders with gradients and optimiser state": self.binders,
            "latents and prompts": self.examples,
        }
        said = ", ".join(f"{name} {gb(size)}" for name, size in parts.items() if size)
        return f"{gb(self.fixed)} ({said}), and about {gb(self.activations)} of activations (an estimate)"


def training_need(
    transformer: Mapping, weights: int, spec: BinderSpec, latents: Sequence[int], prompts: int, text_length: int,
    batch: int, element: int, recomputes: bool,
) -> Need:  # fmt: skip
    """What a stage needs. transformer: its config, of the first expert. weights: bytes of all experts'. latents
    [M, C, F, H, W] and prompts, P: what is trained on. batch: examples a step on one device. element: bytes of a number
    of the transformer's. recomputes: gradient checkpointing."""
    dim, blocks = spec.dim, spec.blocks
    _, patch_height, patch_width = transformer["patch_size"]
    frames, height, width = latents[-3:]
    tokens = batch * frames * (height // patch_height) * (width // patch_width)
    # What the backward pass keeps of a block: inputs of its norms and residuals in float32, six times; queries, keys,
    # values and outputs of its attentions, six times, and the hidden layer in the transformer's precision.
    block = tokens * (6 * FLOAT * dim + element * (6 * dim + transformer["ffn_dim"]))
    # With checkpointing each block's input is kept, and one block is computed anew; its gradients take as much again.
    kept = blocks * tokens * dim * element + block if recomputes else blocks * block
    # The prompts of all blocks: bound, stacked, in the transformer's precision, and their gradient.
    contexts = spec.experts * blocks * batch * text_length * dim * (3 * FLOAT + element)
    parameters = sum(map(math.prod, shapes(spec).values()))
    return Need(
        weights=weights,
        binders=COPIES * FLOAT * parameters,
        examples=FLOAT * (math.prod(latents) + spec.experts * prompts * text_length * dim),
        activations=max(kept + block + contexts, FLOAT * parameters),  # the optimiser's step makes one more copy
    )


def require_memory(need: Need, device: torch.device, offload: bool, processes: int, recomputes: bool) -> None:
    """Logs what a stage needs and what there is; warns where activations may not fit. Raises InputError, with what to
    change, where what lies there from the first step to the last cannot fit."""
    there = {device.type: available(device)} | ({"main memory": available(torch.device("cpu"))} if offload else {})
    on_host = device.type != "cuda"
    split = {name: size // (processes if on_host or name == "main memory" else 1) for name, size in there.items()}
    here = Need(0 if offload else need.weights, need.binders, need.examples, need.activations)
    log.info("training needs %s; free on %s: %s", here, device, gb(split[device.type]))
    lacks = []
    if here.fixed > split[device.type]:
        lacks.append(f"{here} on {device}, where {gb(split[device.type])} are free")
    if offload:
        log.info("offload: %s of weights in main memory; free: %s", gb(need.weights), gb(split["main memory"]))
        if need.weights > split["main memory"]:
            lacks.append(f"{gb(need.weights)} of weights in main memory, where {gb(split['main memory'])} are free")
    if lacks:
        advice = "; ".join(_advice(need, on_host, offload))
        raise InputError(*(f"training cannot fit: it needs {lack}; {advice}" for lack in lacks))
    if here.fixed + here.activations > split[device.type]:
        smaller = "" if recomputes else "compute.gradient_checkpointing: true, "
        log.warning("that may not fit: try %sa smaller batch, or a smaller height, width or frames", smaller)


def _advice(need: Need, on_host: bool, offload: bool) -> Iterator[str]:
    if not on_host and not offload:
        yield f"compute.offload: cpu takes {gb(need.weights)} off the device"
    yield "a lower method.inner_width makes smaller binders"
    yield "or take a machine with more memory"


def available(device: torch.device) -> int:
    """Bytes that are free: of a CUDA device, else of main memory and swap, as far as this process may take them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available + psutil.swap_memory().free, *cgroup_free()])


def cgroup_free(root: Path = Path("/")) -> Iterator[int]:
    """What each control group around this process, as containers and clusters set them, still lets it take, in bytes;
    both versions of Linux's control groups, nothing elsewhere. Its file cache can be dropped and counts as free."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            top = root / "sys/fs/cgroup/memory"
        else:
            continue
        below = top / path.strip("/")
        for group in (below, *(parent for parent in below.parents if parent.is_relative_to(top))):
            yield from _group_free(group, *names)


def _group_free(group: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    try:
        most, used = (group / limit).read_text().strip(), int((group / usage).read_text())
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return
    if most != "max":
        yield max(0, int(most) - used + int(counts.get(cache, 0)))


def gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
