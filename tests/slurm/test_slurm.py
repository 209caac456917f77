"""The workflow on a real SLURM, through the shipped profile, with all that goes wrong on a cluster in one run of it.

`make test-slurm` runs it beside the cluster that tests/slurm/cluster starts.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from tests.project import COMPOSITIONS, CONFIG, clean_environment, edit, make_project, results, succeed

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(torch.cuda.is_available(), reason="the cluster's cards are only names"),
]
POLLING = ["--slurm-init-seconds-before-status-checks", "4", "--latency-wait", "10"]
# Two and a half gigabytes, long enough for SLURM to notice: more than the job's first 2000 MB, less than a retry's.
GREEDY = "import time\n\nballast = b'x' * 2_500_000_000\ntime.sleep(6)\n\n\ndef main() -> None:\n"


@dataclass
class Story:
    """What happened: the project, what its two clients said, the ids of the jobs that something happened to."""

    project: Path
    said: str
    cancelled: str
    requeued: str
    told: str

    def jobs(self, path: str) -> list[dict[str, str]]:
        """SLURM's record of the jobs of a rule and wildcards, as in the path of their logs, in their order."""
        lines = Path(os.environ["CLUSTER"], "log", "jobs.txt").read_text().splitlines()
        records = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines]
        by_id = {record["JobId"]: record for record in records}
        return [by_id[job] for job in re.findall(rf"SLURM jobid (\d+) \(log: \S+/rule_{path}/\d+\.log", self.said)]

    def log(self, path: str) -> str:
        return (self.project / "results" / "logs" / f"{path}.log").read_text("utf-8")


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_model) -> Path:
    """The small project with two compositions, and enough training to be interrupted."""
    folder = tmp_path_factory.mktemp("slurm") / "project"
    folder.mkdir()
    make_project(folder, tiny_model)
    config = CONFIG | {"training": CONFIG["training"] | {"iterations": 600}, "compute": {"checkpoint_minutes": 0.01}}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    rows = [row for row in COMPOSITIONS.splitlines(keepends=True) if not row.startswith("free")]
    (folder / "config" / "compositions.csv").write_text("".join(rows), "utf-8")
    return folder


@pytest.fixture(scope="module")
def local(small) -> Path:
    """The project, run to its end on this machine, undisturbed."""
    folder = small.with_name("local")
    shutil.copytree(small, folder)
    succeed(folder, "--resources", "gpu=2", PATH=clean_environment()["PATH"])  # its jobs are processes of their own
    return folder


@pytest.fixture(scope="module")
def story(small) -> Story:
    """The project, run to its end on the cluster: a job needs more memory than it has, one is cancelled, one requeued,
    one told that its time is over, and the client is killed."""
    project = small.with_name("cluster")
    shutil.copytree(small, project)
    edit(project / "scripts" / "frames.py", "def main() -> None:\n", GREEDY)
    client = start(project, "first.log")
    try:
        cancelled = running("rule_encode_latents_wildcards_red")
        control("scancel", cancelled)
        requeued = in_training(project, 1, "red")
        control("scontrol", "requeue", requeued)
        told = in_training(project, 1, "slide")
        control("scancel", "--signal=TERM", told)
        left_alone = in_training(project, 2, "slide")
        client.kill()
        client.wait()
        # So that it is still there when the second client's job for the same file comes.
        control("scontrol", "suspend", left_alone)
        assert start(project, "unlock.log", "--unlock").wait(timeout=60) == 0
        client = start(project, "second.log")
        log = project / "results" / "logs" / "bind_stage2" / "bico.slide.log"
        # grep also waits where Snakemake has deleted the first client's log and the job has not begun its own.
        wait_for(lambda: subprocess.run(["grep", "-qs", "another process is at work", log]).returncode == 0)
        control("scontrol", "resume", left_alone)
        status = client.wait(timeout=300)
        said = "".join((project / name).read_text("utf-8") for name in ("first.log", "second.log"))
        assert status == 0, said
    finally:
        client.kill()
        client.wait()
    return Story(project, said, cancelled, requeued, told)


def start(project: Path, log: str, *arguments: str) -> subprocess.Popen:
    """Snakemake, as a user would start it on the login node."""
    command = [sys.executable, "-m", "snakemake", "--nocolor", "--workflow-profile", "workflow/profiles/slurm"]
    with open(project / log, "w") as said:
        options = {"cwd": project, "env": clean_environment(), "stdout": said, "stderr": subprocess.STDOUT}
        return subprocess.Popen([*command, *POLLING, *arguments], **options)


def control(*command: str) -> None:
    subprocess.run(command, check=True)


def wait_for(what, seconds: float = 300):
    """What `what` returns, once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"nothing after {seconds} s"
        time.sleep(0.1)
    return found


def running(comment: str) -> str:
    """The id of the job of a rule and wildcards, when it runs."""

    def job():
        listed = subprocess.run(["squeue", "-h", "-t", "R", "-o", "%k %i"], capture_output=True, text=True).stdout
        return dict(line.split() for line in listed.splitlines()).get(comment)

    return wait_for(job)


def in_training(project: Path, stage: int, concept: str) -> str:
    """The id of the job of a stage of training, when it has saved a checkpoint."""
    job = running(f"rule_bind_stage{stage}_wildcards_bico_{concept}")
    runs = project / "results" / "bico" / "binders" / concept / ".runs"
    wait_for(lambda: list(runs.glob(f"stage{stage}.safetensors/*/checkpoint.safetensors")))
    return job


def test_a_job_out_of_memory_is_tried_again_with_twice_the_memory_and_time(story):
    first, second = story.jobs("frames/slide")
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED")
    assert (first["TimeLimit"], second["TimeLimit"]) == ("30", "60")
    assert "mem=2000M" in first["Tres"] and "mem=4000M" in second["Tres"]


def test_a_cancelled_job_is_submitted_again(story):
    first, second = story.jobs("encode_latents/red")
    assert (first["JobId"], first["JobState"], second["JobState"]) == (story.cancelled, "CANCELLED", "COMPLETED")


def test_a_requeued_training_goes_on_from_its_checkpoint_unnoticed(story):
    (job,) = {record["JobId"] for record in story.jobs("bind_stage1/bico_red")}
    assert job == story.requeued
    assert "resuming at step" in story.log("bind_stage1/bico.red")


def test_a_training_near_its_time_limit_saves_and_its_retry_goes_on(story):
    """It gets the signal that the profile asks SLURM for two minutes before the limit."""
    first, second = story.jobs("bind_stage1/bico_slide")
    assert (first["JobId"], first["JobState"], second["JobState"]) == (story.told, "FAILED", "COMPLETED")
    assert (first["Partition"], first["TimeLimit"], second["TimeLimit"]) == ("gpu", "720", "1440")
    assert "resuming at step" in story.log("bind_stage1/bico.slide")


def test_small_jobs_of_a_rule_are_one_array(story):
    assert re.search(r"Submitted array job with Snakemake IDs \d+,\d+ and SLURM job ID \d+", story.said)


def test_the_cluster_ends_with_the_files_of_a_local_run_although_its_client_was_killed(story, local):
    ours, theirs = results(story.project), results(local)
    assert ours.keys() == theirs.keys()
    assert [path for path in ours if ours[path] != theirs[path]] == []
