"""The world's text-to-video model: that it trains by flow matching on what the pipeline will give it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers.models.transformers import transformer_wan
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

from bico import InputError
from bico.models.devices import Placement
from bico.models.wan import PlainAttention, encode_tokens, encode_video, load_transformer, load_vae, pad_embeds
from bico.text.tokens import PromptTokenizer
from tests import ROOT
from toyworld.captions import caption, words_of
from toyworld.scene import MOTIONS, SHAPES, poses, render, sample_scene
from toyworld.training import evaluation
from toyworld.training import transformer as module
from toyworld.training.evaluation import HELD_OUT, evaluate_transformer, generate
from toyworld.training.scene_map import MAP_ATTRIBUTES, draw_map
from toyworld.training.token_dropping import TokenDropping
from toyworld.training.transformer import (
    SETTINGS,
    Batches,
    corpus,
    new_models,
    train,
)
from toyworld.training.vae import SETTINGS as VAE
from toyworld.training.vae import new_vae

CPU = torch.device("cpu")
SMALL = {
    "width": 128, "heads": 1, "layers": 2, "feed_forward": 64, "vocabulary": 700, "text_width": 32, "text_layers": 1,
    "stages": [[21, [1], 3.0, 1], [2, [5], 5.0, 1]], "latents_per_step": 8, "warmup": 5, "map_block": 1,
    "path_block": 2,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def sentences():
    """The corpus, drawn once for all trainings."""
    drawn = list(corpus())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "corpus", lambda: drawn)
        yield


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    new_vae(VAE | {"base_dim": 8, "decoder_base_dim": 8, "z_dim": 4}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, vae):
    folder = tmp_path_factory.mktemp("trained")
    train(SMALL, vae, folder / "t2v", folder / "t2v.jsonl", "cpu", "float32")
    return folder / "t2v"


def test_training_does_not_go_on_from_a_model_of_other_words(trained, vae, tmp_path):
    shutil.copytree(trained, tmp_path / "old")
    path = tmp_path / "old" / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace("star", "stern"), "utf-8")
    with pytest.raises(InputError, match="other words"):
        train(SMALL, vae, tmp_path / "t2v", tmp_path / "t2v.jsonl", "cpu", "float32", start_from=tmp_path / "old")


@pytest.mark.parametrize("crosses", [False, True])
def test_plain_attention_is_diffusers_own(crosses):
    torch.manual_seed(0)
    model = new_models(SETTINGS | SMALL | {"heads": 2}, 700, 4)["transformer"]
    block = model.blocks[0]
    attention = block.attn2 if crosses else block.attn1
    hidden = torch.randn(2, 3 * 4 * 4, 128)
    given = (torch.randn(2, 7, 128), None, None) if crosses else (None, None, model.rope(torch.zeros(2, 4, 3, 4, 4)))
    torch.testing.assert_close(
        PlainAttention()(attention, hidden, *given), WanAttnProcessor()(attention, hidden, *given), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("draws", [1, 3])
def test_the_loss_is_that_of_the_velocity_at_latents_and_prompts_of_the_pipeline(trained, vae, tmp_path, draws):
    """Against the pipeline's own encoding, one clip at a time, with the noise drawn anew."""
    settings = SETTINGS | SMALL | {"noise_draws_per_clip": draws}
    tokenizer = PromptTokenizer(trained / "tokenizer")
    batch = Batches(settings, tokenizer)[22]
    loaded = load_vae(vae, Placement(CPU, torch.float32))
    learner = module._Learner(settings, trained / "tokenizer", loaded, 30, CPU, "float32", trained)
    learner.seed_step(22)
    _, entry = learner.loss(22, batch)

    generator = torch.Generator().manual_seed(22)
    count = draws * len(batch["frames"])
    u = (torch.rand(count, generator=generator) + torch.arange(count)) / count
    shift = 5 * 2**0.5  # of two latent frames
    sigma = shift * u / (1 + (shift - 1) * u)
    latents = torch.stack([encode_video(loaded, clip.numpy()) for clip in batch["frames"]] * draws)
    noise = torch.randn(latents.shape, generator=generator)
    ids = [row[:length].tolist() for row, length in zip(batch["tokens"], batch["lengths"], strict=True)]
    encoder = learner.model["text_encoder"]
    with torch.no_grad():
        e = pad_embeds(encode_tokens(encoder, ids * draws, settings["text_length"], CPU), settings["text_length"])
        errors = []
        for k, s in enumerate(sigma):
            noisy = (1 - s) * latents[k] + s * noise[k]
            velocity = learner.model["transformer"](noisy[None], 1000 * s[None], e[[k]]).sample[0]
            errors.append((velocity - (noise[k] - latents[k])).square().mean())
    assert entry["velocity"] == pytest.approx(torch.stack(errors).mean().item(), rel=1e-4)


