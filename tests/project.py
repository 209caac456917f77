"""A small project that a test may run: two sources, three compositions, the tiny model."""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from bico.media.video import write_video
from tests import ROOT, forked

CONCEPTS = """concept,source,spatial,temporal
red,media/red.png,a red square; a grey wall,
slide,media/slide.mp4,a blue square,slides to the right
"""
COMPOSITIONS = """composition,prompt,seeds,steps,frames
both,[A red square](red) [slides to the right](slide) in the snow.,0,2,
still,[A red square](red) alone.,0,2,1
free,Only free words.,0,2,
"""
MODEL = {"height": 32, "width": 48, "frames": 9, "text_length": 64, "negative_prompt": "模糊", "steps": 2}
CONFIG = {
    "model": "model.yaml",
    "prompts": {"writer": "template", "count": 3},
    "report": {"unbound": False},
    "evaluation": {"metrics": []},
    "training": {
        "iterations": 4,
        "validations": 1,
        "learning_rate": 0.001,
        "batch_size_frames": 2,
        "batch_size_clips": 2,
    },
}


def clean_environment() -> dict[str, str]:
    """As a person's, who has activated the virtual environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONPATH"))}
    return clean | {"PATH": f"{Path(sys.executable).parent}:{clean['PATH']}"}


PLANNING = (
    "snakemake.cli", "snakemake.report.html_reporter",
    "av", "ffmpeg", "ftfy", "imageio_ffmpeg", "jinja2", "jsonschema", "numpy", "pandas", "PIL.Image", "PIL.ImageOps",
    "requests", "safetensors", "smart_open", "tokenizers", "tqdm", "yaml", "yte",
)  # fmt: skip
COMPUTING = (
    "torch",
    "accelerate",
    "diffusers.models.autoencoders.autoencoder_kl_wan",
    "diffusers.models.transformers",
    "diffusers.schedulers",
    "transformers",
    "transformers.models.umt5.modeling_umt5",
    "matplotlib.pyplot",
)


@cache
def _forking(modules: tuple[str, ...]) -> str:
    """The socket of a server that tests/forked.py describes; one for all tests."""
    folder = tempfile.mkdtemp()
    socket = str(Path(folder, "socket"))
    command = [sys.executable, ROOT / "tests" / "forked.py", socket, *modules]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Snakemake gives every job here one thread, by the environment, which torch reads as it is imported.
    server = subprocess.Popen(command, env=clean_environment() | {"OMP_NUM_THREADS": "1"}, **pipes)
    assert server.stdout.readline() == "ready\n"

    def end() -> None:
        server.communicate()
        shutil.rmtree(folder)

    atexit.register(end)
    return socket


@cache
def _forked_jobs() -> dict[str, str]:
    """The environment in which `python` is a fork."""
    socket = _forking(COMPUTING)
    folder = Path(socket).parent
    forked.write_shim(str(folder / "python"))
    return {forked.ADDRESS: socket, "PATH": f"{folder}:{clean_environment()['PATH']}"}


SNAKEMAKE = "import runpy; runpy.run_module('snakemake', run_name='__main__', alter_sys=True)"


def python(code: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """What `python -c` does in the folder, and each `python` that it starts; what is large is imported once for all."""
    environment = clean_environment() | _forked_jobs() | environment
    with tempfile.TemporaryFile() as nothing, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        files = [each.fileno() for each in (nothing, stdout, stderr)]
        status = forked.ask(_forking(PLANNING), ["-c", code, *arguments], environment, str(folder), files)
        said = [(each.seek(0), each.read().decode())[1] for each in (stdout, stderr)]
    return subprocess.CompletedProcess(arguments, status, *said)


def snakemake(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return python(SNAKEMAKE, folder, "--cores", "2", "--nocolor", *arguments, **environment)


def succeed(folder: Path, *arguments: str, **environment: str) -> str:
    done = snakemake(folder, *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned_jobs(folder: Path, *arguments: str, **environment: str) -> set[str]:
    """The jobs that a dry run plans, as `rule` or `rule:wildcard values`, less `all`."""
    output = succeed(folder, "--dry-run", *arguments, **environment)
    jobs = set()
    for block in re.split(r"\n\[.*\]\n", output)[1:]:
        name = re.match(r"(?:local)?rule (\w+):", block)
        wildcards = re.search(r"wildcards: (.*)", block)
        if name and name[1] != "all":
            values = [pair.split("=")[1] for pair in wildcards[1].split(", ")] if wildcards else []
            jobs.add(":".join([name[1], *dict.fromkeys(values)]))
    return jobs


def make_project(folder: Path, tiny_model: Path, with_weights: bool = True) -> None:
    """Copies the workflow into `folder`, beside a small manifest and a model file of the tiny model; makes its
    weights' manifests, if it is to have its weights."""
    for name in ("workflow", "scripts", "bico"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "environment.yml", folder)
    (folder / "media").mkdir()
    (folder / "config").mkdir()
    Image.new("RGB", (64, 48), "red").save(folder / "media" / "red.png")
    frames = np.full((12, 40, 64, 3), 90, np.uint8)
    for i, frame in enumerate(frames):
        frame[10:30, 2 * i : 2 * i + 16] = (20, 40, 220)
    write_video(folder / "media" / "slide.mp4", frames, 15)
    content = yaml.safe_load((ROOT / "config" / "models" / "tiny.yaml").read_text("utf-8"))
    content["components"] = {name: {"path": str(tiny_model / name)} for name in content["components"]}
    (folder / "model.yaml").write_text(yaml.safe_dump(content | MODEL, allow_unicode=True), "utf-8")
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(CONFIG), "utf-8")
    (folder / "config" / "concepts.csv").write_text(CONCEPTS, "utf-8")
    (folder / "config" / "compositions.csv").write_text(COMPOSITIONS, "utf-8")
    if with_weights:
        _take_weights(folder)


def _take_weights(folder: Path) -> None:
    """All components, also those that only some tests ask for."""
    take = [sys.executable, "scripts/weights.py", "--model", "model.yaml"]
    environment = clean_environment() | {"PYTHONPATH": str(folder)}
    subprocess.run(take, cwd=folder, env=environment, check=True, capture_output=True)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def results(folder: Path) -> dict[str, object]:
    """What lies in a results folder, less logs, benchmarks, records and what jobs left for each other, and less what is
    true of one run only."""
    apart, found = ("logs/", "benchmarks/", ".records/", "concepts/.embeds/"), {}
    for path in sorted((folder / "results").rglob("*")):
        name = path.relative_to(folder / "results").as_posix()
        if path.is_file() and not name.startswith(apart) and not _is_of_one_run(path):
            found[name] = _content(path)
    return found


def _is_of_one_run(path: Path) -> bool:
    """The lock of a run; or a part that a killed writer left behind, removed when its file is written much later."""
    if path.name == "lock" and path.parents[1].name == ".runs":
        return True
    return re.fullmatch(r"\..*\.[0-9a-f]{8}\.part\.\w+", path.name) is not None


def _content(path: Path):
    if path.suffix != ".jsonl":
        return path.read_bytes()
    measured = ("steps_per_second", "peak_memory_gb")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key not in measured} for entry in entries]
