"""The world's own workflow: what a change trains, evaluates and publishes anew. Plans only; nothing is trained."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.project import edit, planned_jobs, succeed

MODELS = ("vae", "vlm", "transformer")
EVALUATED = {f"evaluate:{model}" for model in MODELS} | {"publish"}
EVERYTHING = {"vae_or_vlm:vae", "vae_or_vlm:vlm", "transformer"} | EVALUATED


# In the place of the scripts that train, evaluate and publish for hours: writes what was to be written.
WRITES = """import sys
from pathlib import Path
given = dict(zip(sys.argv, sys.argv[1:]))
for name in ("--log", "--report"):
    if name in given:
        Path(given[name]).touch()
if "--output" in given:
    Path(given["--output"]).mkdir(parents=True, exist_ok=True)
    (Path(given["--output"]) / "README.md").touch()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A copy of the workflow, run to its end."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("bico", "toyworld"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    for name in ("train", "evaluate", "publish"):
        (folder / "toyworld" / "scripts" / f"{name}.py").write_text(WRITES)
    succeed(folder, "--snakefile", "toyworld/workflow/Snakefile")
    return folder


@pytest.fixture
def finished(run, tmp_path) -> Path:
    """A copy of the finished run that a test may change; dates are kept."""
    shutil.copytree(run, tmp_path / "project")
    return tmp_path / "project"


def planned(folder: Path, **config) -> set[str]:
    given = [f"{name}={json.dumps(value)}" for name, value in config.items()]
    options = ["--config", *given] if given else []
    return planned_jobs(folder, "--snakefile", "toyworld/workflow/Snakefile", *options)


def test_how_the_machine_is_used_trains_nothing_anew(finished):
    assert planned(finished) == set()
    assert planned(finished, workers={"vae": 3, "transformer": 3}, minutes=150, device="cpu", compile=False) == set()


def test_settings_train_their_model_and_what_is_made_with_it(finished):
    of_the_vlm = {"vae_or_vlm:vlm", "evaluate:vlm", "publish"}
    assert planned(finished, settings={"vlm": {"steps": 7}}) == of_the_vlm
    assert planned(finished, settings={"vae": {"kl": 1}}) == EVERYTHING - {"vae_or_vlm:vlm"}


def test_another_count_or_oracle_only_evaluates(finished):
    assert planned(finished, count=7) == EVALUATED
    edit(finished / "toyworld" / "oracle.py", "import numpy as np\n", "import numpy as np\n\nANOTHER = 1\n")
    assert planned(finished) == EVALUATED


def test_the_code_of_training_trains_anew(finished):
    edit(finished / "toyworld" / "training" / "loop.py", "_LOG_EVERY = 20", "_LOG_EVERY = 10")
    assert planned(finished) == EVERYTHING


@pytest.mark.parametrize("model", ["vae", "vlm"])
def test_the_training_script_finds_its_model_and_refuses_a_setting_that_it_does_not_have(tmp_path, model):
    script = ROOT / "toyworld" / "scripts" / "train.py"
    given = ["--output", tmp_path / "model", "--log", tmp_path / "log.jsonl", "--settings", '{"nonsense": 1}']
    command = [sys.executable, script, model, *given, "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: no such setting: nonsense\n")