def test_half_of_the_heads_of_the_middle_blocks_begin_by_attending_to_other_frames(monkeypatch):
    """By where diffusers' own queries and keys meet: so many frames on; in the first of them at the same place."""
    model, weights, real = new_models(SETTINGS, 700, 4)["transformer"], [], transformer_wan.dispatch_attention_fn

    def meet(query, key, value, **options):
        if query.shape == key.shape:  # not the prompt's
            meeting = torch.einsum("bqhc,bkhc->bhqk", query, key)[0] / query.shape[-1] ** 0.5
            weights.append(meeting.softmax(-1).unflatten(1, (11, 64)).unflatten(3, (11, 64)))
        return real(query, key, value, **options)

    monkeypatch.setattr(transformer_wan, "dispatch_attention_fn", meet)
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randn(1, 5, SETTINGS["text_width"], generator=generator)
    with torch.no_grad():
        model(torch.randn(1, 4, 11, 8, 8, generator=generator), torch.tensor([900.0]), prompt)
    for number, offsets in ((3, (-1, 1, -2, 2)), (4, (-2, 2, -1, 1)), (5, (-4, 4, -1, 1))):
        for head, ahead in zip((2, 3, 6, 7), offsets, strict=True):
            there = weights[number - 1][head, 5, :, 5 + ahead]
            assert there.sum(-1).mean() > 0.5, (number, head)
            assert (there.diagonal().mean() > 0.3) == (number == 3)
        assert not model.blocks[number - 1].attn1.to_out[0].weight[:, 64:128].any()  # their output is zero


def test_a_transformer_gets_just_the_tokens_that_are_kept(trained):
    """All of them in any order are the whole clip; the dropped ones do not matter."""
    transformer = load_transformer(trained / "transformer", Placement(CPU, torch.float32))
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, transformer.config.in_channels, 3, 4, 4, generator=generator)
    given = torch.tensor([300.0, 900.0]), torch.randn(2, 7, transformer.config.text_dim, generator=generator)
    dropping = TokenDropping(transformer)
    with torch.no_grad():
        whole = transformer(latents, *given).sample
        order = torch.rand(2, 48, generator=generator).argsort(1)
        dropping.keep = order
        torch.testing.assert_close(transformer(latents, *given).sample, whole, atol=1e-5, rtol=1e-4)
        dropping.keep = order[:, :12]
        part = transformer(latents, *given).sample.flatten(2)
        dropped = order[:, None, 12:].expand(-1, latents.shape[1], -1)
        other = latents.flatten(2).scatter(2, dropped, 9.0).unflatten(2, latents.shape[2:])
        torch.testing.assert_close(transformer(other, *given).sample.flatten(2), part, atol=1e-5, rtol=1e-4)
    assert not part.gather(2, dropped).any() and dropping.kept(part.mT).all()


