import os
from pathlib import Path

import pytest

from bico import InputError
from bico.runtime.files import atomic, write_json, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with pytest.raises(RuntimeError), atomic(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with atomic(target) as part:
        part.write_text("whole")
        assert not target.exists() and part.suffix == ".txt"
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_interrupted_overwrite_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1})
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "a.json") as part:
        part.write_text("{")
        raise KeyboardInterrupt
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1\n}\n'


def test_what_a_killed_writer_left_behind_goes_when_the_file_is_written_long_after(tmp_path):
    left, new = tmp_path / ".a.01234567.part.txt", tmp_path / ".a.89abcdef.part.txt"
    for part in (left, new):
        part.write_text("half")
    os.utime(left, (0, 0))
    write_text(tmp_path / "a.txt", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, "a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_in_one_line_that_names_the_file(tmp_path):
    with pytest.raises(InputError, match=r"a.txt: disk full; free some space"), atomic(tmp_path / "a.txt") as part:
        part.symlink_to("/dev/full")
        part.write_text("anything")
    assert list(tmp_path.iterdir()) == []
