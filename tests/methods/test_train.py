import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bico import InputError
from bico.methods.bico.checkpoint import load_binder
from bico.methods.bico.noise import shift_sigma
from bico.methods.bico.train import BindSettings, Compute, _Trainer, train
from bico.models.denoiser import BlockwiseTransformer
from bico.models.devices import Placement
from bico.models.wan import load_transformer, save_embeds
from bico.plan.config import load_config
from bico.report.plots import plot_training
from bico.runtime.runs import forget
from bico.settings.stage import stage_settings
from tests import ROOT

D, N = 96, 4  # of the tiny transformer
FRAMES = 6


def settings(stage: int = 1, data: str = "frames", iterations: int = 8, method: dict | None = None, **training) -> dict:
    batch_size = training.pop("batch_size", 1)
    overlay = {"training": {"iterations": iterations, "validations": 2, **training}, "method": method or {}}
    config = load_config(overlay)
    for name in ("iterations_images", "iterations_frames", "batch_size_frames", "batch_size_clips"):
        del config["training"][name]
    config["training"]["batch_size"] = batch_size
    del config["method"]["kind"]
    return {
        "concept": "test", "stage": stage, "data": data, "training": config["training"], "method": config["method"],
        "shift": 5.0, "text_length": 64, "dtype": "float32",
    }  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_model):
    """Smooth latents, prompts of varied length, and the transformer's manifest."""
    folder = tmp_path_factory.mktemp("inputs")
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(8, 3, 2, 2, generator=generator).repeat_interleave(2, 2).repeat_interleave(2, 3)
    frames = torch.randn(FRAMES, 8, 1, 4, 4, generator=generator)
    save_file({"clip": clip, "frames": frames}, folder / "latents.safetensors")
    save_embeds(
        folder / "spatial.safetensors", [torch.randn(5 + k, 64, generator=generator) for k in range(FRAMES)], "s"
    )
    save_embeds(folder / "prompts.safetensors", [torch.randn(9 - k, 64, generator=generator) for k in range(4)], "p")
    manifest = {"path": str(tiny_model / "transformer"), "files": {}}
    (folder / "transformer.json").write_text(json.dumps(manifest))
    return folder


def run(
    inputs, folder, given: dict, prompts: str = "spatial", start_from=None, compute: Compute | None = None
) -> tuple[dict, list[dict]]:
    """Trains and returns the binder's tensors and the log."""
    files = (inputs / "latents.safetensors", inputs / f"{prompts}.safetensors", [inputs / "transformer.json"])
    outputs = (folder / "binder.safetensors", folder / "log.jsonl")
    train(stage_settings(BindSettings, given), *files, start_from, *outputs, compute or Compute())
    log = [json.loads(line) for line in outputs[1].read_text().splitlines()]
    return load_file(outputs[0]), log


def changed(before: dict, after: dict) -> set[str]:
    return {name for name in after if name not in before or not torch.equal(before[name], after[name])}


def validations(log: list[dict], key: str = "validation") -> list[list[float]]:
    return [list(entry[key].values()) for entry in log if key in entry]


def test_training_lowers_the_validation_loss_below_the_unbound_bases_at_every_quantile(inputs, tmp_path):
    _, log = run(inputs, tmp_path, settings(data="clip", iterations=60, learning_rate=3e-3), "prompts")
    (base,), bound = validations(log, "validation_base"), validations(log)
    assert bound[0] == base
    assert all(after < before for after, before in zip(bound[-1], base, strict=True))
    plot_training(tmp_path / "plot.png", log, "a title")
    assert Image.open(tmp_path / "plot.png").width > 1000


def test_the_log_has_every_step_once_with_all_its_figures(inputs, tmp_path):
    _, log = run(inputs, tmp_path, settings(method={"warmup_steps": 3}))
    steps = [entry for entry in log if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(8))
    assert [entry["phase"] for entry in steps] == [1, 1, 1, 2, 2, 2, 2, 2]
    assert [entry["learning_rate"] for entry in steps] == pytest.approx([1e-4 / 3] * 3 + [1e-4] * 5)
    for entry in steps:
        assert entry["gradient_norm"] > 0 and entry["steps_per_second"] > 0 and entry["peak_memory_gb"] > 0
        assert len(entry["gamma_blocks"]) == N
    assert [entry["step"] for entry in log if "validation" in entry] == [0, 4, 8]