def test_of_a_clip_of_which_a_quarter_is_kept_it_learns_at_four_times_the_noise_levels(trained, vae):
    settings = SETTINGS | SMALL | {"stages": [[1, [5], 5.0, 0.25]]}
    batch = Batches(settings, PromptTokenizer(trained / "tokenizer"))[0]
    loaded = load_vae(vae, Placement(CPU, torch.float32))
    learner = module._Learner(settings, trained / "tokenizer", loaded, 30, CPU, "float32", trained)
    shapes = []
    learner.model["transformer"].blocks[0].register_forward_hook(
        lambda module, given, out: shapes.append(out.shape[:2])
    )
    learner.loss(0, batch)
    assert len(batch["frames"]) == 4 and shapes == [(16, 32)]  # of 128


@pytest.mark.parametrize("seed", range(6))
def test_the_map_of_a_clip_is_what_its_frames_show(seed):
    """Against the pixels: a quarter of a token deep inside an outline is not the background's, one far outside is."""
    scene = sample_scene(np.random.default_rng(seed))
    scene = replace(scene, style="flat", light=replace(scene.light, word="steady"))
    true = draw_map(scene, 8, 9, words_of(scene))
    assert true.shape == (3, 8, 8, 4 + len(MAP_ATTRIBUTES) + 5)
    empty = render(replace(scene, subjects=()), [8])[0]
    for latent, times in ((0, [8]), (1, [10, 11]), (2, [14, 15])):  # those in the middle of what a latent codes
        changed = (render(scene, times) != empty).any(-1).mean(0).reshape(16, 4, 16, 4).mean((1, 3))
        distance = true[latent, ..., :4].reshape(8, 8, 2, 2).swapaxes(1, 2).reshape(16, 16) * 8
        assert (changed[distance < -3] == 1).all() and (changed[distance > 5] == 0).all()
        assert (distance < -3).any()


