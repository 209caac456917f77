"""bico.models.denoiser: one transformer or two, from text alone or from conditions too."""

import torch
from diffusers import WanTransformer3DModel

from bico.models.denoiser import BlockwiseTransformer, denoiser

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
    contexts = model.project(embeds)[0].expand(2, -1, -1, -1)
    assert torch.equal(model(latents, time, contexts, conditions), expected)
    assert expected.shape == latents.shape


@torch.no_grad()
def test_each_example_goes_to_the_expert_of_its_time_with_that_ones_own_projection():
    """The first expert is asked from the boundary on up, the second below it, also within one batch."""
    latents, embeds = torch.randn(4, 4, 2, 4, 4), torch.randn(4, 5, 6)
    model = denoiser([transformer(1), transformer(2)], boundary=0.875)
    contexts = model.project(embeds).repeat_interleave(2, 0)
    times, seeds = torch.tensor([1000, 874, 875, 0]), (1, 2, 1, 2)
    velocity = model(latents, times, contexts)
    for k, seed in enumerate(seeds):
        alone = transformer(seed)(latents[[k]], times[[k]], embeds[[k]], return_dict=False)[0]
        assert torch.allclose(velocity[[k]], alone, atol=1e-6)


def test_gradients_reach_the_contexts_of_the_asked_expert_alone():
    model = denoiser([transformer(1), transformer(2)], boundary=0.5)
    contexts = torch.randn(4, 1, 5, 24, requires_grad=True)
    model(torch.randn(1, 4, 2, 4, 4), torch.tensor([499]), contexts).square().sum().backward()
    assert not contexts.grad[:2].any() and contexts.grad[2:].any()
