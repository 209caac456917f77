"""Killed at random moments, the workflow ends with the files of an undisturbed run."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from tests.project import COMPOSITIONS, CONFIG, clean_environment, make_project, results, snakemake, succeed

STAGES = (
    "trim", "frames", "concepts", "prompts", "encode_latents", "encode_prompts", "bind", "bind again",
    "plot_training", "compose", "render", "sheet", "page",
)  # fmt: skip
# What long work has saved, so that there is something to go on from, and what its log says when it does.
SAVED = {
    "prompts": "concepts/*/.runs/*/*/prompts.jsonl",
    "bind": "bico/binders/*/.runs/stage1.safetensors/*/checkpoint.safetensors",
    "bind again": "bico/binders/*/.runs/stage2.safetensors/*/checkpoint.safetensors",
    "render": "bico/compositions/*/.runs/*/*/latents.safetensors",
}
RESUMED = {
    "*prompts": "going on with prompt",
    "bind_stage1": "resuming at step",
    "bind_stage2": "resuming at step",
    "render": "going on at step",
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_model) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "project"
    folder.mkdir()
    make_project(folder, tiny_model)
    config = CONFIG | {"compute": {"device": "cpu", "checkpoint_minutes": 1e-6}}
    config["training"] = config["training"] | {"iterations": 60}
    config["prompts"] = {"writer": "vlm", "count": 30, "max_new_tokens": 12, "attempts": 0}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "config" / "compositions.csv").write_text(COMPOSITIONS.replace(",0,2,", ",0,12,"))
    shutil.copytree(folder, folder.parent / "fresh")
    succeed(folder)
    return folder


def running(group: int) -> set[str]:
    """The stages whose scripts processes of a process group run now."""
    stages = set()
    for process in processes_of(group):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            words = (process / "cmdline").read_bytes().decode().split("\0")
            scripts = {Path(word).stem for word in words if re.search(r"/scripts/\w+\.py$", word)}
            goes_on = "--start-from" in words and not words[words.index("--start-from") + 1].startswith("--")
            stages |= {f"{script} again" if goes_on else script for script in scripts}
    return stages


def durations(folder: Path) -> dict[str, float]:
    """Seconds that the shortest job of each stage took."""
    rules = {"bind_stage1": "bind", "bind_stage2": "bind again", "spatial_prompts": "prompts"}
    taken = {}
    for path in (folder / "results" / "benchmarks").glob("*/*.tsv"):
        stage = rules.get(path.parent.name, path.parent.name)
        seconds = float(path.read_text().splitlines()[1].split("\t")[0])
        taken[stage] = min(seconds, taken.get(stage, seconds))
    return taken


@contextlib.contextmanager
def started(folder: Path, *targets: str) -> Iterator[subprocess.Popen]:
    """The workflow at work, in a process group of its own that ends with the block; it speaks to screen.txt."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--nocolor", *targets]
    options = {"cwd": folder, "env": clean_environment(), "start_new_session": True, "preexec_fn": _mind_ctrl_c}
    with (folder / "screen.txt").open("w") as screen:
        workflow = subprocess.Popen(command, stdout=screen, stderr=subprocess.STDOUT, **options)
    try:
        yield workflow
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(workflow.pid, signal.SIGKILL)
        workflow.wait()


