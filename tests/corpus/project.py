"""A project around one input: two tables, a model file of nine frames, and the way that Snakemake goes."""

import functools
import io
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from bico.media.video import write_video
from bico.plan.plan import Plan
from tests import ROOT

FRAMES = 9
CONCEPTS = "concept,source\nstar,star.png\nboat,boat.mp4\n"
COMPOSITIONS = "composition,prompt\none,A [star](star) over a [boat](boat).\n"


def model_file() -> dict:
    """The toy world's model, at nine frames."""
    content = yaml.safe_load((ROOT / "config" / "models" / "world.yaml").read_text("utf-8"))
    folder = ROOT / "resources" / "world"
    content["components"] = {name: {"path": str(folder / name)} for name in content["components"]}
    return content | {"frames": FRAMES}


def write(path: str, content: str | bytes) -> None:
    Path(path).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@functools.cache
def _media() -> dict[str, bytes]:
    """What the tables' sources hold, made once."""
    star = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(star, "PNG")
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "boat.mp4", np.zeros((FRAMES + 3, 24, 32, 3), np.uint8), 15)
        return {"star.png": star.getvalue(), "boat.mp4": (Path(folder) / "boat.mp4").read_bytes()}


def plan(
    concepts: str | bytes = CONCEPTS,
    compositions: str | bytes = COMPOSITIONS,
    config: dict | None = None,
    files: Iterable[str] = (),
) -> Plan:
    """Writes the tables and plans, as Snakemake's main process does, with files and media looked at. files: those that
    `config` was read from."""
    for name, content in _media().items():
        write(name, content)
    write("concepts.csv", concepts)
    write("compositions.csv", compositions)
    write("model.yaml", yaml.safe_dump(model_file(), allow_unicode=True))
    tables = {"concepts": "concepts.csv", "compositions": "compositions.csv", "model": "model.yaml"}
    return Plan.load(tables | (config or {}), thorough=True, files=files)
