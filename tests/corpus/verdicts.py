"""What becomes of a hostile input, and whether that is right."""

import contextlib
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bico import InputError

SECONDS = 60  # a hundred times what the slowest input takes, so that only work without end is called a hang
ROOM = 4 << 30  # bytes of address space that judging an input may add
LINES, LENGTH = 6, 3000  # of a refusal, at most


class Verdict(StrEnum):
    TAKEN = "taken, and right"
    REFUSED = "refused by name"
    UNKIND = "refused, but usable or not by name"
    TRACEBACK = "tracebacks"
    SILENT = "silently wrong"
    HANG = "hangs"


@dataclass(frozen=True)
class Input:
    """`proves` is a sentence, and the name of its test. `send`: makes the input in the folder it is given, which is
    also the working directory, sends it through a public entry point, and returns what came of it. `right` judges
    that; without it the input is to be refused with an InputError whose message says `names`."""

    category: str
    proves: str
    send: Callable[[Path], object]
    right: Callable[[object], bool] | None = None
    names: str = ""
    lines: int = LINES

    @property
    def due(self) -> Verdict:
        return Verdict.TAKEN if self.right else Verdict.REFUSED


def judge(one: Input, folder: Path) -> tuple[Verdict, str]:
    """The verdict on an input, made in `folder`, and what was said or found."""
    try:
        with contextlib.chdir(folder), _seconds(SECONDS), _room(ROOM):
            found = one.send(folder)
            taken = one.right is not None and one.right(found)
    except InputError as refusal:
        said = str(refusal)
        short = len(said.splitlines()) <= one.lines and len(said) <= LENGTH
        return Verdict.REFUSED if one.right is None and one.names in said and short else Verdict.UNKIND, said
    except _Hang:
        return Verdict.HANG, f"not done after {SECONDS} s"
    except Exception:
        return Verdict.TRACEBACK, traceback.format_exc()
    return Verdict.TAKEN if taken else Verdict.SILENT, f"taken as {found!r}"[:LENGTH]


class _Hang(BaseException):
    """No Exception, so that nothing on the way takes it for a damaged input."""


@contextlib.contextmanager
def _seconds(limit: float) -> Iterator[None]:
    def ring(*_) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _room(limit: int) -> Iterator[None]:
    """What asks for more memory fails, as on a smaller machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