def test_the_first_loss_is_the_base_models_flow_matching_loss(inputs, tiny_model, tmp_path):
    """The absorbent token starts as the padding it replaces, so step 0 is the base model; computed here anew."""
    given = settings(data="clip", iterations=1, method={"phase1_length": 0})
    _, log = run(inputs, tmp_path, given, "prompts")
    (step,) = [entry for entry in log if "loss" in entry]
    model = BlockwiseTransformer(
        load_transformer(tiny_model / "transformer", Placement(torch.device("cpu"), torch.float32))
    )
    x_0 = load_file(inputs / "latents.safetensors")["clip"][None]
    tensors = load_file(inputs / "prompts.safetensors")
    prompt = np.random.default_rng([0, 1, 0]).permutation(4)[0]
    e = torch.zeros(1, 64, 64)
    e[0, : tensors["lengths"][prompt]] = tensors["embeds"].split(tensors["lengths"].tolist())[prompt]
    seed = np.random.SeedSequence((0, 2, 0)).generate_state(1, np.uint64)[0] >> 1
    generator = torch.Generator().manual_seed(int(seed))
    u = 1 - int(torch.rand(1, generator=generator) * 1000) / 1000
    noise = torch.randn(x_0.shape[1:], generator=generator)[None]
    s = shift_sigma(u, 5)
    with torch.no_grad():
        contexts = model.project(e)[0].expand(N, 1, 64, D)
        velocity = model((1 - s) * x_0 + s * noise, torch.tensor([1000 * s], dtype=torch.float32), contexts)
    assert step["sigma"] == pytest.approx(s)
    assert step["loss"] == pytest.approx((velocity - (noise - x_0)).square().mean().item(), rel=1e-5)


def test_phase_1_trains_the_global_binder_and_the_absorbent_token_alone(inputs, tmp_path):
    untouched, _ = run(inputs, tmp_path / "a", settings(iterations=1, learning_rate=1e-12, method={"phase1_length": 1}))
    trained, log = run(inputs, tmp_path / "b", settings(iterations=8, method={"phase1_length": 1}))
    assert all(name.startswith(("global_binder", "absorbent")) for name in changed(untouched, trained))
    assert {"global_binder.gamma", "absorbent"} <= changed(untouched, trained)
    assert {entry["phase"] for entry in log if "loss" in entry} == {1}


def test_phase_1_draws_high_noise_and_phase_2_does_not(inputs, tmp_path):
    _, log = run(inputs, tmp_path, settings(iterations=60, method={"phase1_length": 0.5, "beta": 1.0}))
    sigmas = [entry["sigma"] for entry in log if "loss" in entry]
    assert min(sigmas[:30]) >= shift_sigma(0.875, 5) > min(sigmas[30:])


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(inputs, tmp_path):
    first, _ = run(inputs, tmp_path / "a", settings())
    second, _ = run(inputs, tmp_path / "b", settings())
    other, _ = run(inputs, tmp_path / "c", settings(seed=1))
    assert not changed(first, second) and changed(first, other)


def test_stage_2_starts_from_stage_1_exactly_and_trains_its_new_branch(inputs, tmp_path):
    one = settings(data="frames", iterations=12, learning_rate=1e-3)
    stage1, _ = run(inputs, tmp_path / "1", one)
    given = settings(stage=2, data="clip", iterations=8, method={"phase1_length": 0})
    start = tmp_path / "1" / "binder.safetensors"
    stage2, log = run(inputs, tmp_path / "2", given, "prompts", start)
    # Identical predictions at step 0: stage 1's binder on stage 2's data gives stage 2's first validation losses.
    frozen = settings(stage=1, data="clip", iterations=1)
    alone = validation_of(inputs, frozen, start)
    assert validations(log)[0] == alone
    new = {name for name in stage2 if ".temporal." in name or ".gate." in name}
    assert new and all(stage2[name].any() for name in new if ".gate.1." in name)
    binder, header = load_binder(tmp_path / "2" / "binder.safetensors", D, N)
    assert binder.spec.dual and header["stage"] == 2
    assert torch.equal(binder.absorbent.data, stage2["absorbent"]) and "absorbent" in changed(stage1, stage2)


def validation_of(inputs, given: dict, start) -> list[float]:
    """The validation loss of a stage-1 binder, through the training code's own validation."""
    from accelerate import Accelerator

    from bico.methods.bico.train import _load_examples, _read_media, _read_prompts

    folder = json.loads((inputs / "transformer.json").read_text())["path"]
    cpu = torch.device("cpu")
    model = BlockwiseTransformer(load_transformer(folder, Placement(cpu, torch.float32)))
    prompts, given = inputs / "prompts.safetensors", stage_settings(BindSettings, given)
    embeds = _read_prompts(given, prompts)
    media = _read_media(given, inputs / "latents.safetensors", prompts, embeds)
    examples = _load_examples(given, media, embeds, model, cpu)
    binder, _ = load_binder(start, D, N)
    return list(_Trainer(given, model, examples, binder, Accelerator(cpu=True), cpu).validation_loss().values())


