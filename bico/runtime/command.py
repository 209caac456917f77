"""What every script shares: its settings argument, and how a user's mistake is shown."""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from typing import NoReturn

from tqdm import tqdm

from bico import InputError, Stopped
from bico.runtime.reading import read_yaml
from bico.runtime.runs import TOLD_TO_STOP

COMPUTE = "BICO_COMPUTE"  # in the environment: how a job uses the machine, see `bico.runtime.compute`
STOPPED = os.EX_TEMPFAIL  # 75: run again, and it goes on


def settings_argument(text: str) -> dict:
    """The `--settings` of a script: a JSON object, or the path of a JSON or YAML file that holds one."""
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else read_yaml(text)
    except (ValueError, RecursionError) as problem:  # InputError is a ValueError
        raise argparse.ArgumentTypeError(f"neither a JSON object nor a readable JSON or YAML file: {problem}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected an object of settings, found {type(value).__name__}")
    return value


@cache
def default_settings(section: str) -> dict:
    """The defaults of a section of the configuration, for a script that is called by hand: its schema's."""
    schema = read_yaml(str(files("bico.settings") / "schemas" / "config.schema.yaml"))
    return {name: field["default"] for name, field in schema["properties"][section]["properties"].items()}


def parser(description: str) -> argparse.ArgumentParser:
    """A script's argument parser; `description` is its docstring, whose first line is an example."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def run(main: Callable[[], None]) -> None:
    """Runs a script's `main`. An InputError becomes its message on standard error and exit status 1; work that saved
    itself because it was told to stop leaves with STOPPED; SIGTERM and SIGINT elsewhere with 128 and their number."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        main()
    except InputError as problem:
        _leave(f"error: {problem}", 1)
    except Stopped as stopped:
        _leave(str(stopped), STOPPED)
    except KeyboardInterrupt:
        _leave("stopped", 128 + signal.SIGINT)


def _stop(number: int, _frame) -> NoReturn:
    """Leaves by an exception, so that temporary files are removed. Where that is lost, long work stops by the mark."""
    TOLD_TO_STOP.set()
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _leave(said: str, status: int) -> NoReturn:
    print(said, file=sys.stderr)
    sys.exit(status)


def progress(items: Iterable, what: str, unit: str, **options) -> tqdm:
    """A progress bar over `items`; in a log file it speaks every 30 s only."""
    return tqdm(items, what, unit=unit, mininterval=0.2 if sys.stderr.isatty() else 30, dynamic_ncols=True, **options)
