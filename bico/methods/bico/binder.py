"""The binder: Eq. 2 and Eq. 3 of the paper, and a concept's set of them."""

from dataclasses import replace

import torch
from torch import nn

from bico.methods.bico.layout import BinderSpec


def _mlp(dim: int, inner: int) -> nn.Sequential:
    """MLP(p): [..., D] -> [..., D], through a hidden layer of width `inner`."""
    first, second = nn.Linear(dim, inner), nn.Linear(inner, dim)
    return nn.Sequential(nn.LayerNorm(dim), first, nn.GELU(), second, nn.LayerNorm(dim))


class Binder(nn.Module):
    """Eq. 2: f(p) = p + gamma MLP(p); with two branches, Eq. 3: MLP(p) <- (1 - g(p)) MLP_s(p) + g(p) MLP_t(p).

    gamma is zero at the start, so an untrained binder is the identity, exactly.
    """

    def __init__(self, spec: BinderSpec):
        super().__init__()
        self.spec = spec
        self.spatial = _mlp(spec.dim, spec.inner_width)
        self.gamma = nn.Parameter(torch.zeros(1))
        if spec.dual:
            self.temporal = _mlp(spec.dim, spec.inner_width)
            self.gate = nn.Sequential(nn.LayerNorm(spec.dim), nn.Linear(spec.dim, 1))
            nn.init.zeros_(self.gate[1].weight)
            nn.init.zeros_(self.gate[1].bias)

    def forward(self, p: torch.Tensor, scale: torch.Tensor | float = 1.0) -> torch.Tensor:
        """p: [..., D]; scale: broadcast to [..., 1], multiplies the residual. Returns [..., D]."""
        return p + scale * self.gamma * self.mlp(p)

    def mlp(self, p: torch.Tensor) -> torch.Tensor:
        if not self.spec.dual:
            return self.spatial(p)
        g = self.gate_values(p)
        if self.spec.gate_weighs == "spatial":
            g = 1 - g
        return (1 - g) * self.spatial(p) + g * self.temporal(p)

    def gate_values(self, p: torch.Tensor) -> torch.Tensor:
        """g(p): [..., 1]."""
        logit = self.gate(p)
        return logit.tanh() if self.spec.gate == "zero" else logit.softmax(-1)


class ConceptBinder(nn.Module):
    """All that a concept learns: the global binder f_g, a binder f_l^i for each block, the absorbent tokens [A, D]; the
    same again, `second`, for the second expert of a model of two."""

    def __init__(self, spec: BinderSpec):
        super().__init__()
        self.spec = spec
        self.global_binder = Binder(spec)
        self.block_binders = nn.ModuleList(Binder(spec) for _ in range(spec.block_binders))
        self.absorbent = nn.Parameter(torch.zeros(spec.absorbent, spec.dim))
        self.second = ConceptBinder(replace(spec, experts=1)) if spec.experts == 2 else None

    def experts(self) -> "list[ConceptBinder]":
        """The binders of each of the model's experts."""
        return [self] if self.second is None else [self, self.second]

    @torch.no_grad()
    def start_from(self, stage1: "ConceptBinder", temporal: str, generator: torch.Generator) -> None:
        """Stage 2 from stage 1: gamma, MLP_s and the absorbent tokens are taken over; the gate stays at its start.

        temporal: where MLP_t starts. `copy` of MLP_s; `perturbed`, that copy with Gaussian noise of a tenth of each
        weight matrix's standard deviation, so that the gate has a gradient at once; `random` (release).
        """
        if self.second is not None:
            self.second.start_from(stage1.second, temporal, generator)
        self.absorbent.copy_(stage1.absorbent)
        for mine, theirs in zip(self.binders(), stage1.binders(), strict=True):
            mine.gamma.copy_(theirs.gamma)
            mine.spatial.load_state_dict(theirs.spatial.state_dict())
            if temporal == "random":
                continue
            mine.temporal.load_state_dict(theirs.spatial.state_dict())
            if temporal == "perturbed":
                for weight in (mine.temporal[1].weight, mine.temporal[3].weight):
                    weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=generator)

    def binders(self) -> list[Binder]:
        """The global binder, then each block's."""
        return [self.global_binder, *self.block_binders]
