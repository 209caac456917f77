"""python -m tests.corpus.fuzz grammar --minutes 10

Fuzzing guided by coverage (atheris, the extra `fuzz`) of the prompts' grammar or of what reads binder files. It starts
from the inputs of the corpus and keeps what reaches new code, so that the next call goes on. What it finds is written
to results/fuzz/<target>/; `--again <file>` shows one of these once more, and needs no atheris.
"""

import argparse
import contextlib
import functools
import importlib
import json
import math
import os
import struct
import sys
import tempfile
from pathlib import Path

from tests import ROOT

RESULTS = ROOT / "results" / "fuzz"
SECONDS = 10  # for one input, before it counts as a hang
MEGABYTES = 4096


def grammar(data: bytes) -> None:
    """A text is refused with a GrammarError, or gives pieces as they are documented."""
    from bico.text.grammar import ID, GrammarError, parse

    with contextlib.suppress(GrammarError):
        for piece in parse(_text(data)):
            assert piece.text.strip(), piece
            assert piece.concept is None or ID.fullmatch(piece.concept), piece
            assert math.isfinite(piece.scale) and piece.scale >= 0, piece


def _text(data: bytes) -> str:
    """Lone surrogates too."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


def binder(data: bytes) -> None:
    """A file is refused with an InputError, or gives a binder of finite numbers. By its first byte, `data` is the whole
    file, the text of its header, or that of the spec in it."""
    from bico import InputError
    from bico.methods.bico.checkpoint import load_binder
    from tests.corpus.checkpoints import D, N

    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(_file(data[:1], data[1:]))
        with contextlib.suppress(InputError):
            loaded, _ = load_binder(path, D, N)
            assert all(value.isfinite().all() for value in loaded.state_dict().values())


def _file(kind: bytes, data: bytes) -> bytes:
    if kind == b"f":
        return data
    text = data.decode("utf-8", "replace")
    return with_header(text if kind == b"h" else good_header().replace('"?"', text))


@functools.cache
def _good() -> tuple[dict, bytes, dict]:
    """A good file's outer header, its tensors' bytes, and its own header."""
    from tests.corpus.checkpoints import NAME, native

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        header, _ = native()
        content = Path(NAME).read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:end]), content[end:], header


def with_header(text: str) -> bytes:
    """The good file with this text for its own header."""
    outer, tensors, _ = _good()
    head = json.dumps(outer | {"__metadata__": {"bico-binder": text}}).encode()
    return struct.pack("<Q", len(head)) + head + tensors


def good_header() -> str:
    """The good file's own header, with "?" for its spec."""
    return json.dumps(_good()[2] | {"spec": "?"})


def _memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def grammar_seeds() -> list[bytes]:
    from tests.corpus.prompts import INPUTS

    texts = [one.send.keywords["prompt"] for one in INPUTS]
    return [text.encode("utf-8", "surrogatepass") for text in texts if len(text) < 500]


def binder_seeds() -> list[bytes]:
    header = _good()[2]
    text, spec = json.dumps(header), header["spec"]
    specs = [spec | {name: value} for name in spec for value in (None, -1, 1e400, "x")]
    whole = [b"f" + with_header(text), b"h" + text.encode()]
    return [*whole, *(b"s" + json.dumps(each).encode() for each in (spec, *specs))]


TARGETS = {"grammar": (grammar, grammar_seeds), "binder": (binder, binder_seeds)}
WORDS = {
    "grammar": ("[", "](", ")", "*", "#", "|", "\\\\", "star", "0.5", "&amp;", "&#x5b;", "\\xc3\\xa9"),
    "binder": (
        "dim",
        "blocks",
        "dual",
        "absorbent",
        "per_block",
        "gate",
        "gate_weighs",
        "spec",
        "version",
        "NaN",
        "1e999",
    ),
}


def fuzz(target: str, minutes: float) -> None:
    """Does not return: the process leaves with status 0 when the time is up, and another when something is found."""
    import atheris

    with atheris.instrument_imports(include=["bico", "json", "ftfy", "html"]):
        importlib.import_module({"grammar": "bico.text.grammar", "binder": "bico.methods.bico.checkpoint"}[target])
    run, seeds = TARGETS[target]
    folder = RESULTS / target
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    (folder / "seeds").mkdir(exist_ok=True)
    for number, seed in enumerate(seeds()):
        (folder / "seeds" / f"{number:04d}").write_bytes(seed)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in WORDS[target]))
    options = {
        "max_total_time": round(60 * minutes),
        "timeout": SECONDS,
        "rss_limit_mb": MEGABYTES,
        "artifact_prefix": f"{folder}/",
        "dict": folder / "words",
        "print_final_stats": 1,
        "max_len": 20_000,
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, str(folder / "corpus"), str(folder / "seeds")], run)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--again", type=Path, metavar="FILE", help="a file that was found, to be shown once more")
    arguments = parser.parse_args()
    if arguments.again:
        TARGETS[arguments.target][0](arguments.again.read_bytes())
        print(f"{arguments.again}: nothing is wrong with it any more")
    else:
        fuzz(arguments.target, arguments.minutes)


if __name__ == "__main__":
    main()
