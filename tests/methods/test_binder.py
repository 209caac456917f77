import copy

import pytest
import torch

from bico.methods.bico.binder import Binder, BinderSpec, ConceptBinder

SPEC = BinderSpec(dim=12, blocks=3)
DUAL = BinderSpec(dim=12, blocks=3, dual=True)


def trained(spec: BinderSpec, seed: int = 0) -> ConceptBinder:
    """A binder with every parameter away from its start."""
    torch.manual_seed(seed)
    binder = ConceptBinder(spec)
    with torch.no_grad():
        for parameter in binder.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return binder


def test_a_binder_of_wan_1_3b_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        single = ConceptBinder(BinderSpec(dim=1536, blocks=30))
        dual = ConceptBinder(BinderSpec(dim=1536, blocks=30, dual=True))
    count = lambda module: sum(parameter.numel() for parameter in module.parameters())  # noqa: E731
    assert count(single.global_binder) == 4_727_809
    assert count(single) == pytest.approx(146.6e6, rel=1e-3)
    assert count(dual) == pytest.approx(293.3e6, rel=1e-3)


@pytest.mark.parametrize("spec", [SPEC, DUAL])
def test_an_untrained_binder_is_the_identity_exactly(spec):
    p = torch.randn(5, 12)
    assert torch.equal(Binder(spec)(p), p)


def test_equation_2_in_float64():
    binder, p = trained(SPEC).double().global_binder, torch.randn(4, 12, dtype=torch.float64)

    def norm(x, layer):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias

    first, linear1, _, linear2, last = binder.spatial
    hidden = norm(p, first) @ linear1.weight.T + linear1.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    expected = p + binder.gamma * norm(hidden @ linear2.weight.T + linear2.bias, last)
    torch.testing.assert_close(binder(p), expected)
    torch.testing.assert_close(binder(p, 0.25), p + 0.25 * (expected - p))


def test_equation_3_in_float64():
    binder, p = trained(DUAL).double().global_binder, torch.randn(4, 12, dtype=torch.float64)
    g = torch.tanh(binder.gate(p))
    expected = p + binder.gamma * ((1 - g) * binder.spatial(p) + g * binder.temporal(p))
    torch.testing.assert_close(binder(p), expected)
    assert (g.abs() > 0.01).any()


def test_the_release_weighs_the_spatial_branch_with_a_gate_of_one():
    spec = BinderSpec(dim=12, blocks=1, dual=True, gate="softmax", gate_weighs="spatial")
    binder, p = trained(spec).global_binder, torch.randn(4, 12)
    assert torch.equal(binder.gate_values(p), torch.ones(4, 1))
    torch.testing.assert_close(binder(p), p + binder.gamma * binder.spatial(p))


@pytest.mark.parametrize("start", ["copy", "perturbed", "random"])
def test_stage_2_starts_from_stage_1_exactly(start):
    stage1, stage2 = trained(SPEC), ConceptBinder(DUAL)
    stage2.start_from(stage1, start, torch.Generator().manual_seed(0))
    p = torch.randn(7, 12)
    for before, after in zip(stage1.binders(), stage2.binders(), strict=True):
        assert torch.equal(before(p), after(p))
    assert torch.equal(stage1.absorbent, stage2.absorbent)


def test_the_temporal_branch_and_the_gate_receive_gradients_at_the_first_steps():
    stage2 = ConceptBinder(DUAL)
    stage2.start_from(trained(SPEC), "perturbed", torch.Generator().manual_seed(0))
    optimizer, p, seen = torch.optim.AdamW(stage2.parameters(), lr=1e-4), torch.randn(7, 12), []
    for _ in range(2):
        optimizer.zero_grad()
        sum((binder(p) ** 2).sum() for binder in stage2.binders()).backward()
        seen.append({name for name, value in stage2.named_parameters() if value.grad is not None and value.grad.any()})
        optimizer.step()
    gates = {name for name, _ in stage2.named_parameters() if ".gate.1." in name}
    temporal = {name for name, _ in stage2.named_parameters() if ".temporal." in name}
    assert gates <= seen[0] and temporal <= seen[1]


def test_an_exact_copy_with_a_frozen_spatial_branch_would_never_train():
    """The trap that the perturbation avoids (method.md)."""
    stage2 = ConceptBinder(DUAL)
    stage2.start_from(trained(SPEC), "copy", torch.Generator())
    binder, p = copy.deepcopy(stage2.global_binder), torch.randn(7, 12)
    (binder(p) ** 2).sum().backward()
    assert not any(parameter.grad.any() for parameter in (*binder.temporal.parameters(), *binder.gate.parameters()))
