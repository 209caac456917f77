import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from bico.methods.bico.binder import BinderSpec, ConceptBinder
from bico.methods.bico.binding import bind, training_prompt
from bico.methods.bico.checkpoint import load_binder
from bico.methods.bico.switches import PRESETS
from bico.models import wan
from bico.models.denoiser import BlockwiseTransformer
from bico.models.devices import Placement
from bico.render.render import sample
from tests import RELEASED
from tests.methods.test_binder import trained

D, N = 36, 3
INPUTS, OUTPUTS = (load_file(RELEASED / f"{name}.safetensors") for name in ("inputs", "outputs"))


@pytest.fixture(scope="module")
def model():
    transformer = WanTransformer3DModel.from_pretrained(RELEASED / "transformer", local_files_only=True)
    return BlockwiseTransformer(transformer.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def binders():
    return [load_binder(RELEASED / f"{kind}_binder.released.safetensors", D, N)[0] for kind in ("image", "video")]


@torch.no_grad()
def predict(model, latents: str, timestep: float, contexts):
    return model(INPUTS[latents], torch.tensor([timestep]), contexts)


def close(found, name: str) -> None:
    torch.testing.assert_close(found, OUTPUTS[name], atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("most_scores", [0, 2**27])
def test_in_bfloat16_on_a_cpu_the_velocity_is_that_of_float32_to_its_precision(tiny_model, most_scores, monkeypatch):
    """By plain products, and by diffusers' own attention where those would take too much memory."""
    monkeypatch.setattr(wan, "_MOST_SCORES", most_scores)
    torch.manual_seed(0)
    channels = WanTransformer3DModel.load_config(tiny_model / "transformer", local_files_only=True)["in_channels"]
    latents, timestep = torch.randn(2, channels, 3, 4, 4), torch.tensor([900.0, 300.0])
    velocities = []
    for dtype in (torch.float32, torch.bfloat16):
        loaded = BlockwiseTransformer(
            wan.load_transformer(tiny_model / "transformer", Placement(torch.device("cpu"), dtype))
        )
        contexts = torch.randn(
            loaded.blocks, 2, 7, loaded.transformer.proj_out.in_features, generator=torch.Generator().manual_seed(1)
        )
        velocities.append(loaded(latents, timestep, contexts).float())
    exact, rounded = velocities
    assert 0 < (rounded - exact).abs().max() < 0.03 * exact.abs().max()


def test_the_base_model_agrees_with_the_released_code(model):
    contexts = bind(model.project(INPUTS["prompt_a"])[0], torch.zeros(1, 512, dtype=torch.long), [], N)
    close(predict(model, "video_latents", 731.5, contexts), "base")


@pytest.mark.parametrize(
    ("name", "latents", "timestep", "prompt", "length", "which", "per_block"),
    [
        ("image_train_global", "image_latents", 903.25, "prompt_a", 20, 0, False),
        ("image_train_all", "image_latents", 412.0, "prompt_a", 20, 0, True),
        ("video_train_all", "video_latents", 655.75, "prompt_b", 25, 1, True),
    ],
)
def test_training_predictions_agree_with_the_released_code(
    model, binders, name, latents, timestep, prompt, length, which, per_block
):
    binder = binders[which]
    p = model.project(INPUTS[prompt])[0]
    prompt, owner = training_prompt(p, torch.tensor([length]), binder.absorbent, PRESETS["released"].absorbent)
    close(predict(model, latents, timestep, bind(prompt, owner, [binder], N, per_block=per_block)), name)


def test_a_composition_agrees_with_the_released_code(model, binders):
    contexts = bind(model.project(INPUTS["prompt_b"])[0], INPUTS["owner"], binders, N)
    close(predict(model, "video_latents", 500.0, contexts), "compose")


def test_sampling_agrees_with_the_released_code(model, binders):
    contexts = bind(model.project(INPUTS["prompt_b"])[0], INPUTS["owner"], binders, N)
    negative = bind(model.project(INPUTS["negative"])[0], torch.zeros_like(INPUTS["owner"]), [], N)
    *_, latents = sample(model, INPUTS["video_latents"], contexts, negative, steps=8, shift=5, guidance_scale=5)
    close(latents, "sample_8_steps_cfg5")


def test_untrained_binders_leave_the_prediction_bit_identical_to_the_base_models(model):
    base = WanTransformer3DModel.from_pretrained(RELEASED / "transformer", local_files_only=True).eval()
    timestep = torch.tensor([412.0])
    with torch.no_grad():
        expected = base(INPUTS["video_latents"], timestep, INPUTS["prompt_b"], return_dict=False)[0]
    for dual in (False, True):
        untrained = ConceptBinder(BinderSpec(D, N, dual=dual))
        contexts = bind(model.project(INPUTS["prompt_b"])[0], INPUTS["owner"].clamp(max=1), [untrained], N)
        assert torch.equal(predict(model, "video_latents", 412.0, contexts), expected)


def test_free_words_padding_and_end_token_are_untouched_in_every_block(model):
    two = [trained(BinderSpec(D, N), seed=1), trained(BinderSpec(D, N, dual=True), seed=2)]
    p, owner = model.project(INPUTS["prompt_b"])[0], INPUTS["owner"]
    contexts = bind(p, owner, two, N)
    free = owner[0] == 0
    assert free[24:].all() and not free.all()
    for i in range(N):
        assert torch.equal(contexts[i, 0, free], p[0, free])
        assert (contexts[i, 0, ~free] != p[0, ~free]).any(-1).all()


def test_every_blocks_binder_reads_the_global_binders_output():
    binder, p = trained(BinderSpec(D, N)), torch.randn(2, 5, D)
    owner = torch.ones(2, 5, dtype=torch.long)
    contexts = bind(p, owner, [binder], N)
    p_g = binder.global_binder(p)
    for i in range(N):
        torch.testing.assert_close(contexts[i], binder.block_binders[i](p_g))
    assert torch.equal(bind(p, owner, [binder], N, per_block=False)[2], p_g)


def test_each_token_passes_through_its_own_sources_binders_alone():
    first, second = trained(BinderSpec(D, N), seed=1), trained(BinderSpec(D, N), seed=2)
    p, owner = torch.randn(1, 4, D), torch.tensor([[1, 2, 2, 0]])
    both = bind(p, owner, [first, second], N)
    alone = bind(p, (owner == 2).long(), [second], N)
    assert torch.equal(both[:, :, 1:], alone[:, :, 1:])


def test_a_scale_of_zero_leaves_words_raw_and_a_half_halves_each_residual():
    binder, p, owner = trained(BinderSpec(D, N)), torch.randn(1, 2, D), torch.ones(1, 2, dtype=torch.long)
    contexts = bind(p, owner, [binder], N, scale=torch.tensor([[0.0, 0.5]]))
    assert torch.equal(contexts[:, 0, 0], p[0, 0].expand(N, D))
    half = p[0, 1] + 0.5 * (binder.global_binder(p[0, 1]) - p[0, 1])
    torch.testing.assert_close(contexts[1, 0, 1], half + 0.5 * (binder.block_binders[1](half) - half))


def test_absorbent_tokens_stand_where_their_placement_says():
    p, absorbent, lengths = torch.randn(2, 8, D), torch.randn(2, D), torch.tensor([3, 5])
    prompt, owner = training_prompt(p, lengths, absorbent, "appended")
    assert owner.tolist() == [[1, 1, 0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 1, 1, 0]]
    assert torch.equal(prompt[0, 3:5], absorbent) and torch.equal(prompt[1, 5:7], absorbent)
    assert torch.equal(prompt[0, 5:], p[0, 5:]) and torch.equal(prompt[0, :3], p[0, :3])
    prompt, owner = training_prompt(p, lengths, absorbent[:1], "end_of_text")
    assert owner.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]
    assert torch.equal(prompt[1, 4], absorbent[0])
    prompt, owner = training_prompt(p, lengths, absorbent, "none")
    assert torch.equal(prompt, p) and owner.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]


