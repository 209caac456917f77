"""How strongly each word is bound, from a bound prompt of which that is known."""

import numpy as np
import pytest
import torch
from PIL import Image

from bico.render.bound_prompt import save_bound_prompt
from bico.report.strength import plot_strength, strengths

HEADER = {"tokens": ["▁A", "▁red", "▁", "▁runs", "</s>"], "owner": [None, "red", "red", "clip", None]}
SHARES = np.array([[0.1, 0.0, 0.3], [0.5, 0.2, 0.0]])  # blocks x bound tokens


@pytest.fixture(params=[1, 2], ids=["one expert", "two experts"])
def bound(tmp_path, request):
    """Moves each bound token by a known share of its length, in any direction."""
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(request.param, 2, 6, 8, generator=generator)
    rows = torch.tensor([1, 2, 3])
    own = prompts[:, 0, rows].repeat_interleave(2, 0)
    way = torch.nn.functional.normalize(torch.randn(own.shape, generator=generator), dim=-1)
    shares = torch.from_numpy(SHARES).float().repeat(request.param, 1)[..., None]
    moved = own + shares * own.norm(dim=-1, keepdim=True) * way
    save_bound_prompt(tmp_path / "bound.safetensors", prompts, rows, moved, HEADER)
    return tmp_path / "bound.safetensors", np.tile(SHARES, (request.param, 1))


def test_the_strength_is_the_length_of_what_is_added_over_the_token_s_own(bound):
    path, expected = bound
    tokens, owners, shares = strengths(path)
    assert tokens == ["▁red", "▁", "▁runs"] and owners == ["red", "red", "clip"]
    assert shares == pytest.approx(expected, abs=1e-6)


def test_it_is_drawn_with_a_column_for_each_bound_token(bound, tmp_path):
    plot_strength(bound[0], tmp_path / "bound.png")
    with Image.open(tmp_path / "bound.png") as image:
        assert image.width > 400 and image.height > 250
