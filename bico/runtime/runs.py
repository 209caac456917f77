"""Long work that can be killed at any moment: what it keeps, how it is told to stop, how it is found again.

A run's folder lies beside the output that it makes, .runs/<output>/<fingerprint>, outside everything that Snakemake
declares and so deletes. The fingerprint is of all that the output depends on: a stale run is never taken up. Finished
outputs have a second name there until the workflow has ended.
"""

import contextlib
import fcntl
import json
import logging
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from bico import Stopped
from bico.runtime.files import is_full, no_room, write_text
from bico.runtime.provenance import digest

log = logging.getLogger(__name__)
RUNS = ".runs"
FINISHED = "finished"
# Whether this process was told to stop. The exception that a signal raises can be lost: in a destructor, or in the lock
# of an import, Python reports it and goes on.
TOLD_TO_STOP = threading.Event()


@contextlib.contextmanager
def claim_run(made_from, *outputs: str | Path) -> Iterator[Path | None]:
    """Holds the run that makes `outputs` of `made_from` (JSON values) for this process alone, and yields its folder;
    that goes, with those of other fingerprints, when the block ends well.

    Where another process is at work on the first of the outputs (a workflow was killed and its job was not), waits for
    that one. Yields None if the outputs that are there are up to date. Outputs that were removed since, as Snakemake
    does where it was killed before it heard of the end of the job, come back until `forget` lets them go.
    """
    paths, fingerprint = [Path(output) for output in outputs], digest(made_from)
    runs = _runs(paths[0])
    runs.mkdir(parents=True, exist_ok=True)
    with open(runs / "lock", "a+", encoding="utf-8") as lock:
        _wait_for(lock, runs)
        lock.seek(0)
        made = lock.read()
        if made == _mark(fingerprint, _second_names(paths)) and not any(path.exists() for path in paths):
            _restore(paths)
            _write(lock, _mark(fingerprint, paths))
            log.info("%s: finished earlier; taken as it is", paths[0])
            yield None
            return
        if made == _mark(fingerprint, paths):
            log.info("%s: already up to date", paths[0])
            yield None
            return
        folder = runs / fingerprint
        if not folder.is_dir() and any(run.name != FINISHED for run in runs.glob("*/")):
            log.info("%s: ignoring a partial run made with other settings, inputs or code", paths[0])
        folder.mkdir(exist_ok=True)
        yield folder
        with contextlib.suppress(OSError):  # a full disk; the work is done
            _write(lock, _mark(fingerprint, paths))
            _keep(paths)
        for run in runs.glob("*/"):
            if run.name != FINISHED:
                shutil.rmtree(run, ignore_errors=True)


def forget(results: str | Path) -> None:
    """Lets the second names of finished outputs go, once Snakemake knows that these are finished."""
    for kept in Path(results).glob(f"**/{RUNS}/*/{FINISHED}"):
        shutil.rmtree(kept, ignore_errors=True)


def _runs(output: Path) -> Path:
    return output.parent / RUNS / output.name


def _second_names(paths: list[Path]) -> list[Path]:
    return [_runs(paths[0]) / FINISHED / path.name for path in paths]


def _keep(paths: list[Path]) -> None:
    """Gives finished files a second name, which takes no room. Folders, and disks without hard links, go without."""
    folder = _runs(paths[0]) / FINISHED
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        for path, kept in zip(paths, _second_names(paths), strict=True):
            os.link(path, kept)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def _restore(paths: list[Path]) -> None:
    """Snakemake wants outputs that are newer than their inputs."""
    for path, kept in zip(paths, _second_names(paths), strict=True):
        os.link(kept, path)
        os.utime(path)


def _write(lock: IO, mark: str) -> None:
    os.ftruncate(lock.fileno(), 0)
    os.write(lock.fileno(), mark.encode())


def _wait_for(lock: IO, runs: Path) -> None:
    """Locks the file; the lock dies with the process."""
    announced = False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not announced:
                log.info("%s: another process is at work on this; waiting for it", runs)
            announced = True
            time.sleep(0.5)


def _mark(fingerprint: str, outputs: list[Path]) -> str | None:
    """Tells whether files are still those that were made, and of what; None if one is not there."""
    try:
        found = [path.stat() for path in outputs]
    except FileNotFoundError:
        return None
    return json.dumps([fingerprint, [[state.st_ino, state.st_mtime_ns] for state in found]])


class Journal:
    """A log of JSON objects, a line each, that outlives a kill: a line that was cut off does not count.

    `keep` says which of the entries that are there already stay. Where the file is damaged otherwise, a copy of it is
    set aside and its good lines stay; of a journal that is `counted`, whose entries are known by their place, those
    before the first damaged one. Without a path nothing is written.
    """

    def __init__(
        self, path: Path | None = None, keep: Callable[[dict], bool] = lambda entry: True, counted: bool = False
    ):
        self.path = path
        *lines, _cut_off = path.read_bytes().split(b"\n") if path and path.is_file() else [b""]
        kept = [_kept(line, keep) for line in lines]
        good = kept[: kept.index(None)] if counted and None in kept else kept
        self.entries = [entry for entry in good if entry]
        if damaged := kept.count(None):
            aside = path.with_name(f"{path.name}.damaged")
            shutil.copy(path, aside)
            log.warning(
                "%s: %d lines are damaged; set aside as %s, %d others stay",
                path,
                damaged,
                aside.name,
                len(self.entries),
            )
        if path:
            write_text(path, str(self))

    def __str__(self) -> str:
        return "".join(json.dumps(entry) + "\n" for entry in self.entries)

    def append(self, entry: dict) -> None:
        self.entries.append(entry)
        if self.path:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as problem:
                raise (no_room(self.path) if is_full(self.path.parent, problem) else problem) from None


def _kept(line: bytes, keep: Callable[[dict], bool]) -> dict | None:
    """A journal's entry, empty if it is not to be kept, None if the line is damaged."""
    try:
        entry = json.loads(line.decode("utf-8"))
        return None if not isinstance(entry, dict) else entry if keep(entry) else {}
    except (ValueError, RecursionError, LookupError, TypeError):
        return None


def interruptible(
    items: Iterable,
    save: Callable[[], None] = lambda: None,
    minutes: float = math.inf,
    agree: Callable[[bool], bool] = bool,
) -> Iterator:
    """Yields the items. Between two of them calls `save` every so many minutes, and where SIGTERM (a time limit, a
    preemption) or SIGINT (Ctrl-C) came, calls it and raises Stopped.

    agree: makes of this process's answer to "shall we stop?" that of all processes.
    """
    saved = time.monotonic()
    with _noticing_signals():
        for item in items:
            yield item
            stop = agree(TOLD_TO_STOP.is_set())
            if stop or time.monotonic() - saved > 60 * minutes:
                save()
                saved = time.monotonic()
            if stop:
                raise Stopped("stopped as asked; everything is saved, the same command goes on from here")


@contextlib.contextmanager
def _noticing_signals() -> Iterator[None]:
    in_charge = threading.current_thread() is threading.main_thread()  # of signals
    names = (signal.SIGTERM, signal.SIGINT) if in_charge else ()
    before = {name: signal.signal(name, lambda *_: TOLD_TO_STOP.set()) for name in names}
    try:
        yield
    finally:
        TOLD_TO_STOP.clear()
        for name, handler in before.items():
            signal.signal(name, handler)
