"""The launcher as the rules call it, with real processes and cards that are only names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

SCRIPT = """import os, sys, time
from pathlib import Path
print(os.environ.get("CUDA_VISIBLE_DEVICES"), *sys.argv[1:], flush=True)
while len(sys.argv) > 1 and not Path(sys.argv[1]).exists():
    time.sleep(0.05)
sys.exit(75)
"""


@pytest.fixture
def machine(tmp_path):
    """Starts a script through the launcher on a machine with as many cards as are asked for; ends all at the end."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "bin").mkdir()
    started = []

    def start(count: int, *arguments: str, cards: int = 2, **environment: str) -> subprocess.Popen:
        nvidia_smi = tmp_path / "bin" / "nvidia-smi"
        nvidia_smi.write_text("#!/bin/sh\n" + "".join(f"echo {i}, GPU-abc{i}\n" for i in range(cards)))
        nvidia_smi.chmod(0o755)
        clean = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
        command = [sys.executable, "-m", "bico.runtime.launch", str(count), str(tmp_path / "script.py"), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=clean | environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def shown(process: subprocess.Popen) -> str:
    """The cards that a script sees, as it says when it starts."""
    return process.stdout.readline().split()[0]


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_two_at_once_get_different_cards_and_a_third_waits_until_one_ends(machine, tmp_path):
    first, second = machine(1, str(tmp_path / "end")), machine(1, str(tmp_path / "end"))
    assert {shown(first), shown(second)} == {"0", "1"}
    third = machine(1)
    assert third.stderr.readline() == "waiting for 1 free of the cards 0, 1\n"
    assert third.poll() is None
    (tmp_path / "end").touch()
    assert ended(first)[0] == ended(second)[0] == 75
    code, out, err = ended(third)
    assert (code, out.strip(), err) == (75, "0", "")


def test_a_killed_job_frees_its_cards(machine, tmp_path):
    first = machine(1, str(tmp_path / "end"), cards=1)
    assert shown(first) == "0"
    second = machine(1, cards=1)
    assert "waiting" in second.stderr.readline()
    first.kill()
    assert ended(second)[1].strip() == "0"


def test_only_the_cards_that_are_shown_are_taken_whichever_way_they_are_named(machine, tmp_path):
    first = machine(1, str(tmp_path / "end"), CUDA_VISIBLE_DEVICES="3,5")
    second = machine(1, str(tmp_path / "end"), CUDA_VISIBLE_DEVICES="3,5")
    assert {shown(first), shown(second)} == {"3", "5"}
    third = machine(1, CUDA_VISIBLE_DEVICES="3,7")
    assert ended(third)[1].strip() == "7"
    by_index = machine(1, str(tmp_path / "end"))
    assert shown(by_index) == "0"
    assert ended(machine(1, CUDA_VISIBLE_DEVICES="GPU-abc0,GPU-abc1"))[1].strip() == "GPU-abc1"


def test_a_card_that_the_device_names_is_held_and_the_script_still_counts_from_what_it_was_shown(machine, tmp_path):
    first = machine(1, str(tmp_path / "end"), BICO_COMPUTE='{"device": "cuda:1"}')
    assert shown(first) == "None"
    second = machine(1, str(tmp_path / "end"))
    assert shown(second) == "0"
    assert "waiting for 1 free of the cards 0, 1" in machine(1).stderr.readline()
    assert "found 1 of this machine" in ended(machine(2, BICO_COMPUTE='{"device": "cuda:1"}'))[2]


def test_without_cards_one_job_goes_on_and_several_cards_are_an_error(machine):
    for environment in ({"cards": 0}, {"CUDA_VISIBLE_DEVICES": ""}, {"BICO_COMPUTE": '{"device": "cpu"}'}):
        assert ended(machine(1, **environment))[0] == 75
    code, _, err = ended(machine(2, cards=0))
    assert (code, err) == (1, "error: 2 cards are asked for (compute.gpus), found 0 of this machine\n")
    code, _, err = ended(machine(2, CUDA_VISIBLE_DEVICES="4"))
    assert (code, err) == (1, "error: 2 cards are asked for (compute.gpus), found 1 of CUDA_VISIBLE_DEVICES=4\n")


def test_a_grant_of_a_scheduler_is_believed_and_an_allocation_is_shared(machine, tmp_path):
    grants = [machine(1, str(tmp_path / "end"), CUDA_VISIBLE_DEVICES="0", SLURM_JOB_ID=job) for job in ("7", "8")]
    assert [shown(grant) for grant in grants] == ["0", "0"]
    inside = [machine(1, str(tmp_path / "end"), CUDA_VISIBLE_DEVICES="0,1", SLURM_JOB_ID="9") for _ in range(2)]
    assert {shown(job) for job in inside} == {"0", "1"}


def test_zero_cards_is_the_plain_script_and_the_launcher_is_no_process_of_its_own(machine, tmp_path):
    job = machine(0, str(tmp_path / "end"), "--flag", "a b")
    assert job.stdout.readline().split()[1:] == [str(tmp_path / "end"), "--flag", "a", "b"]
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children")
    assert "bico.runtime.launch" not in Path(f"/proc/{job.pid}/cmdline").read_text()
    assert children.read_text() == ""


def test_a_misuse_says_how_it_is_used(machine, tmp_path):
    done = subprocess.run([sys.executable, "-m", "bico.runtime.launch", "x"], cwd=ROOT, capture_output=True, text=True)
    usage = "usage: python -m bico.runtime.launch COUNT SCRIPT [ARGUMENT ...]"
    assert (done.returncode, done.stderr) == (1, f"error: {usage}\n")


def test_several_processes_on_the_processor_find_each_other(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import accelerate, pathlib; a = accelerate.Accelerator(cpu=True); folder = pathlib.Path(__file__).parent\n"
        "(folder / f'process{a.process_index}').write_text(f'{a.num_processes} {a.device.type}')"
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment["BICO_COMPUTE"] = json.dumps({"device": "cpu"})
    command = [sys.executable, "-m", "bico.runtime.launch", "2", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.read_text() for path in sorted(tmp_path.glob("process*"))] == ["2 cpu", "2 cpu"]
