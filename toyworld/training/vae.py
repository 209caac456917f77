"""The world's VAE: an AutoencoderKLWan trained on the world's own clips, drawn as they are needed.

It takes patches of 2 x 2 pixels as Wan2.2's does, and halves space and time twice: 8x in space, 4x in time. Training
passes whole clips through its layers at once (`encode_clip`, `decode_clip`), which gives what the model's own `encode`
and `decode` give in chunks of four frames through their caches, but faster and with gradients. It starts as a model of
single frames: every causal convolution has weight in its last tap alone, time is halved by taking the later frame and
doubled by repeating it. So a frame of a clip is coded as if it stood alone, and training can begin on frames, whose
convolutions are two-dimensional.

The decoder learns from latents with noise on them (as in l-DeTok, arXiv 2507.15856), so that different scenes have
latents far apart: a diffusion model learns such latents far sooner, and its small errors do not show. At the end the
decoder alone learns from latents with little noise.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanResample,
    WanResidualBlock,
    patchify,
    unpatchify,
)
from torch import nn
from torch.utils.data import Dataset

from bico.models.devices import pick_device, pick_dtype
from bico.models.wan import encode_video
from bico.runtime.provenance import code_digest, file_digest
from toyworld.scene import FRAMES, render, sample_scene
from toyworld.training.loop import LEARNING, Learner, checked, learn

SETTINGS = LEARNING | {
    "base_dim": 24,
    "decoder_base_dim": 32,
    "z_dim": 16,
    "num_res_blocks": 1,
    # Stages: steps; the lengths of the clips (1: single frames) of which each step draws one; the most noise on the
    # latents, in standard deviations; and whether the encoder still learns.
    "stages": [
        [2500, [1], 0.4, True],
        [4000, [1, 5, 9], 0.4, True],
        [2500, [9, 17, 33], 0.4, True],
        [2000, [1, 17, 33, 81], 0.1, False],
    ],
    "frames_per_step": 32,
    "learning_rate": 7e-4,  # at 2e-3 the mean colour of frames oscillates
    "edges": 0.5,  # the weight of the differences between neighbouring pixels
    "colour": 1.0,  # the weight of the means of squares of 8 x 8 pixels
    "kl": 1e-5,
    "statistics": 64,  # clips that the latents' mean and standard deviation are measured on
}
FRAMES_OF_A_SCENE = 2  # where single frames are trained on: several of one scene cost less to draw
_EPSILON = 0.02  # of the Charbonnier loss; pixels go from -1 to 1


# The model


def new_vae(settings: dict) -> AutoencoderKLWan:
    """A VAE that codes every frame of a clip as if it stood alone; random but for that."""
    torch.manual_seed(settings["seed"])
    sizes = {name: settings[name] for name in ("base_dim", "decoder_base_dim", "z_dim", "num_res_blocks")}
    statistics = {"latents_mean": [0.0] * settings["z_dim"], "latents_std": [1.0] * settings["z_dim"]}
    pixels = {"patch_size": _PATCH, "in_channels": 3 * _PATCH**2, "out_channels": 3 * _PATCH**2}
    halving = {"dim_mult": [1, 2, 4], "temperal_downsample": [True, True]}
    scales = {"scale_factor_spatial": 4 * _PATCH, "scale_factor_temporal": 4}
    vae = AutoencoderKLWan(**sizes, **pixels, **halving, **statistics, **scales)
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data[:, :, :-1] = 0
            module.weight.data[:, :, -1] *= math.sqrt(module.kernel_size[0])  # as wide as with all taps
    _initialise_colours(vae)
    return vae


@torch.no_grad()
def _initialise_colours(vae: AutoencoderKLWan) -> None:
    """Initialises the model to pass the colours of 8 x 8 pixels, which one with such norms learns slowly: residual
    branches begin at zero, the colours are in channels 0 to 2 and negated in 3 to 5 (silu(x) - silu(-x) is x), and a
    constant in channel 6 keeps the norms from removing their scale. The posterior starts narrow."""
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            _zero(module.conv2)
            if not isinstance(module.conv_shortcut, nn.Identity):
                _carry(module.conv_shortcut)
        elif isinstance(module, WanAttentionBlock):
            _zero(module.proj)
        elif isinstance(module, WanResample):
            halves = module.mode.startswith("down")
            _carry(module.resample[1], slice(0, 2) if halves else slice(1, 2))
            _zero(module.time_conv)
            copies = module.time_conv.out_channels // module.dim
            module.time_conv.weight[:, :, -1, 0, 0] = torch.eye(module.dim).repeat(copies, 1)
    _zero(vae.encoder.conv_out, 3)
    _zero(vae.decoder.conv_out)
    for coder in (vae.encoder, vae.decoder):
        _zero(coder.conv_in, _CARRIED)
    for k in range(3):
        patch = slice(k * _PATCH**2, (k + 1) * _PATCH**2)  # the places of a colour's pixels among the channels
        for place, sign in ((k, 1), (k + 3, -1)):
            vae.encoder.conv_in.weight[place, patch, -1, 1, 1] = sign / _PATCH**2
            vae.encoder.conv_out.weight[k, place, -1, 1, 1] = sign * 0.5
            vae.decoder.conv_in.weight[place, k, -1, 1, 1] = sign
            vae.decoder.conv_out.weight[patch, place, -1, 1, 1] = sign * 1.1
    for coder in (vae.encoder, vae.decoder):
        coder.conv_in.bias[_CARRIED - 1] = 4
    z = vae.config.z_dim
    vae.encoder.conv_out.weight[z:] = 0
    vae.encoder.conv_out.bias[z:] = -6
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _zero(conv)
        conv.weight[:, :, 0, 0, 0] = torch.eye(len(conv.weight))


_CARRIED = 7  # channels
_PATCH = 2  # pixels


def _zero(conv: nn.Module, rows: int | None = None) -> None:
    conv.weight[:rows] = 0
    conv.bias[:rows] = 0


def _carry(conv: nn.Module, taps: slice = slice(None)) -> None:
    """Makes the first channels the means of themselves over the `taps` of each spatial axis."""
    _zero(conv, _CARRIED)
    for k in range(_CARRIED):
        window = conv.weight[k, k][..., taps, taps]
        window[:] = 1 / window.numel()


def encode_clip(vae: AutoencoderKLWan, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [B, 3, 1 + 4 k, H, W] from -1 to 1 to the posterior's mean and logarithm of the variance, each
    [B, C, 1 + k, H / 8, W / 8]: as `vae.encode`."""
    encoder = vae.encoder
    x = _conv(encoder.conv_in, patchify(pixels.contiguous(), vae.config.patch_size))
    for layer in encoder.down_blocks:
        x = _layer(layer, x)
    x = _output(encoder, _middle(encoder.mid_block, x))
    mean, log_variance = _conv(vae.quant_conv, x).float().chunk(2, 1)
    return mean, log_variance.clamp(-30, 20)


