"""Training one stage of one concept's binders: setup, loop, save.

Every random choice of a step is drawn from a generator seeded by (seed, step, place in the batch), so a resumed run
and a run on several processes see the very same examples, noise levels and noise.
"""

import ctypes
import logging
import math
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list

from bico import InputError
from bico.methods.bico.binder import BinderSpec, ConceptBinder
from bico.methods.bico.binding import bind_experts, training_prompt
from bico.methods.bico.checkpoint import load_binder, save_binder
from bico.methods.bico.memory import require_memory, training_need
from bico.methods.bico.noise import draw_steps, loss_weights, phase_probabilities, shift_sigma, training_sigmas
from bico.methods.bico.optimizer import AdamW
from bico.methods.bico.switches import Switches
from bico.models.components import component_digest, component_folder, component_ids
from bico.models.denoiser import BlockwiseTransformer, Experts, denoiser, require_boundary
from bico.models.devices import place
from bico.models.tensors import load_state, load_tensors, require_finite, save_state
from bico.models.wan import (
    load_embeds,
    load_transformer,
    pad_embeds,
    transformer_bytes,
    transformer_config,
    transformer_shape,
)
from bico.runtime.command import progress
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute
from bico.runtime.files import write_text
from bico.runtime.provenance import file_digest, made_by
from bico.runtime.runs import Journal, claim_run, interruptible

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"
_ADVICE = "; try a lower training.learning_rate, or compute.dtype: float32"
QUANTILES = tuple(k / 10 for k in range(1, 10))


@dataclass(frozen=True)
class Training:
    """AdamW's. batch_size: examples per step; validations: how often the validation loss is measured."""

    iterations: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    validations: int
    seed: int


@dataclass(frozen=True)
class BindSettings:
    """One stage of a concept's training. data: `frames`, each alone, or the whole `clip`; shift: of the noise levels;
    text_length: tokens of a prompt, end-of-text included; dtype: auto, float32 or bfloat16; boundary: between two
    experts, see `Experts`."""

    concept: str
    stage: int
    data: str
    training: Training
    shift: float
    text_length: int
    method: Switches = field(default_factory=Switches)
    dtype: str = COMPUTE_DEFAULTS["dtype"]
    boundary: float | None = None


