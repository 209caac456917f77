"""A model of two experts, as Wan2.2-A14B is, through all stages that ask its denoiser."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from bico import InputError
from bico.media.video import read_frames
from bico.methods.bico.checkpoint import export_released, load_binder
from bico.methods.bico.compose import ComposeSettings, compose
from bico.methods.bico.train import BindSettings, train
from bico.models.denoiser import BlockwiseTransformer
from bico.models.devices import Placement
from bico.models.wan import decode_video, load_transformer, load_vae, save_embeds
from bico.plan.plan import Plan
from bico.render.bound_prompt import load_bound_prompt
from bico.render.render import RenderSettings, latent_shape, render, sampling_scheduler
from bico.runtime.compute import Compute
from bico.settings.model_file import load_model
from bico.settings.stage import stage_settings
from tests import ROOT

D, N = 96, 4  # of the tiny transformer
CPU = Compute(device="cpu")
TRAINING = {
    "iterations": 8, "learning_rate": 1e-3, "weight_decay": 0.0, "batch_size": 2, "validations": 1, "seed": 0,
}  # fmt: skip
VIDEO = {
    "seed": 3, "steps": 4, "shift": 5.0, "guidance_scale": 4.0, "height": 32, "width": 48, "frames": 1, "fps": 15,
}  # fmt: skip


@pytest.fixture(scope="module")
def experts(tiny_model, tmp_path_factory) -> list[Path]:
    """The tiny transformer, and one of its shape with other weights."""
    folder = tmp_path_factory.mktemp("experts") / "transformer_2"
    torch.manual_seed(9)
    WanTransformer3DModel(**WanTransformer3DModel.load_config(tiny_model / "transformer")).save_pretrained(folder)
    return [tiny_model / "transformer", folder]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder, generator = tmp_path_factory.mktemp("data"), torch.Generator().manual_seed(0)
    save_file({"clip": torch.randn(8, 1, 4, 4, generator=generator)}, folder / "latents.safetensors")
    save_embeds(folder / "prompts.safetensors", [torch.randn(6, 64, generator=generator) for _ in range(3)], "p")
    return folder


def bind(data: Path, transformers: list[Path], output: Path, boundary: float | None = None, stage=1, **given) -> dict:
    settings = {"concept": "red", "stage": stage, "data": "clip", "training": TRAINING | given, "shift": 5.0}
    settings |= {"text_length": 64} | ({} if boundary is None else {"boundary": boundary})
    start = output.parent / "stage1.safetensors" if stage == 2 else None
    files = (data / "latents.safetensors", data / "prompts.safetensors", transformers, start)
    train(stage_settings(BindSettings, settings), *files, output, output.with_suffix(".jsonl"), CPU)
    return load_file(output)


@pytest.fixture(scope="module")
def bound(data, experts, tiny_model, tmp_path_factory) -> Path:
    """Trained on both, composed on both."""
    folder = tmp_path_factory.mktemp("bound")
    bind(data, experts, folder / "stage1.safetensors", boundary=0.875)
    prompt = ComposeSettings("[A red square](red) alone.", negative_prompt="dull", text_length=64)
    parts = (tiny_model / "tokenizer", tiny_model / "text_encoder", experts)
    compose(prompt, [folder / "stage1.safetensors"], *parts, folder / "bound.safetensors", CPU)
    return folder / "bound.safetensors"


def rendered(bound: Path, transformers: list[Path], vae: Path, output: Path, **settings) -> np.ndarray:
    made = output.with_suffix(".json")
    render(RenderSettings(**VIDEO | settings), bound, transformers, vae, output, made, CPU)
    return read_frames(output)[0]


def test_training_moves_the_binders_of_the_experts_whose_noise_it_draws(data, experts, tmp_path):
    both = bind(data, experts, tmp_path / "both" / "a.safetensors", boundary=0.875)
    assert both["global_binder.gamma"].any() and both["second.global_binder.gamma"].any()
    assert not torch.equal(both["global_binder.gamma"], both["second.global_binder.gamma"])
    first = bind(data, experts, tmp_path / "first" / "a.safetensors", boundary=1e-6)
    assert first["global_binder.gamma"].any() and not first["second.global_binder.gamma"].any()


def test_an_expert_that_is_never_asked_changes_no_bit_of_the_others_binders(data, experts, tmp_path):
    alone = bind(data, experts[:1], tmp_path / "alone" / "a.safetensors")
    first = bind(data, experts, tmp_path / "first" / "a.safetensors", boundary=1e-6)
    assert all(torch.equal(value, first[name]) for name, value in alone.items())


def test_stage_2_takes_the_binders_of_both_over_and_the_file_loads_again(data, experts, tmp_path):
    stage1 = bind(data, experts, tmp_path / "stage1.safetensors", boundary=0.875)
    stage2 = bind(data, experts, tmp_path / "stage2.safetensors", boundary=0.875, stage=2, learning_rate=1e-12)
    for name in ("global_binder.gamma", "second.global_binder.gamma", "second.block_binders.1.spatial.1.weight"):
        assert torch.allclose(stage1[name], stage2[name], atol=1e-9)
    assert "second.global_binder.temporal.1.weight" in stage2
    binder, header = load_binder(tmp_path / "stage2.safetensors", D, N, experts=2)
    assert binder.spec.experts == 2 and header["model_2"]["path"] == experts[1].as_posix()
    with pytest.raises(InputError, match="the released layout knows one"):
        export_released(tmp_path / "released.safetensors", [binder])


def test_a_binder_of_another_number_of_experts_is_refused_by_name(data, experts, tmp_path):
    bind(data, experts, tmp_path / "two.safetensors", boundary=0.875)
    bind(data, experts[:1], tmp_path / "one.safetensors")
    with pytest.raises(InputError, match=r"two.safetensors: made for a model of 2 experts; this model has 1"):
        load_binder(tmp_path / "two.safetensors", D, N)
    with pytest.raises(InputError, match=r"one.safetensors: made for a model of 1 experts; this model has 2"):
        load_binder(tmp_path / "one.safetensors", D, N, experts=2)


def test_every_step_of_a_rendering_is_the_experts_whose_noise_level_it_is(bound, experts, tiny_model, tmp_path):
    """Against a loop of its own: plain transformers, each with the bound prompt of its own projection."""
    settings, prompt = RenderSettings(**VIDEO, boundary=0.875), load_bound_prompt(bound)
    models = [BlockwiseTransformer(load_transformer(folder, Placement())) for folder in experts]
    latents = torch.randn(latent_shape(settings, tiny_model / "vae"), generator=torch.Generator().manual_seed(3))
    scheduler, asked = sampling_scheduler(settings.steps, settings.shift), []
    with torch.no_grad():
        for time in scheduler.timesteps:
            k = int(time < 875)
            asked.append(k)
            own = [each[k * N : (k + 1) * N] for each in (prompt.contexts, prompt.negative)]
            guided, plain = (models[k](latents, time[None], contexts) for contexts in own)
            latents = scheduler.step(plain + 4.0 * (guided - plain), time, latents, return_dict=False)[0]
    expected = decode_video(load_vae(tiny_model / "vae", Placement()), latents[0])[0]
    assert set(asked) == {0, 1}
    found = rendered(bound, experts, tiny_model / "vae", tmp_path / "a.png", boundary=0.875)
    assert np.abs(found.astype(int) - expected).max() <= 1
    made = json.loads((tmp_path / "a.json").read_text())
    assert made["inputs"]["transformer_2"]["path"] == experts[1].as_posix()


def test_two_experts_of_the_same_weights_render_what_one_renders(data, experts, tiny_model, tmp_path):
    parts = (tiny_model / "tokenizer", tiny_model / "text_encoder")
    for name, transformers in (("one", experts[:1]), ("two", experts[:1] * 2)):
        prompt = ComposeSettings("Only free words.", negative_prompt="", text_length=64)
        compose(prompt, [], *parts, transformers, tmp_path / f"{name}.safetensors", CPU)
    one = rendered(tmp_path / "one.safetensors", experts[:1], tiny_model / "vae", tmp_path / "one.png")
    two = rendered(
        tmp_path / "two.safetensors", experts[:1] * 2, tiny_model / "vae", tmp_path / "two.png", boundary=0.9
    )
    assert np.array_equal(one, two)


def test_a_boundary_without_a_second_expert_or_the_other_way_round_is_refused(
    bound, experts, data, tiny_model, tmp_path
):
    for transformers, boundary in ((experts, None), (experts[:1], 0.5)):
        with pytest.raises(InputError, match="two experts have one, one has none"):
            rendered(bound, transformers, tiny_model / "vae", tmp_path / "a.png", boundary=boundary)
        with pytest.raises(InputError, match="two experts have one, one has none"):
            bind(data, transformers, tmp_path / "a.safetensors", boundary)


def model_file(folder: Path, tiny_model: Path, experts: list[Path], **change) -> Path:
    content = yaml.safe_load((ROOT / "config" / "models" / "tiny.yaml").read_text("utf-8"))
    content["components"] = {name: {"path": str(tiny_model / name)} for name in content["components"]}
    content["components"]["transformer_2"] = {"path": str(experts[1])}
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump({**content, "boundary": 0.875} | change, allow_unicode=True), "utf-8")
    return path


def test_one_model_file_is_all_that_a_model_of_two_experts_needs(tiny_model, experts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("concepts.csv").write_text("concept,source,spatial,binder\nred,,,red.safetensors\n")
    Path("compositions.csv").write_text("composition,prompt\na,[A square](red) alone.\n")
    Path("red.safetensors").touch()
    model = model_file(tmp_path, tiny_model, experts)
    plan = Plan.load({"model": str(model), "concepts": "concepts.csv", "compositions": "compositions.csv"})
    assert plan.model.experts == ("transformer", "transformer_2")
    assert "transformer_2" in plan.needed_components()
    assert plan.render_settings("a", 0)["boundary"] == 0.875


@pytest.mark.parametrize(
    "change, says",
    [
        ({"boundary": 1.5}, "boundary: found 1.5, allowed: at most 1"),
        ({"components": None}, "components"),
    ],
)
def test_a_model_file_whose_experts_do_not_fit_is_named(tiny_model, experts, tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        load_model(model_file(tmp_path, tiny_model, experts, **change), tmp_path)


def test_a_second_expert_without_a_boundary_and_a_boundary_without_one_are_named(tiny_model, experts, tmp_path):
    path = model_file(tmp_path, tiny_model, experts)
    content = yaml.safe_load(path.read_text("utf-8"))
    boundary = content.pop("boundary")
    path.write_text(yaml.safe_dump(content), "utf-8")
    with pytest.raises(InputError, match="boundary: missing; it says which noise levels are transformer_2's"):
        load_model(path, tmp_path)
    del content["components"]["transformer_2"]
    path.write_text(yaml.safe_dump(content | {"boundary": boundary}), "utf-8")
    with pytest.raises(InputError, match="boundary: of two experts, and components has no transformer_2"):
        load_model(path, tmp_path)
