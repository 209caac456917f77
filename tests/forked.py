"""python tests/forked.py

Runs Python code in forks of a process that has imported Snakemake, which halves what a plan takes. What a project
brings with it, such as `bico`, is imported anew in each. Reads calls from its input, one a line, and answers each with
its exit status.
"""

import importlib
import json
import os
import signal
import sys

IMPORTED = (
    "snakemake.cli", "snakemake.report.html_reporter",
    "av", "ffmpeg", "ftfy", "imageio_ffmpeg", "jinja2", "jsonschema", "numpy", "pandas", "PIL.Image", "PIL.ImageOps",
    "requests", "safetensors", "smart_open", "tokenizers", "tqdm", "yaml", "yte",
)  # fmt: skip
sys.path.pop(0)  # this file's folder
for name in IMPORTED:
    importlib.import_module(name)


def run(code: str, folder: str, arguments: list[str], environment: dict[str, str], output: list[str]) -> None:
    """Becomes `python -c code` in the folder."""
    for number, path in enumerate(output, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.alarm(900)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[1:] = arguments
    exec(code, {"__name__": "__main__"})


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return run(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


main()
