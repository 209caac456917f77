"""python benchmarks/planning.py [--concepts 500] [--compositions 5000]

How long and how much memory `snakemake --dry-run` takes to plan a large manifest. Prints one line of JSON with the
machine and the commit; benchmarks/README.md keeps the figures.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bico.media.video import write_video

ROOT = Path(__file__).parent.parent


def write_manifest(folder: Path, concepts: int, compositions: int) -> None:
    """Half images, half videos; each composition links two concepts."""
    (folder / "config").mkdir()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "image.png")
    write_video(folder / "video.mp4", np.zeros((90, 48, 64, 3), np.uint8), 30)
    rows = [f"c{i},{'image.png' if i % 2 else 'video.mp4'},a thing,{'' if i % 2 else 'moves'}" for i in range(concepts)]
    (folder / "config" / "concepts.csv").write_text("concept,source,spatial,temporal\n" + "\n".join(rows) + "\n")
    rows = [f"r{i},[A thing {i}](c{i % concepts}) [moves](c{(7 * i + 3) % concepts})." for i in range(compositions)]
    (folder / "config" / "compositions.csv").write_text("composition,prompt\n" + "\n".join(rows) + "\n")
    shutil.copy(ROOT / "config" / "config.yaml", folder / "config")
    shutil.copytree(ROOT / "config" / "models", folder / "config" / "models")
    for name in ("bico", "scripts", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "environment.yml", folder)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--concepts", type=int, default=500)
    arguments.add_argument("--compositions", type=int, default=5000)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Path(folder), given.concepts, given.compositions)
        command = [sys.executable, "-m", "snakemake", "--cores", "2"]
        options = {"cwd": folder, "env": os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}}
        subprocess.run([*command, "weights"], check=True, capture_output=True, **options)
        begun = time.perf_counter()
        planning = subprocess.Popen([*command, "--dry-run", "--quiet", "all"], stdout=subprocess.DEVNULL, **options)
        _, status, usage = os.wait4(planning.pid, 0)
        seconds = time.perf_counter() - begun
        if status:
            sys.exit("planning failed")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    figures = {
        "concepts": given.concepts,
        "compositions": given.compositions,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": usage.ru_maxrss // 1024,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
