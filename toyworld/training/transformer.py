"""The world's text-to-video model: a small WanTransformer3DModel and its UMT5 text encoder, trained together.

They learn by flow matching, as Wan2.1 did: from clips of the world, drawn as they are needed and coded by the world's
VAE, and their captions. Training goes from single frames, where shapes and colours are learned cheaply, over short
clips to whole ones.

Fixed probes of the hidden states half way through the transformer's blocks have to give what is at each token: outlines
and attributes (`scene_map`). Here the truth is known, so this takes the place of REPA's alignment with a pretrained
encoder (arXiv 2410.06940): the transformer learns sooner what to draw where.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from bico.methods.bico.noise import shift_sigma
from bico.models.devices import Placement, pick_device, pick_dtype
from bico.models.wan import (
    PlainAttention,
    latent_statistics,
    load_text_encoder,
    load_transformer,
    load_vae,
)
from bico.prompts.writers.template import template_prompts
from bico.runtime.provenance import code_digest, file_digest
from bico.text.tokens import PromptTokenizer
from toyworld.captions import caption, phrases_of, words_of
from toyworld.scene import FRAMES, render, sample_scene
from toyworld.tiny.build import build_tokenizer
from toyworld.training.loop import LEARNING, Learner, check_words, checked, learn
from toyworld.training.scene_map import draw_map, map_directions, map_loss, path_loss
from toyworld.training.token_dropping import TokenDropping
from toyworld.training.vae import encode_clip

SETTINGS = LEARNING | {
    "width": 256,
    "heads": 8,  # of which with 128 channels, as Wan's, there would be two: too few to attend to other frames too
    "layers": 6,
    "feed_forward": 768,
    "vocabulary": 1000,
    "text_width": 128,
    "text_layers": 2,
    "text_length": 96,
    # Stages: steps; the lengths of the clips of which each step draws one (1: single frames); the shift of a single
    # frame's noise levels; and the share of a clip's tokens that it keeps, at so many times as many noise levels.
    "stages": [[8000, [1], 3.0, 1], [7000, [1, 17, 33, 81], 3.0, 0.5], [3000, [1, 81], 3.0, 1]],
    "latents_per_step": 64,  # frames of latents, as many clips as they make
    "noise_draws_per_clip": 1,  # more where clips take longer to draw than to learn from
    "caption_dropout": 0.1,  # the share of clips without a caption, for guidance
    "map_loss_weight": 0.5,  # of both probes
    "map_block": 3,  # after which the map is probed
    "path_block": 4,  # after which the path is: it follows from the places that the blocks before find
    "learning_rate": 1e-3,
    "muon_lr": 4e-3,  # half the steps of AdamW alone to the same loss
    "warmup": 300,
    "decay": 0.4,
}


# The model


def new_models(settings: dict, vocabulary: int, channels: int) -> nn.ModuleDict:
    """`transformer` and `text_encoder`, random from the seed, for latents of so many channels."""
    torch.manual_seed(settings["seed"])
    text_encoder = UMT5Config(
        vocab_size=vocabulary, d_model=settings["text_width"], d_kv=32, d_ff=2 * settings["text_width"],
        num_layers=settings["text_layers"], num_heads=settings["text_width"] // 32, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    transformer = WanTransformer3DModel(
        patch_size=(1, 1, 1), num_attention_heads=settings["heads"],
        attention_head_dim=settings["width"] // settings["heads"], in_channels=channels, out_channels=channels,
        text_dim=settings["text_width"], freq_dim=128, ffn_dim=settings["feed_forward"], num_layers=settings["layers"],
    )  # fmt: skip
    nn.init.zeros_(transformer.proj_out.weight)
    attend_to_other_frames(transformer)
    return nn.ModuleDict({"transformer": transformer, "text_encoder": UMT5EncoderModel(text_encoder)})


# Half of the heads of the middle blocks are initialised to attend so many latent frames ahead: in the first of these
# blocks to the same place, in the others to the whole frame. Random heads attend to no other frame even after 15,000
# steps.
_FRAME_OFFSETS = {3: (-1, 1, -2, 2), 4: (-2, 2, -1, 1), 5: (-4, 4, -1, 1)}
_SHARPNESS = 4.0


@torch.no_grad()
def attend_to_other_frames(transformer: WanTransformer3DModel) -> None:
    """Initialises heads to attend to other frames, with an output of zero."""
    size, heads = transformer.config.attention_head_dim, transformer.config.num_attention_heads
    side = 2 * (size // 6)  # channels of RoPE's height and width; the others are time's
    for number, offsets in _FRAME_OFFSETS.items():
        if number > len(transformer.blocks):
            continue
        attention = transformer.blocks[number - 1].attn1
        for head, ahead in zip([h for h in range(heads) if h % 4 > 1], offsets, strict=False):
            here = slice(head * size, (head + 1) * size)
            angles = ahead * 10_000 ** (-torch.arange(0, size - 2 * side, 2) / (size - 2 * side))
            rotated = torch.stack([angles.cos(), angles.sin()], 1).flatten()
            place = torch.tensor([1.0, 0.0]).repeat(side)
            if number != min(_FRAME_OFFSETS):
                place = torch.zeros_like(place)
            for project, norm, pattern in (
                (attention.to_q, attention.norm_q, rotated),
                (attention.to_k, attention.norm_k, torch.tensor([1.0, 0.0]).repeat(len(angles))),
            ):
                project.weight[here] = 0
                project.bias[here] = torch.cat([pattern, place])
                norm.weight[here] = _SHARPNESS
            attention.to_out[0].weight[:, here] = 0


# The data


def corpus(sentences: int = 5_000) -> Iterator[str]:
    """What its tokenizer's words are learned from: captions, and prompts by template."""
    for number in range(sentences):
        rng = np.random.default_rng([4, number])
        scene = sample_scene(rng)
        frame = int(rng.integers(FRAMES)) if number % 3 == 0 else None
        if number % 4 == 0:
            phrases = phrases_of(words_of(scene, frame))
            yield template_prompts(phrases, "video" if frame is None else "image", 1, number)[0]
        else:
            yield caption(scene, rng, frame)[0]