def _mind_ctrl_c() -> None:
    """A shell's background jobs, as these tests may be, are born to ignore it, and so would be what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def saved(stage: str, folder: Path) -> bool:
    """Whether long work has saved something to go on from; other stages have nothing to save."""
    if stage not in SAVED:
        return True
    return any(path.stat().st_size for path in (folder / "results").glob(SAVED[stage]))


def kill_in_one_of(stages: set[str], folder: Path, taken: dict[str, float], chance: random.Random) -> tuple[str, set]:
    """Starts the workflow and kills all of it at a random moment of the first of the stages that begins, or of one
    that begins meanwhile; of long work, when it has saved something. Returns that stage, and what ran at the moment."""
    begun, target, moment = set(), None, time.monotonic() + 300
    with started(folder) as workflow:
        while time.monotonic() < moment:
            assert workflow.poll() is None, f"the workflow ended before {', '.join(stages)}"
            for stage in running(workflow.pid) & stages - begun:
                if not saved(stage, folder):
                    continue
                at = time.monotonic() + chance.uniform(0, 0.1 if stage in SAVED else 0.6 * taken[stage])
                if target is None or at < moment:
                    target, moment = stage, at
                begun.add(stage)
            time.sleep(0.01)
        hit = running(workflow.pid)
    assert target in stages
    succeed(folder, "--unlock")
    return target, hit


def killed(undisturbed: Path, folder: Path, times: dict[str, int], seed: int) -> tuple[set[str], set[str]]:
    """Kills a fresh project so many times in each of the stages, then lets it end; returns all stages that were hit,
    and the rules whose jobs went on from what a killed one had saved. A kill of long work counts only where it left
    something saved: the work may have ended between the decision and the kill."""
    shutil.copytree(undisturbed.parent / "fresh", folder)
    chance, taken, left, hit, resumed = random.Random(seed), durations(undisturbed), dict(times), set(), set()
    while stages := {stage for stage, count in left.items() if count}:
        target, at_that_moment = kill_in_one_of(stages, folder, taken, chance)
        left[target] -= saved(target, folder)
        hit |= at_that_moment
        resumed |= rules_that_resumed(folder)
        print(f"killed in {target}, with {', '.join(sorted(at_that_moment)) or 'nothing'} at work")
    succeed(folder)
    return hit, resumed | rules_that_resumed(folder)


def rules_that_resumed(folder: Path) -> set[str]:
    """As the logs of the last run of each job say."""
    logs = folder / "results" / "logs"
    return {
        rule for rule, said in RESUMED.items() if any(said in log.read_text() for log in logs.glob(f"{rule}/*.log"))
    }


@pytest.mark.kills
def test_a_workflow_killed_in_long_work_goes_on_and_ends_with_the_files_of_an_undisturbed_run(undisturbed, tmp_path):
    _, resumed = killed(undisturbed, tmp_path / "project", dict.fromkeys(SAVED, 1), seed=0)
    assert results(tmp_path / "project") == results(undisturbed)
    assert resumed == set(RESUMED)


@pytest.mark.chaos
def test_a_workflow_killed_twice_in_each_stage_ends_with_the_files_of_an_undisturbed_run(undisturbed, tmp_path):
    times = dict.fromkeys(STAGES, 2)
    assert sum(times.values()) >= 20
    hit, resumed = killed(undisturbed, tmp_path / "project", times, seed=int(os.environ.get("CHAOS_SEED", "1")))
    assert hit >= set(STAGES)
    assert results(tmp_path / "project") == results(undisturbed)
    assert resumed == set(RESUMED)


def train_longer(undisturbed: Path, tmp_path: Path, steps: int) -> tuple[Path, Path]:
    """A copy of the finished project in which all training begins anew, and its folder of binders."""
    folder = tmp_path / "project"
    shutil.copytree(undisturbed, folder)
    config = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    config["training"]["iterations"] = steps
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return folder, folder / "results" / "bico" / "binders"


def wait_for(workflow: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert workflow.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.kills
def test_a_training_that_outlives_its_killed_workflow_is_taken_as_it_was(undisturbed, tmp_path):
    folder, binders = train_longer(undisturbed, tmp_path, 100)
    target = "results/bico/binders/red/stage1.safetensors"
    with started(folder, target) as workflow:
        wait_for(workflow, lambda: list(binders.glob("red/.runs/*/*/log.jsonl")))
        for process in processes_of(workflow.pid):
            if b"snakemake" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        workflow.wait()
        while running(workflow.pid):
            time.sleep(0.05)
    made = (folder / target).stat().st_ino
    succeed(folder, "--unlock")
    succeed(folder, target)
    assert "finished earlier; taken as it is" in (folder / "results/logs/bind_stage1/bico.red.log").read_text()
    assert (folder / target).stat().st_ino == made
    assert "Nothing to be done" in succeed(folder, target)


def processes_of(group: int) -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if os.getpgid(int(process.name)) == group:
                yield process


@pytest.mark.kills
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_workflow_whose_whole_process_group_is_told_to_stop_saves_its_training(undisturbed, tmp_path, number):
    """As a cluster does at a time limit, and a terminal at Ctrl-C."""
    folder, binders = train_longer(undisturbed, tmp_path, 100_000)
    with started(folder) as workflow:
        wait_for(workflow, lambda: list(binders.glob("*/.runs/*/*/log.jsonl")))
        time.sleep(2)
        os.killpg(workflow.pid, number)
        assert workflow.wait(60) != 0 and not running(workflow.pid)
    checkpoints = list(binders.glob("*/.runs/*/*/checkpoint.safetensors"))
    assert checkpoints
    for checkpoint in checkpoints:
        log = checkpoint.with_name("log.jsonl").read_text().splitlines()
        assert load_file(checkpoint)["done"].item() == sum('"loss"' in line for line in log) > 0
    said = "".join(path.read_text() for path in (folder / "results" / "logs" / "bind_stage1").iterdir())
    assert "stopped as asked; everything is saved, the same command goes on from here" in said
    snakemakes = max((folder / ".snakemake" / "log").iterdir(), key=lambda path: path.stat().st_mtime)
    assert "returned non-zero exit status 75" in snakemakes.read_text()
    if number == signal.SIGINT:
        screen = (folder / "screen.txt").read_text()
        assert "Give the same command again to go on from there." in screen
        assert not any(word in screen for word in ("RuleException", "Error in rule", "WorkflowError", "Traceback"))


@pytest.fixture
def small_disk(undisturbed, tmp_path):
    """A fresh project whose results lie on a disk with room for half of them."""
    folder = tmp_path / "project"
    shutil.copytree(undisturbed.parent / "fresh", folder)
    (folder / "results").mkdir(exist_ok=True)
    half = sum(path.stat().st_size for path in (undisturbed / "results").rglob("*") if path.is_file()) // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={half}", "tmpfs", str(folder / "results")]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder / "results")], check=True)


@pytest.mark.kills
def test_a_full_disk_stops_with_a_clear_error_and_no_damaged_file_and_with_room_it_goes_on(undisturbed, small_disk):
    stopped = snakemake(small_disk)
    said = stopped.stdout + stopped.stderr
    assert stopped.returncode != 0
    assert re.search(r"error: results/\S+: disk full; free some space, and run the same command again", said)
    whole, written = results(undisturbed), results(small_disk)
    assert written and all(whole[name] == found for name, found in written.items() if "/.runs/" not in name)
    subprocess.run(["mount", "-o", "remount,size=1g", str(small_disk / "results")], check=True)
    succeed(small_disk)
    assert results(small_disk) == whole


@pytest.mark.kills
def test_a_second_workflow_on_the_same_results_is_refused_and_the_first_one_ends_well(undisturbed, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(undisturbed.parent / "fresh", folder)
    with started(folder) as first:
        while not running(first.pid):
            assert first.poll() is None
            time.sleep(0.05)
        second = snakemake(folder)
        assert second.returncode != 0 and "cannot be locked" in second.stdout + second.stderr
        assert first.wait(300) == 0
    assert results(folder) == results(undisturbed)