def test_gradient_checkpointing_changes_no_gradient(model):
    binder, p = trained(BinderSpec(D, N)), model.project(INPUTS["prompt_b"])[0]

    def gradient():
        binder.zero_grad()
        contexts = bind(p, INPUTS["owner"].clamp(max=1), [binder], N)
        model(INPUTS["video_latents"], torch.tensor([500.0]), contexts).square().sum().backward()
        return [parameter.grad.clone() for parameter in binder.block_binders.parameters()]

    plain = gradient()
    model.transformer.enable_gradient_checkpointing()
    model.train()
    try:
        for a, b in zip(plain, gradient(), strict=True):
            torch.testing.assert_close(a, b)
    finally:
        model.transformer.disable_gradient_checkpointing()
        model.eval()


def test_the_gradient_of_the_whole_stack_agrees_with_float64_finite_differences(monkeypatch):
    # diffusers rounds to float32 inside its norms and residuals; finite differences need float64 throughout.
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "type_as", lambda self, other: self.double())
    transformer = WanTransformer3DModel.from_pretrained(RELEASED / "transformer", local_files_only=True)
    model = BlockwiseTransformer(transformer.double().eval().requires_grad_(False))
    binder = trained(BinderSpec(D, N, dual=True)).double()
    p = model.project(INPUTS["prompt_b"].double())[0]
    lengths, latents = torch.tensor([25]), INPUTS["image_latents"].double()

    def loss():
        prompt, owner = training_prompt(p, lengths, binder.absorbent, "appended")
        contexts = bind(prompt, owner, [binder], N)
        return model(latents, torch.tensor([500.0]).double(), contexts).square().sum()

    loss().backward()
    generator, step = torch.Generator().manual_seed(0), 1e-6
    for name, parameter in binder.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            parameter += step * direction
            up = loss()
            parameter -= 2 * step * direction
            down = loss()
            parameter += step * direction
        expected = ((up - down) / (2 * step)).item()
        assert (parameter.grad * direction).sum().item() == pytest.approx(expected, rel=2e-4, abs=1e-6), name