def test_the_words_of_the_map_hold_where_their_subject_is_and_the_scenes_everywhere():
    scene = sample_scene(np.random.default_rng(3), subjects=2)
    one, other = scene.subjects
    true = draw_map(scene, 0, 1, words_of(scene, 0))[0]
    words = {word: true[..., 4 + k] for k, word in enumerate(MAP_ATTRIBUTES)}
    for subject in scene.subjects:
        x, y = (int(place // 8) for place in poses(subject, [0])[0, :2])
        assert words["shape", subject.shape][y, x] == words["colour", subject.colour][y, x] == 1
    assert not (words["shape", one.shape] * words["shape", other.shape]).all()
    assert not sum(words["motion", motion].sum() for motion in MOTIONS)  # a frame shows none
    assert words["background", scene.background.colour].all() and words["pattern", scene.background.pattern].all()
    assert not words["shape", next(shape for shape in SHAPES if shape not in (one.shape, other.shape))].any()


def test_every_token_of_the_map_has_the_place_the_path_and_the_words_of_a_lone_subject():
    scene = sample_scene(np.random.default_rng(1), subjects=1)
    words = {word: draw_map(scene, 8, 9, words_of(scene))[..., 4 + k] for k, word in enumerate(MAP_ATTRIBUTES)}
    assert words["shape", scene.subjects[0].shape].all() and words["motion", scene.subjects[0].motion.word].all()
    pose = draw_map(scene, 8, 9, words_of(scene))[..., -5:] * [0.14, 0.14, 0.033, 0.075, 0.075] + [0.5, 0.5, 0.18, 0, 0]
    assert (pose == pose[:, :1, :1]).all()
    path = poses(scene.subjects[0])[:, :3] / 64
    np.testing.assert_allclose(pose[1, 0, 0, :3], (path[10] + path[11]) / 2, atol=0.01)
    np.testing.assert_allclose(pose[2, 0, 0, 3:], ((path[22] + path[23]) - (path[6] + path[7]))[:2] / 2, atol=0.01)
    frame = draw_map(scene, 8, 1, words_of(scene, 8))[..., -5:]
    assert np.isnan(frame[..., 3:]).all() and not np.isnan(frame[..., :3]).any()  # a frame does not move
    two = sample_scene(np.random.default_rng(1), subjects=2)
    assert np.isnan(draw_map(two, 8, 9, words_of(two))[..., -5:]).all()


def test_half_of_the_frames_have_the_captions_of_their_clips(trained):
    batch = Batches(SETTINGS | SMALL | {"latents_per_step": 64}, PromptTokenizer(trained / "tokenizer"))[0]
    motions = [4 + k for k, (name, _) in enumerate(MAP_ATTRIBUTES) if name == "motion"]
    assert 20 < batch["map"][..., motions].any(-1).flatten(1).any(1).sum() < 44


def test_every_weight_learns(vae, trained):
    settings = SETTINGS | SMALL
    loaded = load_vae(vae, Placement(CPU, torch.float32))
    learner = module._Learner(settings, trained / "tokenizer", loaded, 30, CPU, "float32", trained)
    learner.loss(22, Batches(settings, PromptTokenizer(trained / "tokenizer"))[22])[0].backward()
    still = [name for name, weight in learner.model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not still
    assert all(weight.grad is None for weight in loaded.parameters())


def test_a_step_moves_the_matrices_of_the_blocks_as_far_along_all_main_directions_of_their_gradients(vae, trained):
    """Muon (Keller Jordan, 2024): by the gradient's polar factor, of AdamW's size (arXiv 2502.16982, eq. 4)."""
    settings = SETTINGS | SMALL | {"warmup": 1, "weight_decay": 0.0, "muon_lr": 0.01}
    data = Batches(settings, PromptTokenizer(trained / "tokenizer"))
    loaded = load_vae(vae, Placement(CPU, torch.float32))
    learner = module._Learner(settings, trained / "tokenizer", loaded, 30, CPU, "float32", trained)
    weights = {name: weight for name, weight in learner.model.named_parameters() if weight.grad is None}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    learner.step(0, data[0])
    matrices = [name for name, weight in weights.items() if ".blocks." in name and weight.ndim == 2]
    assert len(matrices) == 2 * (4 + 4 + 2)
    for name in matrices:
        moved = before[name] - weights[name].detach()
        left, values, right = torch.linalg.svd(weights[name].grad, full_matrices=False)
        main = values > 0.1 * values[0]
        along = torch.einsum("ik,ij,kj->k", left, moved, right)[main]
        size = 0.01 * 0.2 * max(moved.shape) ** 0.5
        assert main.sum() > 1 and (along > 0.6 * size).all() and (along < 1.3 * size).all(), name


def test_a_step_at_a_share_of_the_learning_rate_is_adamws_at_that_rate(vae, trained):
    settings = SETTINGS | SMALL | {"warmup": 4, "muon_lr": 0.0}  # so the first step goes a quarter of the way
    data = Batches(settings, PromptTokenizer(trained / "tokenizer"))
    loaded = load_vae(vae, Placement(CPU, torch.float32))
    learner = module._Learner(settings, trained / "tokenizer", loaded, 30, CPU, "float32", trained)
    weights = [weight.detach().clone().requires_grad_() for weight in learner.model.parameters()]
    learner.step(0, data[0])
    reference = torch.optim.AdamW(weights, settings["learning_rate"] / 4, (0.9, 0.99), weight_decay=1e-4)
    for weight, learned in zip(weights, learner.model.parameters(), strict=True):
        weight.grad = learned.grad
    reference.step()
    for weight, learned in zip(weights, learner.model.parameters(), strict=True):
        torch.testing.assert_close(learned, weight, atol=1e-7, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_steps_as_graphs_learn_what_the_steps_themselves_do(vae, trained):
    settings, gpu = SETTINGS | SMALL | {"stages": [[12, [1, 5], 3.0, 0.5]], "warmup": 9}, torch.device("cuda")
    data = Batches(settings, PromptTokenizer(trained / "tokenizer"))
    loaded, losses, averages = load_vae(vae, Placement(gpu, torch.float32)), [], []
    for graphs in (False, True):
        learner = module._Learner(settings, trained / "tokenizer", loaded, 30, gpu, "float32", trained)
        learner.graph_step = learner.graph_step if graphs else None
        losses.append([learner.step(step, data[step])["loss"].item() for step in range(len(data))])
        averages.append(torch.cat([value.flatten() for value in learner.ema.values()]))
    assert len(learner.graph_step.graphs) >= 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    start = module._Learner(settings, trained / "tokenizer", loaded, 30, gpu, "float32", trained).ema
    moved = averages[0] - torch.cat([value.flatten() for value in start.values()])
    assert (averages[1] - averages[0]).norm() < 0.1 * moved.norm()


def test_it_learns_and_goes_on_from_what_it_wrote(trained, vae, tmp_path):
    log = trained.with_name("t2v.jsonl")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [0, 20, 22]
    assert entries[1]["loss"] < entries[0]["loss"]
    train(
        SMALL | {"stages": [[1, [1], 3.0, 1]]}, vae, tmp_path / "on", tmp_path / "on.jsonl", "cpu", "float32", trained
    )
    assert json.loads((tmp_path / "on.jsonl").read_text())["loss"] < entries[0]["loss"]


def test_a_vae_of_another_scale_of_latents_is_another_training(vae, tmp_path):
    one_step, scale = SMALL | {"stages": [[1, [1], 3.0, 1]]}, tmp_path / "vae" / "config.json"
    shutil.copytree(vae, scale.parent)
    losses = []
    for times in (1, 2):
        config = json.loads(scale.read_text())
        scale.write_text(json.dumps(config | {"latents_std": [times * each for each in config["latents_std"]]}))
        train(one_step, scale.parent, tmp_path / "t2v", tmp_path / "t2v.jsonl", "cpu", "float32")
        losses.append(json.loads((tmp_path / "t2v.jsonl").read_text())["loss"])
    assert losses[0] != losses[1]


def test_captions_are_few_tokens_and_fit(trained):
    tokenizer = PromptTokenizer(trained / "tokenizer")
    lengths = [len(tokenizer.tokenise_text(text)) for text in corpus(400)]
    assert max(lengths) <= SETTINGS["text_length"]


def test_its_clips_are_those_of_the_captions_seeds_and_sizes(trained, vae):
    how = {"frames": 5, "device": CPU, "steps": 2, "batch": 2}
    texts = ["A red star.", "A blue moon.", "A red star."]
    clips = list(generate(trained, vae, texts, **how))
    assert [clip.shape for clip in clips] == [(5, 64, 64, 3)] * 3
    again = list(generate(trained, vae, texts[:2], **how))
    assert all((one == other).all() for one, other in zip(again, clips, strict=False))
    assert (clips[0] != clips[2]).any()


def test_an_evaluation_of_a_perfect_model_says_so(trained, vae, monkeypatch, tmp_path):
    def perfect(folder, vae, texts, frames, device):
        for number in range(len(texts)):
            rng = np.random.default_rng(HELD_OUT["transformer"] + number)
            scene = sample_scene(rng)
            frame = int(rng.integers(81)) if frames == 1 else None
            assert caption(scene, rng, frame)[0] == texts[number]
            yield render(scene) if frame is None else render(scene, [frame])

    monkeypatch.setattr(evaluation, "generate", perfect)
    found = evaluate_transformer(trained, vae, CPU, count=12, sheet=tmp_path / "sheet.jpg")
    assert set(found["agreement"].values()) == set(found["alone"].values()) == {1.0}
    assert found["named"]["count"] == 12 and found["named"]["motion"] == 12
    assert evaluate_transformer(trained, vae, CPU, count=12, frames=1)["agreement"]["shape"] == 1
    assert (tmp_path / "sheet.jpg").stat().st_size


def test_the_shipped_one_draws_what_held_out_captions_say():
    world = ROOT / "resources" / "world"
    found = evaluate_transformer(world, world / "vae", CPU, count=24, frames=1, batch=24, steps=6)["agreement"]
    for attribute, least in {"background": 0.9, "pattern": 0.9, "count": 0.9, "colour": 0.8, "shape": 0.75}.items():
        assert found[attribute] >= least, attribute
