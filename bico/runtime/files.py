"""Files that are either whole or not there."""

import contextlib
import errno
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from bico import InputError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path`, with the same suffix, to write to; it takes `path`'s place when the block ends well
    and is removed when it does not. Folders are made. InputError if the disk is full."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale_parts(path)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        part.chmod(0o666 & ~_umask())  # safetensors writes for the owner alone
        os.replace(part, path)
    except Exception as problem:
        if is_full(path.parent, problem):
            raise no_room(path) from problem
        raise
    finally:
        part.unlink(missing_ok=True)


def _remove_stale_parts(path: Path) -> None:
    """A killed writer leaves its part behind; one that nobody has touched for an hour has no writer any more."""
    for part in path.parent.glob(f".{path.stem}.{'?' * 8}.part{path.suffix}"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > 3600:
                part.unlink()


def no_room(path: Path) -> InputError:
    return InputError(f"{path}: disk full; free some space, and run the same command again")


def is_full(folder: Path, problem: Exception) -> bool:
    """Whether a failure to write was caused by a full disk: libraries hide the system's error behind their own."""
    if any(getattr(problem, "errno", None) == code or os.strerror(code) in str(problem) for code in _NO_ROOM):
        return True
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < 64 * 1024


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
