"""BiCo's switches; schema.yaml says what each means, in the paper and in the release."""

import dataclasses
from dataclasses import dataclass

from bico.methods.bico.layout import BinderSpec


@dataclass(frozen=True)
class Switches:
    gate: str = BinderSpec.gate
    gate_weighs: str = BinderSpec.gate_weighs
    temporal_start: str = "perturbed"
    phase1_noise: str = "inverted"
    phase2_noise: str = "uniform"
    phase1_length: float = 0.4
    phase1_block_binders: str = "frozen"
    alpha: float = 0.875
    beta: float = 0.875
    loss_weight: str = "none"
    warmup_steps: int = 0
    absorbent: str = "appended"
    absorbent_tokens: int = BinderSpec.absorbent
    per_block: bool = BinderSpec.per_block
    inner_width: int = BinderSpec.inner
    diversified: bool = True
    temporal_stage: bool = True


PRESETS = {
    "paper": Switches(),
    "released": Switches(
        gate="softmax",
        gate_weighs="spatial",
        temporal_start="random",
        phase1_noise="reversed",
        phase2_noise="remainder",
        phase1_block_binders="bypassed",
        beta=0.8,
        loss_weight="bell",
        warmup_steps=5,
        absorbent="end_of_text",
    ),
}


def paper() -> dict:
    """The paper's switches."""
    return dataclasses.asdict(PRESETS["paper"])