@pytest.mark.parametrize(
    ("method", "shape"),
    [
        ({"absorbent": "none"}, (0, D)),
        ({"absorbent": "end_of_text"}, (1, D)),
        ({"absorbent_tokens": 3}, (3, D)),
        ({"per_block": False}, (1, D)),
        ({"inner_width": 24}, (1, D)),
        ({"diversified": False}, (1, D)),
        ({"preset": "released"}, (1, D)),
        ({"phase1_noise": "uniform", "loss_weight": "bell"}, (1, D)),
    ],
)
def test_every_switch_trains(inputs, tmp_path, method, shape):
    tensors, log = run(inputs, tmp_path, settings(iterations=5, method=method))
    assert tensors["absorbent"].shape == shape
    assert any(name.startswith("block_binders") for name in tensors) == method.get("per_block", True)
    assert all(np.isfinite(entry["loss"]) for entry in log if "loss" in entry)


def test_a_narrow_binder_is_narrow_and_loads_again(inputs, tmp_path):
    tensors, _ = run(inputs, tmp_path, settings(iterations=2, method={"inner_width": 24}))
    assert any(24 in tensor.shape for tensor in tensors.values())
    binder, _ = load_binder(tmp_path / "binder.safetensors", D, N)
    assert binder.spec.inner_width == 24 and not changed(tensors, binder.state_dict())


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b""])
def test_training_goes_on_from_the_checkpoint_before_a_damaged_one_to_the_same_bits(inputs, tmp_path, damage):
    given, often = settings(iterations=6), Compute(device="cpu", checkpoint_minutes=0)
    whole, _ = run(inputs, tmp_path / "whole", given)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("bico.methods.bico.train.save_binder", interrupt)
        run(inputs, tmp_path / "damaged", given, compute=often)
    (checkpoint,) = tmp_path.glob("damaged/.runs/*/*/checkpoint.safetensors")
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    resumed, log = run(inputs, tmp_path / "damaged", given)
    assert not changed(whole, resumed)
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(6))


def test_without_diversified_prompts_only_the_first_is_seen(inputs, tmp_path):
    tensors = load_file(inputs / "prompts.safetensors")
    first = tensors["embeds"][: tensors["lengths"][0]]
    others = inputs / "first.safetensors"
    save_embeds(others, [first, *(torch.zeros(3, 64) for _ in range(3))], "f")
    given = settings(data="clip", method={"diversified": False})
    a, _ = run(inputs, tmp_path / "a", given, "prompts")
    b, _ = run(inputs, tmp_path / "b", given, "first")
    assert not changed(a, b)


def test_a_batch_of_frames_is_the_mean_of_its_examples(inputs, tmp_path):
    _, log = run(inputs, tmp_path / "a", settings(iterations=1, batch_size=3, method={"phase1_length": 1}))
    _, single = run(inputs, tmp_path / "b", settings(iterations=3, learning_rate=1e-12, method={"phase1_length": 1}))
    losses = [entry["loss"] for entry in single if "loss" in entry]
    assert next(entry["loss"] for entry in log if "loss" in entry) == pytest.approx(np.mean(losses), rel=1e-5)


def test_frames_and_spatial_prompts_that_differ_in_number_are_refused(inputs, tmp_path):
    with pytest.raises(InputError, match="4 prompts for 6 frames"):
        run(inputs, tmp_path, settings(), "prompts")


def command(inputs, folder, given: dict) -> list[str]:
    arguments = {
        "latents": inputs / "latents.safetensors", "prompts": inputs / "spatial.safetensors",
        "transformer": inputs / "transformer.json", "output": folder / "binder.safetensors",
        "log": folder / "log.jsonl", "settings": json.dumps(given), "device": "cpu",
    }  # fmt: skip
    flat = [str(part) for name, value in arguments.items() for part in (f"--{name}", value)]
    return [str(ROOT / "scripts" / "bind.py"), *flat]


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    """The tensors of a run that nobody stops."""
    return run(inputs, tmp_path_factory.mktemp("undisturbed"), settings(iterations=150))[0]


@pytest.mark.parametrize(
    ("number", "status", "minutes"),
    [(signal.SIGKILL, -signal.SIGKILL, 1e-9), (signal.SIGTERM, 75, 60), (signal.SIGINT, 75, 60)],
)
def test_a_run_killed_and_started_again_ends_with_the_same_bits_and_a_log_without_gaps(
    inputs, undisturbed, tmp_path, number, status, minutes
):
    """SIGKILL finds the last checkpoint; SIGTERM and SIGINT make one."""
    given = settings(iterations=150)
    killed = tmp_path / "killed"
    compute = json.dumps({"checkpoint_minutes": minutes})
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "BICO_COMPUTE": compute}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # sums in another order have other bits
    process = subprocess.Popen([sys.executable, *command(inputs, killed, given)], env=environment)
    deadline = time.monotonic() + 120
    begun = "checkpoint.safetensors" if number == signal.SIGKILL else "log.jsonl"
    while not [path for path in killed.glob(f".runs/*/*/{begun}") if path.stat().st_size > 4000]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait() == status
    (checkpoint,) = killed.glob(".runs/*/*/checkpoint.safetensors")
    reached = load_file(checkpoint)["done"].item()
    assert 0 < reached < 150 and not (killed / "binder.safetensors").exists()
    resumed, log = run(inputs, killed, given)
    assert not changed(undisturbed, resumed)
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(150))
    assert not list(killed.glob(".runs/*/*/checkpoint.safetensors"))