class Batches(Dataset):
    """What each step trains on, by its number: `frames` uint8 [B, F, H, W, 3] and their `map` (see `draw_map`),
    `tokens` [B, L], of a few lengths L, and their `lengths` [B], the `shift` of the noise levels, and the
    `keep_ratio` of a clip's tokens."""

    def __init__(self, settings: dict, tokenizer: PromptTokenizer):
        self.settings, self.tokenizer = settings, tokenizer
        self.stages = [(lengths, *how) for steps, lengths, *how in settings["stages"] for _ in range(steps)]

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, step: int) -> dict:
        rng = np.random.default_rng([self.settings["seed"], 1, step])
        lengths, shift, keep_ratio = self.stages[step]
        length = int(rng.choice(lengths))
        count = max(self.settings["latents_per_step"] // (1 + length // 4), 1)
        clips, maps, texts = zip(*(self._example(length, rng) for _ in range(count)), strict=True)
        ids = [self.tokenizer.tokenise_text(text).ids[: self.settings["text_length"]] for text in texts]
        # Little more padding than the batch needs.
        longest = min(-max(map(len, ids)) // 32 * -32, self.settings["text_length"])
        tokens = torch.zeros(count, longest, dtype=torch.long)
        for row, prompt in zip(tokens, ids, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        frames, maps = (torch.from_numpy(np.stack(each)) for each in (clips, maps))
        lengths = torch.tensor([len(prompt) for prompt in ids])
        keep_ratio = keep_ratio if length > 1 else 1
        # More frames leave a motion visible under more noise (SD3, arXiv 2403.03206, 5.3.2).
        shift *= (1 + length // 4) ** 0.5
        return {
            "frames": frames,
            "map": maps,
            "tokens": tokens,
            "lengths": lengths,
            "shift": shift,
            "keep_ratio": keep_ratio,
        }

    def _example(self, length: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
        scene = sample_scene(rng)
        start = int(rng.integers(FRAMES - length + 1))
        # Half of the frames have the captions of their clips, which have words of motion: clips alone would be too few.
        frame = start if length == 1 and rng.random() < 0.5 else None
        text = caption(scene, rng, frame)[0]
        text = "" if rng.random() < self.settings["caption_dropout"] else text
        return render(scene, range(start, start + length)), draw_map(scene, start, length, words_of(scene, frame)), text


# Training


def train(
    settings: dict, vae: str | Path, output: str | Path, log_file: str | Path, device: str = "auto",
    precision: str = "bfloat16", start_from: str | Path | None = None, compiled: bool = False, **budget,
) -> None:  # fmt: skip
    """Trains transformer and text encoder and writes both, weights in float16, and the tokenizer into `output`, and the
    JSONL log.

    settings: what is to differ from SETTINGS. vae: the folder of the world's VAE. precision: of autocast. start_from: a
    folder that an earlier training wrote, to begin with. compiled: by torch.compile, half as fast again; it needs a C++
    compiler. budget: as `toyworld.training.loop.learn` takes them.
    """
    settings, on = checked(settings, SETTINGS), pick_device(device)
    made_from = {
        "settings": settings,
        "code": code_digest(__file__),
        "vae": {name: file_digest(Path(vae) / name) for name in ("config.json", _WEIGHTS)},
        "start_from": start_from and {name: file_digest(Path(start_from) / name) for name in _FILES},
        "precision": precision,
    }
    with tempfile.TemporaryDirectory() as start:
        tokenizer = Path(start) / "tokenizer"
        build_tokenizer(tokenizer, corpus(), settings["vocabulary"])
        if start_from:
            check_words(Path(start_from) / "tokenizer", tokenizer)
        data = Batches(settings, PromptTokenizer(tokenizer))

        def begin() -> _Learner:
            coder = load_vae(vae, Placement(on, torch.float32))
            return _Learner(settings, tokenizer, coder, len(data), on, precision, start_from, compiled)

        learn(made_from, output, log_file, begin, data, **budget)


_WEIGHTS = "diffusion_pytorch_model.safetensors"
_FILES = (f"transformer/{_WEIGHTS}", "text_encoder/model.safetensors")


class _Learner(Learner):
    name = "transformer"
    graphs = True

    def __init__(
        self, settings: dict, tokenizer: Path, vae, steps: int, device, precision: str, start_from, compiled=False
    ):
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer, local_files_only=True)
        models = new_models(settings, len(self.tokenizer), vae.config.z_dim)
        if start_from:
            for name, load in (("transformer", load_transformer), ("text_encoder", load_text_encoder)):
                models[name].load_state_dict(
                    load(Path(start_from) / name, Placement(device, torch.float32)).state_dict()
                )
        super().__init__(models, settings, steps, device, pick_dtype(precision, device))
        self.vae, self.latent_statistics = vae, latent_statistics(vae, torch.zeros((), device=device))
        self.directions = map_directions(settings["width"]).to(device)
        if device.type == "cpu":
            self.model["transformer"].set_attn_processor(PlainAttention())
        if compiled:
            self.model["transformer"].compile_repeated_blocks(dynamic=False)
        self.hidden = {}
        for name in ("map_block", "path_block"):
            block = self.model["transformer"].blocks[settings[name] - 1]
            block.register_forward_hook(lambda module, given, hidden, name=name: self.hidden.update({name: hidden}))
        self.dropping = TokenDropping(self.model["transformer"])

    def matrices(self) -> list[nn.Parameter]:
        return [weight for weight in self.model["transformer"].blocks.parameters() if weight.ndim == 2]

    def loss(self, step: int, batch: dict) -> tuple[torch.Tensor, dict]:
        pixels = batch["frames"].to(self.device, non_blocking=True).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        parts = round(1 / batch["keep_ratio"])  # a step costs the same whatever it keeps
        draws = parts * self.settings["noise_draws_per_clip"]
        count = draws * len(pixels)
        generator = self.generator
        u = torch.rand(count, generator=generator, device=self.device)
        u = (u + torch.arange(count, device=self.device)) / count  # one of each stratum: steadier losses
        sigma = shift_sigma(u, batch["shift"])
        with self.autocast():
            with torch.no_grad():
                latents = encode_clip(self.vae, pixels)[0]
                mean, std = self.latent_statistics
                latents = torch.cat([(latents - mean) / std] * draws)
            noise = torch.randn(latents.shape, generator=generator, device=self.device)
            level = sigma[:, None, None, None, None]
            noisy = (1 - level) * latents + level * noise
            context = self._context(batch["tokens"], batch["lengths"])
            context = torch.cat([context] * draws)
            if parts > 1:
                order = torch.rand(count, latents[0, 0].numel(), generator=generator, device=self.device).argsort(1)
                self.dropping.keep = order[:, : order.shape[1] // parts]
            velocity = self.model["transformer"](noisy, 1000 * sigma, context, return_dict=False)[0]
        error = (velocity.float() - (noise - latents)).square().mean(1).flatten(1)
        velocity_loss = self.dropping.kept(error).mean()
        true = torch.cat([batch["map"].to(self.device, non_blocking=True).flatten(1, 3)] * draws)
        true = self.dropping.kept(true)
        of_map = map_loss(self.hidden["map_block"], self.directions, true)
        of_path = path_loss(self.hidden["path_block"], self.directions, true)
        self.dropping.keep = None
        loss = velocity_loss + self.settings["map_loss_weight"] * (of_map + of_path)
        losses = {"velocity": velocity_loss, "map": of_map, "path": of_path}
        return loss, {"length": batch["frames"].shape[1]} | {name: each.detach() for name, each in losses.items()}

    def _context(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Prompt embeds [B, L, E], zero behind each prompt's own tokens."""
        tokens, lengths = (each.to(self.device, non_blocking=True) for each in (tokens, lengths))
        mask = torch.arange(tokens.shape[1], device=self.device) < lengths[:, None]
        hidden = self.model["text_encoder"](tokens, attention_mask=mask.long()).last_hidden_state * mask[..., None]
        return nn.functional.pad(hidden, (0, 0, 0, self.settings["text_length"] - tokens.shape[1]))

    def write(self, folder: Path, last: bool = False) -> None:
        models = self.ema_model()
        for name in ("transformer", "text_encoder"):
            models[name].to(torch.float16).save_pretrained(folder / name)
        self.tokenizer.save_pretrained(folder / "tokenizer")
