"""A wheel, installed where there is no checkout, and used as a library."""

import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from bico.media.video import read_frames
from tests import ROOT

# Ten lines that bind a word, compose and render, without Snakemake.
SCRIPT = """
import sys
from pathlib import Path
from bico.methods.bico.compose import ComposeSettings, compose
from bico.plan.config import load_config
from bico.render.render import RenderSettings, render
models = Path(sys.argv[1])
tokenizer, encoder, transformer, vae = (models / each for each in ("tokenizer", "text_encoder", "transformer", "vae"))
prompt = ComposeSettings("[A dog](rex) in the snow.", negative_prompt="", text_length=64)
compose(prompt, [sys.argv[2]], tokenizer, encoder, [transformer], "bound.safetensors")
video = RenderSettings(seed=0, steps=2, shift=5.0, guidance_scale=4.0, height=32, width=48, frames=5, fps=15)
render(video, "bound.safetensors", [transformer], vae, "dog.mp4", "dog.json")
assert load_config({})["method"]["gate"] == "zero"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment that has the wheel and, by a path, what the wheel depends on; nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".*", "results", "resources", "data", "build", "*.egg-info")
    )
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        source,
    ]
    subprocess.run(build, check=True)
    shutil.rmtree(source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (packages,) = (folder / "venv").glob("lib/*/site-packages")
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, wheel]
    subprocess.run(install, check=True)
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "venv" / "bin" / "python"


def test_ten_lines_compose_and_render_with_the_installed_wheel_alone(installed, tiny_model, tmp_path):
    from bico.methods.bico.binder import BinderSpec
    from bico.methods.bico.checkpoint import save_binder
    from tests.methods.test_binder import trained

    save_binder(tmp_path / "rex.safetensors", trained(BinderSpec(96, 4)), {"concept": "rex"})
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [installed, "-c", SCRIPT, tiny_model, "rex.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_frames(tmp_path / "dog.mp4").shape == (5, 32, 48, 3)


def test_the_installed_package_is_not_the_checkouts(installed, tmp_path):
    where = "import bico, toyworld; print(bico.__file__, toyworld.__file__)"
    done = subprocess.run([installed, "-c", where], cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert all(str(installed.parent.parent) in path for path in done.stdout.split())
