"""Rendering: a bound prompt and a seed to a video."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler

from bico.media.video import write_image, write_video
from bico.models.components import component_folder, component_id, component_ids, vae_factors
from bico.models.denoiser import BlockwiseTransformer, require_boundary
from bico.models.devices import Placement, place
from bico.models.tensors import load_state, require_finite, save_state
from bico.models.wan import decode_video, free_memory, load_transformer, load_vae
from bico.render.bound_prompt import load_bound_prompt, read_header
from bico.runtime.command import progress
from bico.runtime.compute import COMPUTE_DEFAULTS, Compute
from bico.runtime.files import write_json
from bico.runtime.provenance import commit, file_digest, made_by
from bico.runtime.runs import claim_run, interruptible

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderSettings:
    """One video of height x width pixels. steps: of sampling; shift: of the noise levels; fps: of the file; `dtype` and
    `vae_dtype`: auto, float32 or bfloat16; boundary: between two experts, see `Experts`."""

    seed: int
    steps: int
    shift: float
    guidance_scale: float
    height: int
    width: int
    frames: int
    fps: float
    dtype: str = COMPUTE_DEFAULTS["dtype"]
    vae_dtype: str = COMPUTE_DEFAULTS["vae_dtype"]
    vae_tiling: bool = False
    boundary: float | None = None


def sampling_scheduler(steps: int, shift: float) -> FlowMatchEulerDiscreteScheduler:
    """Euler on s = linspace(1, 0, steps + 1), shifted once."""
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 0, steps + 1)[:-1].tolist())
    return scheduler


@torch.no_grad()
def sample(
    predict: Callable, latents: torch.Tensor, contexts: torch.Tensor, negative: torch.Tensor,
    steps: int, shift: float, guidance_scale: float, begin: int = 0, end: int | None = None,
) -> Iterator[torch.Tensor]:  # fmt: skip
    """Denoises latents [B, C, F, H, W] in `steps` Euler steps with classifier-free guidance; yields after each step.

    predict(latents, timestep [B], contexts [N, B, L, D]) is the velocity. A guidance scale of 1 asks it once a step.
    begin: how many of the steps the latents have behind them; end: how many they then have, all if it is not given.
    """
    scheduler = sampling_scheduler(steps, shift)
    scheduler.set_begin_index(begin)
    for timestep in scheduler.timesteps[begin:end]:
        t = timestep.to(latents.device).expand(len(latents))
        velocity = predict(latents, t, contexts).float()
        if guidance_scale != 1:
            unconditional = predict(latents, t, negative).float()
            velocity = unconditional + guidance_scale * (velocity - unconditional)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        yield latents


def render(
    settings: RenderSettings, bound_prompt: str | Path, transformers: Sequence[str | Path], vae: str | Path,
    output: str | Path, made: str | Path, compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Renders a bound prompt to `output`, an image when it ends in .png, and writes to `made` (JSON) what made it.

    transformers (one, or two experts), vae: their folders, or the manifests of their weights. Each is dropped before
    the next is loaded; latents are kept in the run's folder (see `bico.runtime.runs`), so a kill or a failed decoding
    loses little. The noise is drawn on the CPU: a seed means the same everywhere. Raises Stopped when it was told to
    stop and has saved itself.
    """
    experts, vae_folder = [component_folder(each) for each in transformers], component_folder(vae)
    placed = place(compute, settings.dtype)
    vae_placed = place(compute, settings.vae_dtype, placed.device)
    prompt = read_header(bound_prompt) | {"sha256": file_digest(bound_prompt)}
    made_from = {
        "settings": asdict(settings),
        "inputs": {"bound_prompt": prompt, **component_ids("transformer", transformers), "vae": component_id(vae)},
        **made_by(__file__, "render", placed.device.type, transformer=placed.dtype, vae=vae_placed.dtype),
    }
    with claim_run(made_from, output, made) as run:
        if run is None:
            return
        latents = _Latents(run / "latents.safetensors", latent_shape(settings, vae_folder), settings.seed)
        for k, end in enumerate(_relay(settings, len(experts))):
            if latents.done < end:
                _denoise(latents, settings, bound_prompt, (experts, k, end), placed, compute.checkpoint_minutes)
        frames = decode_video(load_vae(vae_folder, vae_placed, settings.vae_tiling), latents.value[0])
        if Path(output).suffix == ".png":
            write_image(output, frames[0])
        else:
            write_video(output, frames, settings.fps)
        write_json(made, {"sha256": file_digest(output), "commit": commit(), **made_from})


class _Latents:
    """The latents of a run, [1, C, F', H', W'], from noise on, and how many steps they have behind them; in a file."""

    def __init__(self, path: Path, shape: tuple[int, ...], seed: int):
        self.path, self.done = path, 0
        self.value = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        if saved := load_state(path, self._state()):
            self.value, self.done = saved["latents"], int(saved["done"])
            log.info("going on at step %d", self.done)

    def put(self, value: torch.Tensor) -> None:
        """After a step. Raises InputError if it has made something else than numbers."""
        self.value, self.done = value, self.done + 1
        require_finite(f"step {self.done}", {"latents": value}, "; try compute.dtype: float32, or other binders")

    def save(self) -> None:
        save_state(self.path, self._state())

    def _state(self) -> dict[str, torch.Tensor]:
        return {"latents": self.value, "done": torch.tensor(self.done)}


def _relay(settings: RenderSettings, experts: int) -> list[int]:
    """How many steps are done when each expert has done its own: all, or those above the boundary and then all."""
    require_boundary(experts, settings.boundary)
    if experts == 1:
        return [settings.steps]
    timesteps = sampling_scheduler(settings.steps, settings.shift).timesteps
    return [int((timesteps >= 1000 * settings.boundary).sum()), settings.steps]


def _denoise(
    latents: _Latents, settings: RenderSettings, bound_prompt, expert: tuple[Sequence[Path], int, int],
    placed: Placement, minutes: float,
) -> None:  # fmt: skip
    """Takes the latents through the steps of one expert that are left; nothing else stays in memory.

    expert: the folders of all, the number of this one, and how many steps are done when it has done its own.
    """
    prompt, (folders, k, end) = load_bound_prompt(bound_prompt), expert
    model = BlockwiseTransformer(load_transformer(folders[k], placed))
    of_expert = (context.chunk(len(folders))[k] for context in (prompt.contexts, prompt.negative))
    contexts, negative = (context.to(placed.device, placed.dtype) for context in of_expert)
    steps = (settings.steps, settings.shift, settings.guidance_scale, latents.done, end)
    denoising = sample(model, latents.value.to(placed.device), contexts, negative, *steps)
    bar = progress(denoising, "render", "step", initial=latents.done, total=settings.steps)
    for value in interruptible(bar, latents.save, minutes):
        latents.put(value)
    latents.save()
    del model, contexts, negative, value
    free_memory()


def latent_shape(settings: RenderSettings, vae: str | Path) -> tuple[int, ...]:
    """[1, C, F', H', W'] of a video of the settings' size, by the VAE alone: a transformer may take more channels."""
    config = AutoencoderKLWan.load_config(vae, local_files_only=True)
    temporal, spatial = vae_factors(config)
    frames = (settings.frames - 1) // temporal + 1
    return (1, config["z_dim"], frames, settings.height // spatial, settings.width // spatial)
