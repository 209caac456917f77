"""What Snakemake knows of each result, kept beside the results and decided by content.

Snakemake keeps a record of each output: its rule's code and params, and checksums of its inputs. Ours are these very
records, with three differences. They lie in the results folder, so that results which are copied or renamed still know
what they were made of. An input counts as changed when its content differs from what it was when the job started,
whatever the dates and the names of files say. And inputs of any size count.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from snakemake.persistence.file import FilePersistence

from bico import InputError
from bico.models.components import component_digest
from bico.runtime.files import write_text
from bico.runtime.provenance import file_digest

FOLDER = ".records"


class Digests:
    """SHA-256 of files, remembered by size, dates and inode in a file of its own, so that a big file is read once."""

    def __init__(self, memory: Path):
        self.memory, self.changed, self.saved = memory, False, 0.0
        self.known: dict[str, list] = {}
        with suppress(OSError, ValueError):
            self.known = json.loads(memory.read_text("utf-8"))

    def of(self, path: str | Path) -> str | None:
        """The digest of a file; None if there is none."""
        try:
            state = self._state(path)
            if self.known.get(str(path), [None])[0] == state:
                return self.known[str(path)][1]
            found = content_digest(path)
            if self._state(path) != state:  # it is being written
                return found
        except OSError:
            return None
        self.known[str(path)] = [state, found]
        self.changed = True
        return found

    def save(self, every: float = 0) -> None:
        """Saves what was found, at most every so many seconds. What is not saved is only found again."""
        if self.changed and time.monotonic() - self.saved >= every:
            with suppress(OSError):
                write_text(self.memory, json.dumps(self.known))
            self.changed, self.saved = False, time.monotonic()

    def _state(self, path: str | Path) -> list[int]:
        state = Path(path).stat()
        return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def content_digest(path: str | Path) -> str:
    """SHA-256 of what a file says. Of a manifest of weights only the component's files count, wherever they lie."""
    if "manifests" in Path(path).parts:
        with suppress(InputError, KeyError):
            return component_digest(path)
    return file_digest(path)


def changed_inputs(output: str | Path) -> list[str]:
    """The inputs of a result that are no longer what it was made of, from its record; none where it has none."""
    for folder in Path(output).parents:
        record = folder / FOLDER / f"{Path(output).relative_to(folder)}.json"
        if record.is_file():
            made_of = json.loads(record.read_text("utf-8")).get("input_checksums") or {}
            return [path for path, before in made_of.items() if _differs(path, before)]
    return []


def _differs(path: str, before: str | None) -> bool:
    return before is not None and Path(path).is_file() and f"sha256:{content_digest(path)}" != before


class Records(FilePersistence):
    """Snakemake's records of the outputs under `results`."""

    results: Path
    check_targets: Callable[[Iterable[str]], None]

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.digests = Digests(self.path / "digests.json")
        self.at_start: dict[str, dict[str, str]] = {}
        self.max_checksum_file_size = 0  # Snakemake itself hashes nothing: it would do so after the job
        if self.dag is not None:
            self.dag.max_checksum_file_size = sys.maxsize
            type(self).check_targets(sorted(self.dag.targetfiles))

    def started(self, job, external_jobid=None) -> None:
        """What the inputs hold now is what the job reads; what replaces them meanwhile is found changed next time."""
        super().started(job, external_jobid)
        self._note_inputs(job)

    async def finished(self, job) -> None:
        if any(self._get_key(output) not in self.at_start for output in job.output):  # as with `--touch`
            self._note_inputs(job)
        await super().finished(job)

    def _note_inputs(self, job) -> None:
        if self.dag.workflow.is_main_process:
            found = {str(path): self._checksum(path) for path in _local(job)}
            self.at_start |= {self._get_key(output): found for output in job.output}
            self.digests.save(every=30)

    def input_checksums(self, job, input_path) -> set:
        """Hands Snakemake, which compares checksums where a date is newer, the digest of the input as it is now."""
        paths = _local(job)
        if input_path not in paths:
            return super().input_checksums(job, input_path)
        self.dag.workflow.iocache.checksum[input_path] = self._checksum(input_path)
        place = paths.index(input_path)
        return {(self._recorded(output)[place:] or [None])[0] for output in job.output}

    def _input_changed(self, job, file=None) -> bool:
        recorded = self._recorded(file)
        if not recorded:
            return False
        paths = _local(job)
        return len(recorded) != len(paths) or any(
            Path(path).exists() and self._checksum(path) != before for path, before in zip(paths, recorded, strict=True)
        )

    def _recorded(self, output) -> list[str]:
        """The digests of an output's inputs as its job found them, in the order of the rule."""
        record = self.metadata(output)
        return list(((record and record.input_checksums) or {}).values())

    def _checksum(self, path: str) -> str | None:
        found = self.digests.of(path)
        return found and f"sha256:{found}"

    def _write_record(self, key: str, record) -> None:
        record.input_checksums = self.at_start.pop(key, record.input_checksums)
        super()._write_record(key, record)

    def _record_path(self, subject, id: str) -> str:
        """Records of results lie beside them, under their names; those that are not finished stay with this folder."""
        if subject == self._metadata_path and Path(id).is_relative_to(self.results):
            return str(self.results / FOLDER / f"{Path(id).relative_to(self.results)}.json")
        return super()._record_path(subject, id)

    def save_iocache(self) -> None:
        super().save_iocache()
        self.digests.save()

    def drop_iocache(self) -> None:
        super().drop_iocache()
        self.digests.save()


def _local(job) -> list:
    """A job's input files on this machine, each once."""
    return [path for path in dict.fromkeys(job.input) if not path.is_storage]


def keep_with_results(results: str, check_targets: Callable[[Iterable[str]], None]) -> None:
    """Lets Snakemake keep its records of the outputs under `results` there. check_targets: is called with the files
    that are asked for, before anything is planned: Snakemake knows them only when it opens its records."""
    from snakemake import workflow

    Records.results, Records.check_targets = Path(results), staticmethod(check_targets)
    workflow.FilePersistence = Records
