import logging
import math

import pytest
import torch
from diffusers import WanTransformer3DModel

from bico import InputError
from bico.methods.bico import memory
from bico.methods.bico.binder import BinderSpec, ConceptBinder
from bico.methods.bico.layout import shapes
from bico.methods.bico.memory import Need, cgroup_free, require_memory, training_need
from bico.methods.bico.optimizer import AdamW
from bico.models.denoiser import BlockwiseTransformer
from bico.models.devices import Placement
from bico.models.wan import load_transformer, transformer_bytes
from bico.plan.config import load_config
from tests import RELEASED, ROOT

CPU, GB = torch.device("cpu"), 10**9
CONFIG = {
    "patch_size": (1, 2, 2), "num_attention_heads": 4, "attention_head_dim": 32, "ffn_dim": 512, "num_layers": 4,
    "in_channels": 16, "out_channels": 16, "text_dim": 64, "freq_dim": 256, "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
}  # fmt: skip
WAN_14B = CONFIG | {
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "ffn_dim": 13824,
    "num_layers": 40,
    "text_dim": 4096,
}
CLIP = (1, 16, 21, 60, 104)


def need_of(spec: BinderSpec, config: dict = CONFIG, latents=CLIP, weights: int = 0, batch: int = 1, **options) -> Need:
    options = {"prompts": 60, "text_length": 512, "element": 2, "recomputes": True} | options
    return training_need(config, weights, spec, latents, batch=batch, **options)


@pytest.mark.parametrize("inner", [0, 3])
@pytest.mark.parametrize("dual", [False, True])
def test_all_memory_of_binders_is_there_before_the_first_step_and_as_much_as_was_said(dual, inner):
    spec = BinderSpec(8, 3, dual=dual, inner=inner)
    binder = ConceptBinder(spec)
    optimizer = AdamW(binder.parameters())
    optimizer.zero_grad()
    held = [tensor for p in binder.parameters() for tensor in (p, p.grad, *optimizer.state[p].values())]
    assert sum(t.numel() * t.element_size() for t in held if t.ndim) == need_of(spec).binders


def test_the_weights_of_a_transformer_take_what_was_said():
    folder = RELEASED / "transformer"
    for dtype in (torch.float32, torch.bfloat16):
        loaded = load_transformer(folder, Placement(CPU, dtype))
        assert transformer_bytes(folder, dtype) == sum(p.numel() * p.element_size() for p in loaded.parameters())


def kept_by_a_step(frames: int, recomputes: bool) -> int:
    """Bytes that the graph of a forward pass keeps, weights aside."""
    model, kept = BlockwiseTransformer(WanTransformer3DModel(**CONFIG).requires_grad_(False)), {}
    if recomputes:
        model.transformer.enable_gradient_checkpointing()
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    contexts = torch.randn(4, 1, 8, 128, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.randn(1, 16, frames, 32, 32), torch.tensor([500.0]), contexts)
    return sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in weights)


@pytest.mark.parametrize("frames", [1, 3])
def test_the_estimate_of_activations_is_near_what_a_step_keeps(frames):
    """And the gradients of a block, about as much as it keeps; with gradient checkpointing it is computed anew too."""
    size = {"latents": (1, 16, frames, 32, 32), "text_length": 8, "element": 4}
    plain, inputs = kept_by_a_step(frames, recomputes=False), kept_by_a_step(frames, recomputes=True)
    estimates = [need_of(BinderSpec(128, 4), **size, recomputes=recomputes).activations for recomputes in (False, True)]
    block = plain / CONFIG["num_layers"]
    assert 1 < estimates[0] / (plain + block) < 1.2
    assert 1 < estimates[1] / (inputs + 2 * block) < 1.2


def test_the_binders_of_wan_14b_fit_an_80_gb_card_only_with_the_inner_width_of_its_overlay():
    from yaml import safe_load

    overlay = safe_load((ROOT / "config" / "wan2.1-t2v-14b.yaml").read_text("utf-8"))
    inner = load_config(overlay)["method"]["inner_width"]
    with torch.device("meta"):
        weights = 2 * sum(p.numel() for p in WanTransformer3DModel(**WAN_14B).parameters())
    assert weights == pytest.approx(28.6 * GB, rel=0.01)
    full = need_of(BinderSpec(5120, 40, dual=True), WAN_14B, weights=weights)
    narrow = need_of(BinderSpec(5120, 40, dual=True, inner=inner), WAN_14B, weights=weights)
    assert full.fixed > 97 * GB and narrow.fixed + narrow.activations < 80 * GB


def test_the_binders_of_wan_take_what_their_parameters_on_the_meta_device_do():
    for spec in (BinderSpec(1536, 30, dual=True), BinderSpec(5120, 40, dual=True, inner=1280)):
        with torch.device("meta"):
            binder = ConceptBinder(spec)
        assert sum(p.numel() for p in binder.parameters()) == sum(map(math.prod, shapes(spec).values()))
        assert need_of(spec).binders == 16 * sum(p.numel() for p in binder.parameters())


NEED = Need(weights=5 * GB, binders=4 * GB, examples=GB, activations=6 * GB)


@pytest.mark.parametrize(
    ("free", "offload", "processes", "warned", "refused"),
    [
        (17, False, 1, None, None),
        (15, False, 1, "may not fit: try compute.gradient_checkpointing: true, a smaller batch", None),
        (
            9,
            False,
            1,
            None,
            r"binders .* on cpu, where 9.0 GB are free; a lower method.inner_width",
        ),
        (19, False, 2, None, "where 9.5 GB are free"),
        (4, True, 1, None, "5.0 GB of weights in main memory, where 4.0 GB are free"),
    ],
)
def test_what_cannot_fit_is_refused_before_training_and_what_may_not_is_warned_of(
    monkeypatch, caplog, free, offload, processes, warned, refused
):
    monkeypatch.setattr(memory, "available", lambda device: free * GB)
    caplog.set_level(logging.INFO)
    if refused:
        with pytest.raises(InputError, match=refused):
            require_memory(NEED, CPU, offload, processes, recomputes=False)
    else:
        require_memory(NEED, CPU, offload, processes, recomputes=False)
    assert (
        "about 6.0 GB of activations (an estimate)" in caplog.text
        and f"free on cpu: {free / processes:.1f}" in caplog.text
    )
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert (warned in said[0]) if warned else not said


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_groups_limit_counts_and_its_file_cache_is_free(tmp_path, version):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    memory_line = "4:memory:/job/step" if version == 1 else "0::/job/step"
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"8:pids:/\n{memory_line}\n")
    top = tmp_path / "sys" / "fs" / "cgroup" / ("memory" if version == 1 else "")
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    unlimited = 2**63 - 4096 if version == 1 else "max"
    for group, values in {"job": (1000, 700), "job/step": (unlimited, 600)}.items():
        (top / group).mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, values, strict=True):
            (top / group / name).write_text(f"{value}\n")
        (top / group / "memory.stat").write_text("inactive_file 50\ntotal_inactive_file 50\n")
    assert min(cgroup_free(tmp_path)) == 350


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert list(cgroup_free(tmp_path)) == []
