"""The training loop of the world's models: resumable, on one machine, on examples drawn as they are needed.

Every random choice of a step is drawn from generators seeded by (seed, step), so a resumed run sees the same.
"""

import copy
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from bico import InputError
from bico.runtime.command import progress
from bico.runtime.compute import Compute
from bico.runtime.files import atomic, write_text
from bico.runtime.provenance import versions
from bico.runtime.runs import Journal, claim_run, interruptible

LEARNING = {
    "seed": 0,
    "learning_rate": 1e-3,
    "muon_lr": 0.0,  # the learning rate of the hidden layers' matrices by Muon; 0: AdamW learns all
    "warmup": 100,  # steps
    "decay": 0.3,  # the share of the steps, at the end, over which the learning rate falls to 0
    "weight_decay": 1e-4,
    "ema_decay": 0.999,  # of the moving average of the weights
}
_LOG_EVERY = 20  # steps


class Learner:
    """A model, the moving average (EMA) of its weights, its optimisers: the state of a run. Subclasses define the loss.

    settings: LEARNING's and the subclass's own.
    """

    name: str  # what the progress bar calls it
    graphs = False  # whether a step can be a CUDA graph: the same operations for all batches of the same shapes

    def __init__(self, model: nn.Module, settings: dict, steps: int, device: torch.device, dtype: torch.dtype):
        self.settings, self.steps, self.device, self.dtype = settings, steps, device, dtype
        self.model = model.to(device).train().requires_grad_(True)
        self.ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.optimizers = self._optimizers()
        self.generator = torch.Generator(device)
        # The factor on the learning rates, and 1 - the decay of the moving average: tensors, which a CUDA graph reads.
        self.rate_factor, self.ema_rate = torch.ones((), device=device), torch.ones((), device=device)
        self.graph_step = CudaGraphStep(self._learn, self.generator) if self.graphs and device.type == "cuda" else None
        self.done, self.seconds, self.ended = 0, 0.0, None

    def loss(self, step: int, batch) -> tuple[torch.Tensor, dict]:
        """The loss of a step's batch, and what the log keeps of it besides."""
        raise NotImplementedError

    def matrices(self) -> list[nn.Parameter]:
        """The hidden layers' matrices, which Muon can learn."""
        return []

    def write(self, folder: Path, last: bool = False) -> None:
        """Writes the model with the moving average of its weights. last: training has ended."""
        raise NotImplementedError

    def step(self, step: int, batch) -> dict:
        """One optimiser step; returns what the log keeps of it: numbers, and scalars that an accelerator may still be
        computing."""
        begun, self.done = self.ended or time.monotonic(), step + 1
        self.rate_factor.fill_(self._rate_factor(step))
        self.ema_rate.fill_(1 - min(self.settings["ema_decay"], (1 + step) / (10 + step)))
        self.seed_step(step)
        entry = self.graph_step(step, batch) if self.graph_step else self._learn(step, batch)
        # From end to end: an accelerator may still be computing, which holds a later step up.
        self.ended = time.monotonic()
        took = self.ended - begun
        self.seconds += took
        return {"step": step, **entry, "took": round(took, 3), "seconds": round(self.seconds, 1)}

    def seed_step(self, step: int) -> None:
        """Seeds what is random in a step."""
        self.generator.manual_seed(self.settings["seed"] << 32 | step)

    def _learn(self, step: int, batch) -> dict:
        loss, entry = self.loss(step, batch)
        self.model.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        weights = [weight.detach() for weight in self.model.parameters()]
        before = [weight.clone() for weight in weights]
        for optimizer in self.optimizers:
            optimizer.step()
        # An optimiser's update is linear in its learning rate.
        _interpolate(before, weights, self.rate_factor)
        torch._foreach_copy_(weights, before)
        values = self.model.state_dict()
        _interpolate([self.ema[name] for name in values], list(values.values()), self.ema_rate)
        return {"loss": loss.detach(), **entry, "gradient_norm": norm}

    def ema_model(self) -> nn.Module:
        """The model with the moving average of its weights."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.ema)
        return model.eval().requires_grad_(False)

    def autocast(self):
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def checkpoint(self, run: Path) -> None:
        """Saves the state for `resume`. RuntimeError when weights are not finite: the last checkpoint stays."""
        if not torch.stack([weight.isfinite().all() for weight in self.model.parameters()]).all():
            raise RuntimeError(f"step {self.done}: weights are not finite; nothing is saved over the last checkpoint")
        state = {
            "step": self.done,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        with atomic(run / "checkpoint.pt") as part:
            torch.save(state, part)
        replace_folder(run / "model", self.write)

    def resume(self, run: Path) -> int:
        """Loads a checkpoint if there is one; returns the next step."""
        path = run / "checkpoint.pt"
        if not path.is_file():
            return 0
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.done, self.seconds = state["step"], state["seconds"]
        return self.done

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon's rate has AdamW's scale (arXiv 2502.16982)."""
        rate, muon_lr, decay = (self.settings[name] for name in ("learning_rate", "muon_lr", "weight_decay"))
        matrices = self.matrices() if muon_lr else []
        of_muon = set(map(id, matrices))
        others = [parameter for parameter in self.model.parameters() if id(parameter) not in of_muon]
        on_gpu = self.device.type == "cuda"
        adam = {"betas": (0.9, 0.99), "weight_decay": decay, "fused": on_gpu, "capturable": on_gpu}
        optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, rate, **adam)]
        if matrices:
            optimizers.append(torch.optim.Muon(matrices, muon_lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
        return optimizers

    def _rate_factor(self, step: int) -> float:
        left = (self.steps - step) / max(self.steps * self.settings["decay"], 1)
        return min(1.0, (step + 1) / self.settings["warmup"], left)


def _interpolate(tensors: list[torch.Tensor], targets: list[torch.Tensor], share: torch.Tensor) -> None:
    """Moves tensors, in place, a share of the way to their targets."""
    change = torch._foreach_sub(targets, tensors)
    torch._foreach_mul_(change, share)
    torch._foreach_add_(tensors, change)


class CudaGraphStep:
    """A step on a GPU as a CUDA graph, one for each shape of its batches: launching its kernels one by one takes longer
    than they run. The first step of each shape runs without a graph, which initialises what cannot be within one.

    run: of a step's number and batch, a dict whose tensors go on the GPU, to a dict of tensors and what else is the
    same for all batches of the same shapes. generator: what is random in it, seeded before each step.
    """

    def __init__(self, run: Callable[[int, dict], dict], generator: torch.Generator):
        self.run, self.generator, self.device = run, generator, generator.device
        self.stream, self.pool = torch.cuda.Stream(self.device), torch.cuda.graph_pool_handle()
        self.graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, dict, dict]] = {}
        self.warm: set[tuple] = set()

    def __call__(self, step: int, batch: dict) -> dict:
        shapes = tuple((name, getattr(each, "shape", each)) for name, each in batch.items())
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            if shapes in self.warm:
                if shapes not in self.graphs:
                    self.graphs[shapes] = self._captured(step, batch)
                graph, given, entry = self.graphs[shapes]
                for name, each in given.items():
                    if isinstance(each, torch.Tensor):
                        each.copy_(batch[name], non_blocking=True)
                graph.replay()
            else:
                self.warm.add(shapes)
                entry = self.run(step, self._on_device(batch))
        current.wait_stream(self.stream)
        return entry

    def _captured(self, step: int, batch: dict) -> tuple[torch.cuda.CUDAGraph, dict, dict]:
        given, graph = self._on_device(batch), torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        # Another thread may be pinning the next batch.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
            entry = self.run(step, given)
        return graph, given, entry

    def _on_device(self, batch: dict) -> dict:
        return {name: each.to(self.device) if isinstance(each, torch.Tensor) else each for name, each in batch.items()}


