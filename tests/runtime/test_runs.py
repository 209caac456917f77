import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

from bico import Stopped
from bico.runtime.files import write_text
from bico.runtime.runs import Journal, claim_run, forget, interruptible
from tests import ROOT


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_run_keeps_its_folder_until_its_work_is_done_and_then_only_a_lock_is_left(tmp_path):
    output = tmp_path / "a.bin"
    for made_from in ("old", "new"):
        with pytest.raises(KeyboardInterrupt), claim_run(made_from, output) as run:
            (run / "half").write_text(made_from)
            raise KeyboardInterrupt
    with claim_run("new", output) as run:
        assert (run / "half").read_text() == "new"
        write_text(output, "whole")
    assert not run.exists()
    forget(tmp_path)
    assert names(tmp_path) == {"a.bin", ".runs/a.bin/lock"}


def test_what_was_begun_with_other_settings_is_not_taken_up_without_a_word(tmp_path, caplog):
    for made_from, said in (("old", False), ("old", False), ("new", True)):
        caplog.clear()
        with caplog.at_level("INFO"), pytest.raises(KeyboardInterrupt), claim_run(made_from, tmp_path / "a.bin"):
            raise KeyboardInterrupt
        assert ("ignoring a partial run" in caplog.text) == said


def test_a_full_disk_at_the_very_end_loses_nothing_that_is_done(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("bico.runtime.runs.os.write", full)
    with claim_run("this", tmp_path / "a.bin") as run:
        write_text(tmp_path / "a.bin", "whole")
    assert (tmp_path / "a.bin").read_text() == "whole" and not run.exists()


def test_runs_of_two_outputs_do_not_touch_each_other(tmp_path):
    with pytest.raises(KeyboardInterrupt), claim_run("same", tmp_path / "a.bin") as run:
        (run / "half").write_text("a")
        raise KeyboardInterrupt
    with claim_run("same", tmp_path / "b.bin") as other:
        assert not (other / "half").exists()
        write_text(tmp_path / "b.bin", "whole")
    assert (run / "half").read_text() == "a"


def make(folder, made_from="this"):
    with claim_run(made_from, folder / "out.txt", folder / "log.txt") as run:
        if run is not None:
            write_text(folder / "log.txt", made_from)
            write_text(folder / "out.txt", made_from)
        return run is not None


def test_what_is_made_of_just_this_is_not_made_again(tmp_path):
    assert make(tmp_path) and not make(tmp_path)


def remove_outputs(folder):
    for name in ("out.txt", "log.txt"):
        (folder / name).unlink()


def test_finished_work_whose_outputs_are_removed_before_the_workflow_ended_comes_back(tmp_path):
    make(tmp_path)
    before = (tmp_path / "out.txt").stat()
    remove_outputs(tmp_path)
    assert not make(tmp_path)
    after = (tmp_path / "out.txt").stat()
    assert (after.st_ino, (tmp_path / "log.txt").read_text()) == (before.st_ino, "this")
    assert after.st_mtime_ns > before.st_mtime_ns
    remove_outputs(tmp_path)
    assert make(tmp_path, "that") and (tmp_path / "out.txt").read_text() == "that"


def test_outputs_that_are_removed_after_the_workflow_ended_are_made_again(tmp_path):
    make(tmp_path)
    forget(tmp_path)
    remove_outputs(tmp_path)
    assert make(tmp_path)


@pytest.mark.parametrize("name", ["out.txt", "log.txt"])
def test_what_was_deleted_or_changed_is_made_again(tmp_path, name):
    make(tmp_path)
    (tmp_path / name).unlink()
    assert make(tmp_path)
    write_text(tmp_path / name, "by another hand")
    assert make(tmp_path)


def test_what_is_made_of_something_else_is_made_again(tmp_path):
    make(tmp_path)
    assert make(tmp_path, "that") and (tmp_path / "out.txt").read_text() == "that"


def work(folder, ready, go_on):
    with claim_run("this", folder / "out.txt", folder / "log.txt"):
        ready.set()
        go_on.wait(60)
        write_text(folder / "log.txt", "by the other")
        write_text(folder / "out.txt", "by the other")


@pytest.fixture
def other(tmp_path):
    """Another process that makes out.txt; it ends when told to go on."""
    context = multiprocessing.get_context("spawn")
    ready, go_on = context.Event(), context.Event()
    process = context.Process(target=work, args=(tmp_path, ready, go_on))
    process.start()
    assert ready.wait(60)
    yield process, go_on
    process.kill()
    process.join()


def test_who_comes_while_another_makes_the_same_waits_and_finds_it_made(tmp_path, other):
    other[1].set()
    assert not make(tmp_path)
    assert (tmp_path / "out.txt").read_text() == "by the other"


def test_who_comes_after_another_made_the_same_finds_it_made(tmp_path, other):
    """As behind a card that the other one held."""
    other[1].set()
    other[0].join(60)
    assert not make(tmp_path)


def test_who_comes_while_another_makes_the_same_takes_over_when_that_one_is_killed(tmp_path, other):
    (folder,) = (tmp_path / ".runs" / "out.txt").glob("*/")
    (folder / "half").write_text("kept")
    other[0].kill()
    with claim_run("this", tmp_path / "out.txt", tmp_path / "log.txt") as run:
        assert (run / "half").read_text() == "kept"
        for name in ("out.txt", "log.txt"):
            write_text(tmp_path / name, "whole")


def test_an_orphan_of_older_settings_is_waited_for_and_does_not_have_the_last_word(tmp_path, other):
    threading.Timer(1, other[1].set).start()
    assert make(tmp_path, "that") and (tmp_path / "out.txt").read_text() == "that"


def test_a_journal_drops_the_line_that_a_kill_cut_off_and_what_is_not_to_be_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    journal = Journal(path)
    for step in range(3):
        journal.append({"step": step, "word": "é\u2028"})
    with path.open("a") as file:
        file.write('{"step": 3, "wo')  # in the midst of a line
    again = Journal(path, keep=lambda entry: entry["step"] < 2)
    again.append({"step": 2, "word": "new"})
    assert again.entries == Journal(path).entries
    assert [(entry["step"], entry["word"]) for entry in again.entries] == [(0, "é\u2028"), (1, "é\u2028"), (2, "new")]


def test_a_journal_without_a_path_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Journal().append({"a": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_work_after_the_item_in_hand_and_everything_is_saved(number):
    done, saved = [], []
    with pytest.raises(Stopped):
        for item in interruptible(range(5), lambda: saved.append(list(done))):
            if item == 2:
                os.kill(os.getpid(), number)
            done.append(item)
    assert saved == [[0, 1, 2]]


LOSING = """
import os, sys
from bico.runtime.command import run
from bico.runtime.runs import interruptible

class Closing:
    def __del__(self):  # an exception in it is reported, and the program goes on
        os.kill(os.getpid(), int(sys.argv[1]))

def main():
    Closing()
    for item in interruptible(range(1000), lambda: print("saved")):
        print(item)

run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_whose_exception_python_loses_stops_the_work_that_follows(number):
    done = subprocess.run([sys.executable, "-c", LOSING, str(int(number))], capture_output=True, text=True, cwd=ROOT)
    assert "Exception ignored in" in done.stderr and done.stderr.endswith("the same command goes on from here\n")
    assert (done.returncode, done.stdout) == (75, "0\nsaved\n")


def test_work_is_saved_at_its_interval_and_signals_are_as_before_when_it_ends():
    handler, saved = signal.getsignal(signal.SIGTERM), []
    assert list(interruptible(range(3), lambda: saved.append(1), minutes=0)) == [0, 1, 2]
    assert len(saved) == 3 and signal.getsignal(signal.SIGTERM) is handler
    assert list(interruptible(range(3), lambda: saved.append(1))) == [0, 1, 2]
    assert len(saved) == 3


def test_processes_stop_together_when_one_is_told_to():
    with pytest.raises(Stopped):
        list(interruptible(range(3), agree=lambda asked: True))
