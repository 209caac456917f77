"""bico.models.denoiser: one transformer or two, from text alone or from conditions too."""

import pytest
import torch
from diffusers import WanTransformer3DModel

from bico.models.denoiser import BlockwiseTransformer, Experts

SMALL = {
    "num_attention_heads": 2, "attention_head_dim": 12, "out_channels": 4, "text_dim": 6, "freq_dim": 8, "ffn_dim": 32,
    "num_layers": 2, "rope_max_seq_len": 32,
}  # fmt: skip


def transformer(seed: int, in_channels: int = 4) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    return WanTransformer3DModel(in_channels=in_channels, **SMALL).eval()


@torch.no_grad()
def test_conditions_are_further_channels_behind_the_latents():
    latents, conditions, embeds = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 3, 2, 4, 4), torch.randn(1, 5, 6)
    time = torch.tensor([500])
    expected = transformer(0, 7)(torch.cat([latents, conditions], 1), time, embeds, return_dict=False)[0]
    model = BlockwiseTransformer(transformer(0, 7))
    contexts = model.project(embeds).expand(2, -1, -1, -1)
    assert torch.equal(model(latents, time, contexts, conditions), expected)
    assert expected.shape == latents.shape


@torch.no_grad()
def test_the_first_expert_predicts_from_the_boundary_up_and_the_second_below_each_from_its_own_projection():
    latents, embeds = torch.randn(1, 4, 2, 4, 4), torch.randn(1, 5, 6)
    model = Experts(BlockwiseTransformer(transformer(1)), BlockwiseTransformer(transformer(2)), boundary=0.875)
    contexts = [p.expand(2, -1, -1, -1) for p in model.project(embeds)]
    for time, seed in ((1000, 1), (875, 1), (874, 2), (0, 2)):
        alone = transformer(seed)(latents, torch.tensor([time]), embeds, return_dict=False)[0]
        assert torch.equal(model(latents, torch.tensor([time]), contexts), alone)


def test_a_batch_on_both_sides_of_the_boundary_is_refused():
    model = Experts(BlockwiseTransformer(transformer(1)), BlockwiseTransformer(transformer(2)), boundary=0.5)
    with pytest.raises(ValueError, match=r"on both sides of the boundary 0\.5"):
        model(torch.zeros(2, 4, 1, 4, 4), torch.tensor([499, 500]), torch.zeros(2, 2, 2, 5, 24))
