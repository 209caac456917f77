import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bico.methods.bico.noise import draw_steps, loss_weights, phase_probabilities, shift_sigma, training_sigmas
from bico.render.render import sampling_scheduler
from tests import RELEASED

REFERENCE = load_file(RELEASED / "outputs.safetensors")


@pytest.mark.parametrize("shift", [1, 3, 5, 12.5])
def test_the_grid_is_the_shifted_unit_line_without_its_end(shift):
    u = np.arange(1000, 0, -1) / 1000
    np.testing.assert_allclose(training_sigmas(shift), shift * u / (1 + (shift - 1) * u), rtol=1e-14)


def test_the_grid_and_the_bell_are_the_released_ones():
    sigmas = training_sigmas(5)
    torch.testing.assert_close(sigmas.float(), REFERENCE["train_sigmas"], atol=1e-6, rtol=0)
    torch.testing.assert_close(loss_weights("bell", sigmas).float(), REFERENCE["train_weights"], atol=1e-5, rtol=0)
    assert loss_weights("bell", sigmas).mean().item() == pytest.approx(1)


def test_the_sampling_grid_is_the_released_one():
    scheduler = sampling_scheduler(50, 5)
    torch.testing.assert_close(scheduler.sigmas[:-1].float(), REFERENCE["infer_sigmas_50"], atol=1e-6, rtol=0)
    torch.testing.assert_close(scheduler.timesteps.float(), REFERENCE["infer_timesteps_50"], atol=1e-3, rtol=0)


@pytest.mark.parametrize("shift", [1, 5, 8])
def test_inverted_training_favours_exactly_the_noisiest_eighth(shift):
    p, sigmas = phase_probabilities("inverted", 0.875, 0.875), training_sigmas(shift)
    high = p == p.max()
    assert high.sum() == 125 and high[:125].all()
    assert p[high].sum().item() == pytest.approx(0.875) and p[~high].sum().item() == pytest.approx(0.125)
    assert sigmas[high].min() >= shift_sigma(0.875, shift) >= sigmas[~high].max()
    if shift == 5:
        assert sigmas[high].min().item() == pytest.approx(0.972, abs=1e-3)


def test_the_release_favours_exactly_the_cleanest_eighth_and_then_the_rest():
    phase1, phase2 = (phase_probabilities(draw, 0.875, 0.8) for draw in ("reversed", "remainder"))
    assert phase1[875:].sum().item() == pytest.approx(0.8) and phase2[:875].sum().item() == pytest.approx(0.8)
    assert training_sigmas(5)[875:].max().item() == pytest.approx(0.417, abs=1e-3)


@pytest.mark.parametrize("draw", ["uniform", "inverted", "reversed", "remainder"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.875, 0.8), (0.5, 0.9), (0.2, 0.0), (0.99, 1.0)])
def test_every_phase_is_a_distribution_flat_on_both_sides(draw, alpha, beta):
    p = phase_probabilities(draw, alpha, beta)
    assert p.sum().item() == pytest.approx(1) and (p >= 0).all()
    assert len(p.unique()) == (1 if draw == "uniform" else 2)


@pytest.mark.parametrize("draw", ["uniform", "inverted", "reversed", "remainder"])
def test_the_sampler_draws_what_its_phase_says(draw):
    p = phase_probabilities(draw, 0.875, 0.875)
    index = draw_steps(p, (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    counts = torch.bincount(index, minlength=1000).double() / 200_000
    torch.testing.assert_close(counts, p, atol=1.5e-5, rtol=0)


def test_the_ends_of_the_unit_interval_draw_steps_that_exist():
    p = phase_probabilities("inverted", 0.875, 1.0)
    index = draw_steps(p, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))
    assert (p[index] > 0).all()
