"""python -m tests.corpus

Judges every input, says which were not dealt with as is right for them, and writes the table of docs/hostile.md.
"""

import sys
import tempfile
from pathlib import Path

from tests.corpus.inputs import INPUTS
from tests.corpus.table import rows, write_document
from tests.corpus.verdicts import judge


def main() -> None:
    wanted, verdicts = sys.argv[1:], []
    for one in INPUTS:
        if wanted and one.category not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            verdict, said = judge(one, Path(folder))
        verdicts.append((one.category, verdict))
        if verdict != one.due:
            print(f"{one.category}: {one.proves}\n  {verdict}, not {one.due}: {_short(said)}")
    print(rows(verdicts))
    if not wanted:
        write_document(rows(verdicts))


def _short(said: str) -> str:
    """The end of a traceback, the beginning of anything else."""
    said = said.strip()
    return said[-300:] if said.startswith("Traceback") else said[:300].partition("\n")[0]


if __name__ == "__main__":
    main()