def learn(
    made_from: dict, output: str | Path, log_file: str | Path, begin: Callable[[], Learner], data: Dataset,
    minutes: float = math.inf, checkpoint_minutes: float = Compute.checkpoint_minutes, workers: int = 0,
) -> None:  # fmt: skip
    """Trains what `begin` makes on `data`, a batch a step, and writes the folder `output` and its JSONL log.

    made_from: all that the result depends on, but the versions. workers: processes that draw examples. Resumes after a
    kill; on a CPU to the same bits on the same machine. Raises Stopped when it was told to stop, or after so many
    minutes; what it has learned until then lies in the run's folder (see `bico.runtime.runs`) as model/. RuntimeError
    when the gradient, which every twentieth step checks, or the weights to be saved are not finite.
    """
    began = time.monotonic()
    with claim_run({**made_from, "versions": versions("torch", "diffusers", "transformers")}, output, log_file) as run:
        if run is None:
            return
        learner = begin()
        first = learner.resume(run)
        journal = Journal(run / "log.jsonl", keep=lambda entry: entry["step"] < first)
        pinned = learner.device.type == "cuda"  # so that a batch is copied while the last one is still computed
        torch.backends.cudnn.benchmark = pinned  # its batches have few shapes
        loading = {"batch_size": None, "num_workers": workers, "pin_memory": pinned}
        batches = iter(DataLoader(data, sampler=range(first, len(data)), **loading))
        bar = progress(range(first, len(data)), learner.name, "step", initial=first, total=len(data))
        over = lambda asked: asked or time.monotonic() - began > 60 * minutes  # noqa: E731
        for step in interruptible(bar, partial(learner.checkpoint, run), checkpoint_minutes, over):
            entry = learner.step(step, next(batches))
            if step % _LOG_EVERY == 0 or step + 1 == len(data):
                journal.append(_numbers(entry))
        replace_folder(output, partial(learner.write, last=True))
        write_text(log_file, str(journal))


def _numbers(entry: dict) -> dict:
    """What a step returned, as numbers."""
    numbers = {name: each.item() if isinstance(each, torch.Tensor) else each for name, each in entry.items()}
    if not math.isfinite(numbers["gradient_norm"]):
        raise RuntimeError(f"step {numbers['step']}: the gradient is not finite")
    return numbers


def checked(settings: dict, defaults: dict) -> dict:
    """The defaults with what differs from them. InputError for a setting that there is not."""
    if strangers := set(settings) - set(defaults):
        raise InputError(f"no such setting: {', '.join(sorted(strangers))}")
    return defaults | settings


def check_words(start_from: str | Path, tokenizer: str | Path) -> None:
    """InputError unless both folders have the same tokenizer: a model knows a word by its token's number."""
    old, new = (Path(folder) / "tokenizer.json" for folder in (start_from, tokenizer))
    if json.loads(old.read_text("utf-8")) != json.loads(new.read_text("utf-8")):
        raise InputError(f"{old}: other words than today's captions and wording make; train without --start-from")


def replace_folder(folder: str | Path, write: Callable[[Path], None]) -> None:
    """Puts what `write` writes into a folder in place of what lies there."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
        write(Path(part) / "new")
        shutil.rmtree(folder, ignore_errors=True)
        (Path(part) / "new").rename(folder)