def test_a_checkpoint_of_other_settings_is_never_resumed_and_goes_with_the_next_finished_run(inputs, tmp_path):
    for learning_rate in (1e-4, 1e-3):
        interrupted = settings(iterations=4, learning_rate=learning_rate)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bico.methods.bico.train.save_binder", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(inputs, tmp_path, interrupted)
    assert len(list((tmp_path / ".runs" / "binder.safetensors").glob("*/"))) == 2
    _, log = run(inputs, tmp_path, settings(iterations=4, learning_rate=2e-3))
    assert next(entry["step"] for entry in log if "loss" in entry) == 0
    forget(tmp_path)
    assert [path.name for path in (tmp_path / ".runs" / "binder.safetensors").iterdir()] == ["lock"]


def test_a_run_killed_before_its_first_checkpoint_begins_anew_with_an_empty_log(inputs, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("bico.methods.bico.train.save_binder", interrupt)
        run(inputs, tmp_path, settings(iterations=4))
    _, log = run(inputs, tmp_path, settings(iterations=4))
    assert [entry["step"] for entry in log] == [0, 0, 0, 1, 2, 2, 3, 4]


def interrupt(*_arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("absorbent", "tokens", "fits"), [("appended", 55, 54), ("end_of_text", 56, 55)])
def test_prompts_that_leave_no_room_for_the_absorbent_tokens_are_named(inputs, absorbent, tokens, fits):
    """The longest has 10 tokens of 64; one absorbent token may stand in the place of end-of-text."""
    from bico.methods.bico.train import _read_prompts

    prompts, method = inputs / "spatial.safetensors", {"absorbent": absorbent}
    with pytest.raises(InputError, match=r"prompt \d of \d: 10 tokens with end-of-text, allowed: at most 9, beside"):
        _read_prompts(stage_settings(BindSettings, settings(method=method | {"absorbent_tokens": tokens})), prompts)
    assert _read_prompts(stage_settings(BindSettings, settings(method=method | {"absorbent_tokens": fits})), prompts)


def two_processes(inputs, folder, given: dict, **options) -> subprocess.Popen:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder.parent)}
    environment["BICO_COMPUTE"] = json.dumps({"device": "cpu", "checkpoint_minutes": 60})
    launched = [sys.executable, "-m", "bico.runtime.launch", "2", *command(inputs, folder, given)]
    return subprocess.Popen(launched, env=environment, stderr=subprocess.PIPE, text=True, **options)


def test_two_processes_told_to_stop_save_together_and_train_on_what_one_process_trains(inputs, tmp_path):
    given = settings(iterations=40, batch_size=2)
    _, alone = run(inputs, tmp_path / "one", given)
    folder = tmp_path / "two"
    first = two_processes(inputs, folder, given, start_new_session=True)
    deadline = time.monotonic() + 120
    while not [path for path in folder.glob(".runs/*/*/log.jsonl") if path.stat().st_size > 4000]:
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    assert first.wait(120) != 0
    (checkpoint,) = folder.glob(".runs/*/*/checkpoint.safetensors")
    log = checkpoint.with_name("log.jsonl").read_text().splitlines()
    assert 0 < load_file(checkpoint)["done"].item() == sum('"loss"' in line for line in log) < 40
    again = two_processes(inputs, folder, given)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0 and "resuming at step" in said
    both = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    ours, theirs = ([entry for entry in log if "loss" in entry] for log in (alone, both))
    assert [entry["step"] for entry in theirs] == list(range(40))
    assert [entry["sigma"] for entry in theirs] == [entry["sigma"] for entry in ours]
    losses = [[entry["loss"] for entry in steps] for steps in (ours, theirs)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[1][:6] == pytest.approx(losses[0][:6], rel=1e-5)


def test_a_batch_that_two_processes_cannot_share_is_refused():
    given, two = stage_settings(BindSettings, settings(batch_size=3)), SimpleNamespace(num_processes=2)
    with pytest.raises(InputError, match="a batch of 3 cannot be split over 2 processes"):
        _Trainer(given, None, None, None, two, torch.device("cpu"))
