import os
import signal

import numpy as np
import pytest
import torch

from bico import InputError, Stopped
from bico.media.video import read_frames
from bico.models.denoiser import BlockwiseTransformer
from bico.render.bound_prompt import load_bound_prompt, save_bound_prompt
from bico.render.render import RenderSettings, render, sample
from bico.runtime.compute import Compute
from bico.runtime.runs import forget

CPU = torch.device("cpu")
SETTINGS = {
    "seed": 3, "steps": 3, "shift": 5.0, "guidance_scale": 4.0, "height": 32, "width": 48, "frames": 5, "fps": 15,
}  # fmt: skip


@pytest.fixture
def bound(tmp_path):
    generator = torch.Generator().manual_seed(0)
    prompts, rows = torch.randn(1, 2, 16, 96, generator=generator), torch.tensor([1, 4])
    path = tmp_path / "bound.safetensors"
    save_bound_prompt(path, prompts, rows, torch.randn(4, 2, 96, generator=generator), {"pieces": []})
    return path


def rendered(bound, tiny_model, output, **settings) -> np.ndarray:
    folders = ([tiny_model / "transformer"], tiny_model / "vae")
    made = output.with_name(f"{output.name}.json")
    render(RenderSettings(**SETTINGS | settings), bound, *folders, output, made, Compute(device="cpu"))
    return read_frames(output)


def test_a_bound_prompt_comes_back_with_its_owned_tokens_alone_different_between_blocks(bound):
    contexts = load_bound_prompt(bound).contexts
    assert contexts.shape == (4, 1, 16, 96)
    differ = (contexts[0] != contexts[3]).any(-1)[0]
    assert differ.nonzero().flatten().tolist() == [1, 4]


def test_another_file_is_no_bound_prompt(bound, tiny_model, tmp_path):
    other = tiny_model / "vae" / "diffusion_pytorch_model.safetensors"
    for path in (other, tiny_model / "vae" / "config.json", tmp_path / "none.safetensors"):
        with pytest.raises(InputError, match=f"{path.name}: not a bound prompt"):
            rendered(path, tiny_model, tmp_path / "a.png")
    with pytest.raises(InputError, match="no such manifest of weights"):
        settings, outputs = RenderSettings(**SETTINGS), (tmp_path / "a.png", tmp_path / "a.json")
        render(settings, bound, ["a.json"], "b.json", *outputs, Compute(device="cpu"))


def test_a_seed_means_the_same_picture_and_another_seed_another(bound, tiny_model, tmp_path):
    first = rendered(bound, tiny_model, tmp_path / "a.png", frames=1)
    assert first.shape == (1, 32, 48, 3)
    assert np.array_equal(first, rendered(bound, tiny_model, tmp_path / "b.png", frames=1))
    assert not np.array_equal(first, rendered(bound, tiny_model, tmp_path / "c.png", frames=1, seed=4))


def test_tiles_change_pixels_a_little(bound, tiny_model, tmp_path):
    """On a picture that is larger than one tile; smaller ones are the same to the bit."""
    small, large = {"frames": 1}, {"frames": 1, "height": 320, "width": 320, "steps": 1}
    for name, size in (("small", small), ("large", large)):
        plain = rendered(bound, tiny_model, tmp_path / f"{name}.png", **size).astype(int)
        tiled = rendered(bound, tiny_model, tmp_path / f"{name}_tiled.png", **size, vae_tiling=True).astype(int)
        assert (plain != tiled).any() == (name == "large")
        assert np.abs(plain - tiled).mean() < 0.1 * plain.std()


def test_a_video_has_its_frames_and_leaves_nothing_beside_it(bound, tiny_model, tmp_path):
    assert rendered(bound, tiny_model, tmp_path / "out" / "a.mp4").shape == (5, 32, 48, 3)
    forget(tmp_path)
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"a.mp4", "a.mp4.json", ".runs/a.mp4/lock"}


def test_a_decoding_that_fails_keeps_the_latents_and_the_next_call_does_not_sample_again(
    bound, tiny_model, tmp_path, monkeypatch
):
    def fail(*_arguments):
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr("bico.render.render.decode_video", fail)
        rendered(bound, tiny_model, tmp_path / "a.png", frames=1)
    monkeypatch.setattr("bico.render.render._denoise", fail)
    resumed = rendered(bound, tiny_model, tmp_path / "a.png", frames=1)
    monkeypatch.undo()
    assert np.array_equal(resumed, rendered(bound, tiny_model, tmp_path / "b.png", frames=1))


def test_a_rendering_that_is_told_to_stop_goes_on_where_it_was_to_the_same_picture(bound, tiny_model, tmp_path):
    whole, asked = rendered(bound, tiny_model, tmp_path / "whole.png", frames=1, steps=6), []

    def stop_at_the_second_step(*call):
        asked.append(call)
        if len(asked) == 4:  # twice a step: guidance
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(*call)

    forward = BlockwiseTransformer.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockwiseTransformer, "forward", stop_at_the_second_step)
        with pytest.raises(Stopped):
            rendered(bound, tiny_model, tmp_path / "a.png", frames=1, steps=6)
        assert not (tmp_path / "a.png").exists()
        assert np.array_equal(whole, rendered(bound, tiny_model, tmp_path / "a.png", frames=1, steps=6))
    assert len(asked) == 2 * 6


def test_sampling_integrates_a_known_flow_exactly():
    """The velocity of straight paths, eps - x_0, is constant: Euler ends at x_0, whatever the steps and the shift."""
    x_0, noise = torch.randn(2, 1, 2, 1, 2, 2)
    for steps, shift in ((1, 5), (7, 3), (50, 1)):
        *_, latents = sample(lambda *_: noise - x_0, noise, None, None, steps, shift, 1.0)
        torch.testing.assert_close(latents, x_0, atol=1e-5, rtol=0)


def test_guidance_extrapolates_from_the_negative_prompt_and_is_skipped_at_1():
    asked = []

    def predict(latents, _timestep, context):
        asked.append(context)
        return torch.full_like(latents, {"prompt": 3.0, "negative": 1.0}[context])

    start = torch.zeros(1, 1, 1, 1, 1)
    (guided,) = sample(predict, start, "prompt", "negative", 1, 5, 5.0)
    assert guided.item() == pytest.approx(-(1 + 5 * (3 - 1))) and asked == ["prompt", "negative"]
    asked.clear()
    (plain,) = sample(predict, start, "prompt", "negative", 1, 5, 1.0)
    assert plain.item() == pytest.approx(-3) and asked == ["prompt"]


def test_the_velocity_is_asked_at_the_shifted_grid():
    seen = []

    def predict(latents, timestep, _context):
        seen.append(timestep.item())
        return torch.zeros_like(latents)

    list(sample(predict, torch.zeros(1, 1, 1, 1, 1), None, None, 4, 5, 1.0))
    u = np.linspace(1, 0, 5)[:-1]
    np.testing.assert_allclose(seen, 1000 * 5 * u / (1 + 4 * u), rtol=1e-5)
