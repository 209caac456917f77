"""python tests/forked.py SOCKET MODULE ...

Imports the modules once, and runs Python in forks of itself: importing takes most of the time of a plan and of a small
job. What a project brings with it, such as `bico`, is imported anew in each. It ends when its input does.

As `python`, which `write_shim` writes, this file is the client: it takes Python's arguments, and the fork works in
its stead.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable

ADDRESS = "TESTS_FORKED"  # the environment variable of the server's socket


# The client: it imports little, for every job starts one.


def write_shim(path: str) -> None:
    """Writes a `python` that asks the server of ADDRESS to do its work."""
    lines = [f"#!{sys.executable} -IS", "import sys", f"sys.path.append({os.path.dirname(__file__)!r})"]
    lines += ["import forked", "forked.main()"]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    os.chmod(path, 0o755)


def main() -> None:
    def hand_on(process: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: os.kill(process, number))

    address, environment = os.environ[ADDRESS], dict(os.environ)
    status = ask(address, sys.argv[1:], environment, os.getcwd(), (0, 1, 2), hand_on)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def ask(address, arguments, environment, folder, files, started=lambda process: None) -> int:
    """What `python ARGUMENT ...` does in a folder, with these files as input, output and error, as soon as it has
    `started`. Returns the exit status (less than zero: of a signal)."""
    with socket.socket(socket.AF_UNIX) as talk:
        talk.connect(address)
        socket.send_fds(talk, [b"\0"], files)
        call = {"arguments": arguments, "environment": environment, "folder": folder}
        talk.sendall(json.dumps(call).encode() + b"\n")
        answers = talk.makefile()
        started(int(answers.readline()))
        return int(answers.readline())


# The server


def serve(address: str, modules: list[str]) -> None:
    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the work
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        print("ready", flush=True)
        while door in select.select([door, sys.stdin], [], [])[0]:
            talk, _ = door.accept()
            if not os.fork():
                answer(talk)
            talk.close()


def answer(talk: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, *_ = socket.recv_fds(talk, 1, 3)
    call = json.loads(talk.makefile().readline())
    process = os.fork()
    if not process:
        talk.close()
        os._exit(status_of(lambda: become(files, **call)))
    talk.sendall(f"{process}\n".encode())
    talk.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n".encode())
    os._exit(0)


def become(files: list[int], arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Becomes `python ARGUMENT ...`."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    signal.alarm(900)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = shutil.which("python")
    kind, *rest = arguments
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path.insert(0, folder if kind in ("-c", "-m") else os.path.dirname(os.path.abspath(kind)))
    sys.argv = rest if kind in ("-c", "-m") else arguments
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    elif kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")


def status_of(work: Callable[[], None]) -> int:
    """The exit status of Python, without its tidying up, which takes long where much is imported."""
    status = 0
    try:
        work()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder
    serve(sys.argv[1], sys.argv[2:])
