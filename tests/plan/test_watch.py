"""What `bico watch` says of a run."""

import io
import json
import os
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from bico import InputError
from bico.plan.watch import load_plan, picture, stations, time_left, trainings, watch
from tests.project import make_project

BINDERS = Path("results/bico/binders")


@pytest.fixture
def project(tmp_path, tiny_model, monkeypatch):
    make_project(tmp_path, tiny_model, with_weights=False)
    monkeypatch.chdir(tmp_path)
    return load_plan([])


def touch(*paths: str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def journal(concept: str, stage: int, *entries: dict) -> Path:
    path = BINDERS / concept / ".runs" / f"stage{stage}.safetensors" / "abc" / "log.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def shown(plan) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(picture(plan))
    return console.export_text()


def test_the_stations_are_counted_by_the_files_that_are_there(project):
    assert {station.name: (station.done, station.total) for station in stations(project)} == {
        "clips": (0, 2), "latents": (0, 2), "embeds": (0, 3), "trainings": (0, 3), "results": (0, 3), "page": (0, 1),
    }  # fmt: skip
    touch(
        "results/concepts/red/red.png",
        "results/bico/compositions/still/seed0.png",
        f"{BINDERS}/slide/stage1.safetensors",
    )
    counted = {station.name: station.done for station in stations(project)}
    assert counted == {"clips": 1, "latents": 0, "embeds": 0, "trainings": 1, "results": 1, "page": 0}


def test_a_training_s_step_loss_speed_and_time_left_are_its_journal_s(project):
    steps = [{"step": k, "loss": 1.5 - k / 4, "steps_per_second": 0.5} for k in range(2)]
    journal("slide", 1, {"step": 0, "validation": {}}, *steps)
    (training,) = trainings(project)
    assert (training.name, training.step, training.steps, training.loss) == ("slide, stage 1", 2, 4, 1.25)
    assert training.seconds_left == 4.0
    assert "slide, stage 1" in shown(project) and "2 of 4" in shown(project)


def test_a_journal_that_is_cut_off_or_has_no_step_yet_does_not_matter(project):
    path = journal("red", 1, {"step": 0, "validation": {}})
    (training,) = trainings(project)
    assert (training.step, training.loss, training.seconds_left) == (0, None, None)
    path.write_text(json.dumps({"step": 0, "loss": 2.0, "steps_per_second": 1}) + '\n{"step": 1, "lo')
    (training,) = trainings(project)
    assert training.step == 1


def test_what_has_shown_no_life_for_long_is_not_at_work(project):
    path = journal("red", 1, {"step": 0, "loss": 2.0, "steps_per_second": 1})
    os.utime(path, (time.time() - 3600,) * 2)
    assert list(trainings(project)) == [] and "nothing is being trained" in shown(project)


def test_the_time_left_is_that_of_the_jobs_that_are_left_by_what_others_took(project):
    folder = Path("results/benchmarks/render")
    folder.mkdir(parents=True)
    (folder / "bico.still.seed0.png.tsv").write_text("s\th:m:s\n30.0\t0:00:30\n")
    touch(
        "results/bico/compositions/still/seed0.png", "results/concepts/red/red.png", "results/concepts/slide/slide.mp4"
    )
    seconds, unknown = time_left(project)
    assert seconds == 60 and unknown == ["latents", "embeds", "trainings", "page"]
    assert "about 1 min 00 s of jobs left, one after the other; not timed yet: latents" in shown(project)


def test_configuration_files_stand_on_each_other_as_snakemake_has_them(project, tmp_path):
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"results": "elsewhere", "training": {"iterations": 9}}))
    plan = load_plan(["other.yaml"])
    assert plan.config["results"] == "elsewhere"
    assert (plan.config["training"]["iterations"], plan.config["training"]["batch_size_frames"]) == (9, 2)
    with pytest.raises(InputError, match=r"none\.yaml: no such configuration file"):
        load_plan(["none.yaml"])


def test_watching_changes_nothing(project, capsys):
    journal("slide", 1, {"step": 0, "loss": 2.0, "steps_per_second": 1})
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    watch(project, once=True)
    assert "trainings" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