def decode_clip(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Latents [B, C, 1 + k, h, w], not normalised, to pixels [B, 3, 1 + 4 k, 8 h, 8 w]: as `vae.decode`, but without
    its clamping, which has no gradient."""
    decoder = vae.decoder
    x = _middle(decoder.mid_block, _conv(decoder.conv_in, _conv(vae.post_quant_conv, latents)))
    for block in decoder.up_blocks:
        for layer in (*block.resnets, *(block.upsamplers or ())):
            x = _layer(layer, x)
    return unpatchify(_output(decoder, x).float().contiguous(), vae.config.patch_size)


def _layer(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    if isinstance(layer, WanAttentionBlock):
        return layer(x)
    return _resample(layer, x) if isinstance(layer, WanResample) else _residual(layer, x)


def _middle(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return _residual(block.resnets[1], block.attentions[0](_residual(block.resnets[0], x)))


def _output(coder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return _conv(coder.conv_out, _norm_silu(coder.norm_out, x))


def _residual(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    h = _conv(block.conv1, _norm_silu(block.norm1, x))
    h = _conv(block.conv2, _norm_silu(block.norm2, h))
    return h + (x if isinstance(block.conv_shortcut, nn.Identity) else _conv(block.conv_shortcut, x))


class _NormSilu(torch.autograd.Function):
    """silu(WanRMS_norm(x)), several times faster on a CPU than step by step under autocast."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        gamma = gamma.to(x.dtype)
        scale = torch.rsqrt((x * x).mean(1, keepdim=True, dtype=torch.float32) + 1e-12).to(x.dtype)
        ctx.save_for_backward(x, gamma, scale)
        return F.silu(x * scale * gamma)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, gamma, scale = ctx.saved_tensors
        gradient = torch.empty_like(x).copy_(gradient)  # in x's memory layout: mixing two is slow
        normal = x * scale
        gradient = torch.ops.aten.silu_backward(gradient, normal * gamma)
        along = gradient * normal
        of_gamma = along.sum((0, 2, 3, 4), dtype=torch.float32).view(gamma.shape)
        along = (along * gamma).mean(1, keepdim=True, dtype=torch.float32).to(x.dtype)
        return (gradient * gamma).sub_(normal.mul_(along)).mul_(scale), of_gamma


def _norm_silu(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return _NormSilu.apply(x, norm.gamma)


def _conv(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A WanCausalConv3d. Of a single frame only the last tap meets anything but zeros."""
    width, _, height, _, earlier, _ = conv._padding
    if x.shape[2] == 1:
        return F.conv2d(x[:, :, 0], conv.weight[:, :, -1], conv.bias, padding=(height, width))[:, :, None]
    return F.conv3d(F.pad(x, (0, 0, 0, 0, earlier, 0)), conv.weight, conv.bias, padding=(0, height, width))


def _resample(layer: WanResample, x: torch.Tensor) -> torch.Tensor:
    """The first frame stands alone: halving time goes on from it, doubling it leaves it out."""
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        first, later = x[:, :, :1], x[:, :, 1:]
        later = F.conv3d(F.pad(later, (0, 0, 0, 0, 2, 0)), layer.time_conv.weight, layer.time_conv.bias)
        later = torch.stack(later.chunk(2, 1), 3).flatten(2, 3)  # [B, C, T, 2, H, W]
        x = torch.cat([first.to(later.dtype), later], 2)
    batch, frames = x.shape[0], x.shape[2]
    x = layer.resample(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
    if layer.mode == "downsample3d" and frames > 1:
        later = F.conv3d(x, layer.time_conv.weight, layer.time_conv.bias, stride=(2, 1, 1))
        x = torch.cat([x[:, :, :1].to(later.dtype), later], 2)
    return x


# Training


class Clips(Dataset):
    """What each step trains on: uint8 [B, F, H, W, 3], by the step's number."""

    def __init__(self, settings: dict):
        self.settings = settings
        self.lengths = [lengths for steps, lengths, *_ in settings["stages"] for _ in range(steps)]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, step: int) -> torch.Tensor:
        rng = np.random.default_rng([self.settings["seed"], 1, step])
        length = int(rng.choice(self.lengths[step]))
        count = max(self.settings["frames_per_step"] // length, 1)
        if length > 1:
            starts = rng.integers(0, FRAMES - length + 1, count)
            return torch.from_numpy(np.stack([render(sample_scene(rng), range(s, s + length)) for s in starts]))
        chosen = rng.integers(0, FRAMES, (-(-count // FRAMES_OF_A_SCENE), FRAMES_OF_A_SCENE))
        frames = np.concatenate([render(sample_scene(rng), numbers) for numbers in chosen])
        return torch.from_numpy(frames[:count, None])


def train(
    settings: dict, output: str | Path, log_file: str | Path, device: str = "auto", precision: str = "bfloat16",
    start_from: str | Path | None = None, **budget,
) -> None:  # fmt: skip
    """Trains the VAE and writes it, in diffusers' layout and weights in float16, and its JSONL log.

    settings: what is to differ from SETTINGS. precision: of autocast. start_from: a VAE to begin with. budget: as
    `toyworld.training.loop.learn` takes them.
    """
    settings = checked(settings, SETTINGS)
    start = {name: file_digest(Path(start_from) / name) for name in _FILES} if start_from else None
    made_from = {"settings": settings, "start_from": start, "code": code_digest(__file__), "precision": precision}
    data, on = Clips(settings), pick_device(device)

    def begin() -> _Learner:
        vae = AutoencoderKLWan.from_pretrained(start_from) if start_from else new_vae(settings)
        return _Learner(vae, settings, len(data), on, pick_dtype(precision, on))

    learn(made_from, output, log_file, begin, data, **budget)


_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


class _Learner(Learner):
    name = "vae"

    def loss(self, step: int, batch: torch.Tensor) -> tuple[torch.Tensor, dict]:
        """Of frames uint8 [B, F, H, W, 3]."""
        pixels = batch.to(self.device, non_blocking=True).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        most_noise, trains_encoder = self._stage(step)
        generator = self.generator
        with self.autocast():
            with torch.set_grad_enabled(trains_encoder):
                mean, log_variance = encode_clip(self.model, pixels)
            level = most_noise * torch.rand(len(mean), 1, 1, 1, 1, generator=generator, device=self.device)
            variance = log_variance.exp() + level.square() * mean.var((0, 2, 3, 4), keepdim=True)
            noise = torch.randn(mean.shape, generator=generator, device=self.device)
            decoded = decode_clip(self.model, mean + variance.sqrt() * noise)
        losses = reconstruction_losses(decoded, pixels)
        losses["kl"] = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        loss = losses["pixels"] + sum(self.settings[name] * losses[name] for name in ("edges", "colour", "kl"))
        error = (decoded.detach().clamp(-1, 1) - pixels).square().mean() / 4
        losses = {name: value.detach() for name, value in losses.items()} | {"psnr": -10 * error.log10()}
        return loss, {"length": batch.shape[1], **losses}

    def _stage(self, step: int) -> tuple[float, bool]:
        """The most noise of a step, and whether the encoder learns in it."""
        for steps, _, most_noise, trains_encoder in self.settings["stages"]:
            if step < steps:
                return most_noise, trains_encoder
            step -= steps
        raise IndexError(step)

    def write(self, folder: Path, last: bool = False) -> None:
        vae = self.ema_model()
        if last:
            measure_latents(vae, self.settings["statistics"])
        vae.to(torch.float16).save_pretrained(folder)


def reconstruction_losses(decoded: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """How far clips [B, 3, F, H, W] are from their originals: Charbonnier losses of the pixels, of the differences
    between neighbours (outlines), and of the means of squares of 8 x 8 pixels (drifting colours)."""
    error = decoded - pixels
    across, down = error.diff(dim=-1), error.diff(dim=-2)
    return {
        "pixels": _charbonnier(error),
        "edges": (_charbonnier(across) + _charbonnier(down)) / 2,
        "colour": _charbonnier(F.avg_pool3d(error, (1, 8, 8))),
    }


def _charbonnier(error: torch.Tensor) -> torch.Tensor:
    return (error.square() + _EPSILON**2).sqrt().mean() - _EPSILON


def measure_latents(vae: AutoencoderKLWan, clips: int) -> None:
    """Sets the mean of the latents by channel and the standard deviation of all channels, in the VAE's configuration,
    from clips of the world that are neither trained on nor held out. One scale for all, as Stable Diffusion's VAEs have
    it, leaves the channels of places and colours a larger variance than those of fine detail, so a diffusion model
    fixes them at a higher noise level."""
    unscaled = {"latents_mean": [0.0] * vae.config.z_dim, "latents_std": [1.0] * vae.config.z_dim}
    vae.register_to_config(**unscaled)
    scenes = (sample_scene(np.random.default_rng([2, number])) for number in range(clips))
    latents = torch.cat([encode_video(vae, render(scene)).flatten(1) for scene in scenes], 1)
    deviation = latents.var(1).mean().sqrt().item()
    vae.register_to_config(latents_mean=latents.mean(1).tolist(), latents_std=[deviation] * vae.config.z_dim)