@dataclass(frozen=True)
class Examples:
    """What a stage trains on. latents [M, C, F, H, W]; prompts p [X, P, L, D], of each of X experts; lengths [P]; pairs
    of indices into latents and prompts, and the pairs for validation, the same whichever prompts are trained on."""

    latents: torch.Tensor
    prompts: torch.Tensor
    lengths: torch.Tensor
    pairs: tuple[tuple[int, int], ...]
    validation: tuple[tuple[int, int], ...]

    def pick(self, seed: int, items: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents, prompts and lengths of the items of an endless sequence that shuffles the pairs anew each epoch."""
        chosen = []
        for item in items:
            epoch, place = divmod(item, len(self.pairs))
            chosen.append(self.pairs[np.random.default_rng([seed, 1, epoch]).permutation(len(self.pairs))[place]])
        latents, prompts = zip(*chosen, strict=True)
        return self.latents[list(latents)], self.prompts[:, list(prompts)], self.lengths[list(prompts)]


def train(
    settings: BindSettings, latents: str | Path, prompts: str | Path, transformers: Sequence[str | Path],
    start_from: str | Path | None, output: str | Path, log_file: str | Path, compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Trains a stage and writes the binder and its JSONL log.

    transformers: one, or two experts, each its folder or the manifest of its weights. start_from: stage 1's binder, for
    stage 2. Checkpoints lie in the run's folder (see `bico.runtime.runs`), whose fingerprint is of settings, inputs,
    code, versions and precision.
    Supports: resuming after a kill, on a CPU to the same bits; several processes under `accelerate launch` (the batch
    is split, so the examples, the optimiser steps and the effective batch stay the same). Raises InputError, and
    Stopped when it was told to stop and has saved a checkpoint.
    """
    # -- setup
    folders = [component_folder(each) for each in transformers]
    inputs = {"latents": latents, "prompts": prompts, "start_from": start_from}
    hashes = {name: file_digest(path) for name, path in inputs.items() if path}
    # The other processes wait with the first one where an orphan is at work on the same, for as long as it takes.
    patience = InitProcessGroupKwargs(timeout=timedelta(days=7))
    accelerator = Accelerator(cpu=compute.device == "cpu", kwargs_handlers=[patience])
    several = accelerator.num_processes > 1
    if several:
        _end_with_launcher()
    placed = place(compute, settings.dtype, accelerator.device if several else None)
    device, dtype = placed.device, placed.dtype
    is_main = accelerator.is_main_process
    made_from = {
        "settings": asdict(settings),
        "inputs": hashes,
        "model": [component_digest(each) for each in transformers],
    }
    made_from |= made_by(__file__, "bind", device.type, transformer=dtype)
    with claim_run(made_from, output, log_file) if is_main else nullcontext() as run:
        (run,) = broadcast_object_list([run])
        if run is None:
            return
        embeds = _read_prompts(settings, prompts)
        media = _read_media(settings, latents, prompts, embeds)
        spec, recomputes = _spec(settings, folders), _recomputes(compute, device)
        weights = sum(transformer_bytes(each, dtype) for each in folders)
        need = training_need(
            transformer_config(folders[0]), weights, spec, media.shape, len(embeds),
            settings.text_length, settings.training.batch_size // accelerator.num_processes, dtype.itemsize,
            recomputes,
        )  # fmt: skip
        if accelerator.is_local_main_process:
            require_memory(need, device, compute.offload == "cpu", accelerator.num_processes, recomputes)
        model = denoiser([load_transformer(each, placed) for each in folders], settings.boundary)
        for expert in model.experts if recomputes else ():
            expert.transformer.enable_gradient_checkpointing()
        examples = _load_examples(settings, media, embeds, model, device)
        binder = _new_binder(settings, examples, spec, start_from).to(device)
        trainer = _Trainer(settings, model, examples, binder, accelerator, device)
        first = trainer.resume(run)

        # -- loop
        journal = Journal(
            run / "log.jsonl" if is_main else None, keep=lambda entry: first and _finished(entry) <= first
        )
        if first == 0 or (is_main and not any("validation_base" in entry for entry in journal.entries)):
            journal.append({"step": 0, "validation_base": trainer.validation_loss(bound=False)})
        if first == 0:
            journal.append({"step": 0, "validation": trainer.validation_loss()})
        name, quiet = f"{settings.concept} stage {settings.stage}", not accelerator.is_local_main_process
        bar = progress(range(first, trainer.steps), name, "step", initial=first, total=trainer.steps, disable=quiet)
        for step in interruptible(
            bar, partial(trainer.checkpoint, run), compute.checkpoint_minutes, trainer.any_process
        ):
            journal.append({"step": step, **trainer.step(step)})
            if trainer.validates_after(step):
                journal.append({"step": step + 1, "validation": trainer.validation_loss()})

        # -- save
        if is_main:
            trainer.require_finite()
            write_text(log_file, str(journal))
            of = {"concept": settings.concept, "stage": settings.stage}
            save_binder(output, binder, {**made_from, **of, **component_ids("model", transformers)})


class _Trainer:
    """The state of a run, and one step of it."""

    def __init__(self, settings: BindSettings, model, examples: Examples, binder: ConceptBinder, accelerator, device):
        self.method, training = settings.method, settings.training
        self.model, self.examples, self.binder = model, examples, binder
        self.accelerator, self.device, self.seed = accelerator, device, training.seed
        self.learning_rate, self.warmup = training.learning_rate, self.method.warmup_steps
        self.steps, self.shift, self.done = training.iterations, settings.shift, 0
        self.batch = training.batch_size
        if self.batch % accelerator.num_processes:
            raise InputError(f"a batch of {self.batch} cannot be split over {accelerator.num_processes} processes")
        self.phase1_steps = round(self.method.phase1_length * self.steps)
        self.every = max(1, self.steps // training.validations)
        self.sigmas = training_sigmas(self.shift)
        self.weights = loss_weights(self.method.loss_weight, self.sigmas)
        alpha, beta = self.method.alpha, self.method.beta
        self.draws = [phase_probabilities(getattr(self.method, f"phase{k}_noise"), alpha, beta) for k in (1, 2)]
        self.optimizer = AdamW(binder.parameters(), lr=self.learning_rate, weight_decay=training.weight_decay)

    def step(self, step: int) -> dict:
        """One optimiser step; returns what the log keeps of it."""
        begun, phase, self.done = time.monotonic(), 1 if step < self.phase1_steps else 2, step + 1
        for own in self.binder.experts():
            own.block_binders.requires_grad_(phase == 2)
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        items = list(range(step * self.batch, (step + 1) * self.batch))
        generators = [_generator(self.seed, 2, item) for item in items]
        drawn = draw_steps(self.draws[phase - 1], torch.cat([torch.rand(1, generator=g) for g in generators]))
        items, generators, index = items[rank::ranks], generators[rank::ranks], drawn[rank::ranks]
        x_0, prompts, lengths = self.examples.pick(self.seed, items)
        noise = torch.stack([torch.randn(x_0.shape[1:], generator=g) for g in generators]).to(self.device)
        contexts = self._contexts(prompts, lengths, phase)
        loss = (self._squared_error(x_0, noise, self.sigmas[index], contexts) * self._to(self.weights[index])).mean()
        self.optimizer.zero_grad()
        loss.backward()
        parameters = [parameter for parameter in self.binder.parameters() if parameter.grad is not None]
        if ranks > 1:
            for parameter in parameters:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
            loss = self.accelerator.reduce(loss.detach(), "mean")
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in parameters]))
        if not math.isfinite(norm):
            raise InputError(f"step {step}: the gradient is {norm.item()}{_ADVICE}")
        self.optimizer.param_groups[0]["lr"] = self._learning_rate(step)
        self.optimizer.step()
        return {
            "phase": phase,
            "loss": loss.item(),
            "sigma": self.sigmas[drawn].mean().item(),
            "gradient_norm": norm.item(),
            "learning_rate": self._learning_rate(step),
            **_gammas(self.binder),
            "steps_per_second": round(1 / (time.monotonic() - begun), 3),
            "peak_memory_gb": round(_peak_memory(self.device) / 1e9, 3),
        }

    @torch.no_grad()
    def validation_loss(self, bound: bool = True) -> dict[str, float]:
        """The loss at nine quantiles of the unshifted noise level, with fixed examples and noise, and without the
        absorbent tokens, as when composing. Unbound, it is the base model's."""
        losses = {}
        for k, u in enumerate(QUANTILES):
            pairs = self.examples.validation
            latents, prompt = pairs[k * len(pairs) // len(QUANTILES)]
            x_0 = self.examples.latents[[latents]]
            noise = torch.randn(x_0.shape, generator=_generator(self.seed, 3, k)).to(self.device)
            prompts, lengths = self.examples.prompts[:, [prompt]], self.examples.lengths[[prompt]]
            _, owner = training_prompt(prompts[0], lengths, None, placement="none")
            owner = owner if bound else torch.zeros_like(owner)
            contexts = bind_experts(prompts, owner, [self.binder], self.model.blocks)
            sigma = torch.tensor([shift_sigma(u, self.shift)], dtype=torch.float64)
            losses[str(u)] = self._squared_error(x_0, noise, sigma, contexts).item()
        if not all(map(math.isfinite, losses.values())):
            raise InputError(f"after {self.done} steps: the validation loss is {losses}{_ADVICE}")
        return losses

    def validates_after(self, step: int) -> bool:
        return (step + 1) % self.every == 0 or step + 1 == self.steps

    def any_process(self, yes: bool) -> bool:
        """Whether any of the processes says yes; all must ask."""
        if self.accelerator.num_processes == 1:
            return yes
        return self.accelerator.reduce(torch.tensor(float(yes), device=self.device)).item() > 0

    def checkpoint(self, run: Path) -> None:
        """Saves all that the next steps depend on; the random draws depend on nothing but the seed."""
        if not self.accelerator.is_main_process:
            return
        self.require_finite()
        save_state(run / CHECKPOINT, self._state())

    @torch.no_grad()
    def resume(self, run: Path) -> int:
        """Takes the last good checkpoint up if there is one; returns the next step."""
        state = self._state()
        saved = load_state(run / CHECKPOINT, state)
        if saved is None:
            return 0
        self.done = int(saved["done"])
        for name, value in state.items():
            value.copy_(saved[name])
        log.info("resuming at step %d", self.done)
        return self.done

    def require_finite(self) -> None:
        """Raises InputError if the last step has left a NaN or an infinity in the binder."""
        require_finite(f"the binder after {self.done} steps", self.binder.state_dict(), _ADVICE)

    def _state(self) -> dict[str, torch.Tensor]:
        """The binder's parameters, the optimiser's state of each, and how many steps are done."""
        state = {"done": torch.tensor(self.done)}
        for name, parameter in self.binder.named_parameters():
            state[f"binder.{name}"] = parameter
            state |= {f"optimizer.{name}.{key}": value for key, value in self.optimizer.state[parameter].items()}
        return state

    def _contexts(self, prompts: torch.Tensor, lengths: torch.Tensor, phase: int) -> torch.Tensor:
        """prompts p [X, B, L, D] to what each block of each expert attends to, [X N, B, L, D]."""
        bypassed = phase == 1 and self.method.phase1_block_binders == "bypassed"
        given = [
            training_prompt(p, lengths, own.absorbent, self.method.absorbent)
            for p, own in zip(prompts, self.binder.experts(), strict=True)
        ]
        (prompts, (owner, *_)) = zip(*given, strict=True)  # the same tokens are owned for each expert
        return bind_experts(prompts, owner, [self.binder], self.model.blocks, per_block=not bypassed)

    def _squared_error(self, x_0, noise, sigma: torch.Tensor, contexts: torch.Tensor) -> torch.Tensor:
        """Flow matching: x_s = (1 - s) x_0 + s eps, target eps - x_0. The mean squared error of each example, [B]."""
        s = self._to(sigma).view(-1, 1, 1, 1, 1)
        velocity = self.model((1 - s) * x_0 + s * noise, 1000 * self._to(sigma), contexts)
        return (velocity.float() - (noise - x_0)).square().mean(dim=(1, 2, 3, 4))

    def _learning_rate(self, step: int) -> float:
        return self.learning_rate / 3 if step < self.warmup else self.learning_rate

    def _to(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self.device, torch.float32)


def _recomputes(compute: Compute, device: torch.device) -> bool:
    """Whether activations are computed anew in the backward pass."""
    chosen = compute.gradient_checkpointing
    return device.type != "cpu" if chosen == "auto" else bool(chosen)


def _finished(entry: dict) -> int:
    """How many steps were done when an entry was written."""
    return entry["step"] + ("loss" in entry)


def _read_prompts(settings: BindSettings, prompts: str | Path) -> list[torch.Tensor]:
    """The embeds of the prompts. InputError names those that leave no room for the absorbent tokens."""
    embeds, method = load_embeds(prompts), settings.method
    extra = {"none": 0, "appended": method.absorbent_tokens, "end_of_text": method.absorbent_tokens - 1}
    most = settings.text_length - extra[method.absorbent]
    long = [
        f"{prompts}, prompt {number} of {len(embeds)}: {len(prompt)} tokens with end-of-text, allowed: at most {most},"
        f" beside absorbent ones in {settings.text_length}"
        for number, prompt in enumerate(embeds, start=1)
        if len(prompt) > most
    ]
    if long:
        raise InputError(*long)
    return embeds


def _read_media(settings: BindSettings, latents, prompts, embeds) -> torch.Tensor:
    """The latents that are trained on, [M, C, F, H, W]."""
    which = "frames" if settings.data == "frames" else "clip"
    tensor = load_tensors(latents, which)[which]
    media = tensor if which == "frames" else tensor[None]
    if len(media) not in (1, len(embeds)):
        raise InputError(f"{prompts}: {len(embeds)} prompts for {len(media)} frames of {latents}; each frame has one")
    return media


def _gammas(binder: ConceptBinder) -> dict:
    """For the log. Those of a second expert follow under names of their own."""
    found = {}
    for prefix, own in zip(("", "second_"), binder.experts(), strict=False):
        found[f"{prefix}gamma_global"] = own.global_binder.gamma.item()
        found[f"{prefix}gamma_blocks"] = [block.gamma.item() for block in own.block_binders]
    return found


def _load_examples(
    settings: BindSettings, media: torch.Tensor, embeds, model: BlockwiseTransformer | Experts, device
) -> Examples:
    length, method = settings.text_length, settings.method
    with torch.no_grad():
        dtype = next(model.experts[0].project_text.parameters()).dtype
        p = torch.cat([model.project(pad_embeds([e.to(device, dtype)], length)).float() for e in embeds], 1)
    pairs = tuple((i % len(media), i) for i in range(len(embeds)))
    trained_on = pairs if method.diversified else tuple(dict.fromkeys((i, 0) for i, _ in pairs))
    return Examples(media.to(device), p, torch.tensor([len(e) for e in embeds]), trained_on, pairs)


def _spec(settings: BindSettings, transformers: Sequence[Path]) -> BinderSpec:
    method, (dim, blocks) = settings.method, transformer_shape(transformers[0])
    require_boundary(len(transformers), settings.boundary)
    absorbent = 0 if method.absorbent == "none" else method.absorbent_tokens
    dual = settings.stage == 2
    gate = {"gate": method.gate, "gate_weighs": method.gate_weighs} if dual else {}
    return BinderSpec(
        dim, blocks, dual, absorbent, method.per_block, **gate, inner=method.inner_width, experts=len(transformers)
    )


def _new_binder(settings: BindSettings, examples: Examples, spec: BinderSpec, start_from) -> ConceptBinder:
    """The binder at step 0. An absorbent token starts as what it replaces in the first prompt: padding is the same in
    all of them, so with `appended` training begins at the base model."""
    method = settings.method
    torch.manual_seed(settings.training.seed)
    binder = ConceptBinder(spec)
    if spec.dual:
        generator = _generator(settings.training.seed, 4, 0)
        stage1, _ = load_binder(start_from, spec.dim, spec.blocks, experts=spec.experts)
        same = ("inner_width", "absorbent", "per_block")
        if differing := [name for name in same if getattr(stage1.spec, name) != getattr(spec, name)]:
            raise InputError(f"{start_from}: trained with other switches than stage 2: {', '.join(differing)}")
        binder.start_from(stage1, method.temporal_start, generator)
    elif spec.absorbent:
        first = int(examples.lengths[0]) - (method.absorbent == "end_of_text")
        for own, prompts in zip(binder.experts(), examples.prompts, strict=True):
            own.absorbent.data.copy_(prompts[0, first : first + spec.absorbent])
    return binder


def _end_with_launcher() -> None:
    """A process of several is told to stop when accelerate's launcher, which holds the cards, dies; on Linux."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the accelerator where torch counts them, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
