"""bico explain results/bico/compositions/both/seed0.mp4

Says what made a result, and in plain words why it would or would not be made again.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bico import InputError
from bico.plan.records import changed_inputs

_PARAMS = re.compile(r"Params have changed since last execution: .*? before: (\{.*?\}) now: (\{.*\})\s*(?:;|$)")

_INPUTS = "Set of input files has changed since last execution"


def explain(result: str, snakemake: tuple[str, ...] = ()) -> Iterator[str]:
    """Lines about a result file, from its provenance and from a dry run; `snakemake` are further arguments of that."""
    made = Path(f"{result}.json")
    if made.is_file():
        yield from _origin(result, json.loads(made.read_text("utf-8")))
    elif not Path(result).exists():
        yield f"{result} is not there yet."
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--nocolor", *snakemake, "--", result]
    done = subprocess.run(command, capture_output=True, text=True)
    listing = done.stdout + done.stderr
    if done.returncode:
        raise InputError(f"{result}: Snakemake cannot plan it:\n{listing.strip()}")
    jobs = list(_jobs(listing))
    if not jobs:
        yield "It would not be made again: nothing that it depends on has changed."
        return
    yield f"It would be made again, by {len(jobs)} {'jobs' if len(jobs) > 1 else 'job'}:"
    for rule, wildcards, output, reason in jobs:
        yield f"- {' '.join([rule, *wildcards])}: {'; '.join(_plain(reason, output))}"


def _origin(result: str, made: dict) -> Iterator[str]:
    if "video" in made["inputs"]:
        yield f"{result} was made elsewhere and taken from {made['inputs']['video']['path']}"
        return
    bound = made["inputs"]["bound_prompt"]
    yield f"{result} was rendered from the prompt: {bound['prompt']}"
    yield f"by commit {made['commit'] or 'unknown'} with {', '.join(f'{k} {v}' for k, v in made['versions'].items())};"
    names = [f"{binder.get('concept', 'a released file')} ({binder['sha256'][:8]})" for binder in bound["binders"]]
    yield f"binders: {', '.join(names) or 'none'}; settings: {json.dumps(made['settings'], sort_keys=True)}"


def _jobs(listing: str) -> Iterator[tuple[str, list[str], str, str]]:
    """Rule, wildcard values, first output and reason of each job that a dry run lists."""
    for block in re.split(r"\n\[.*\]\n", listing)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)
        if rule:
            wildcards = re.search(r"^ *wildcards: (.*)$", block, re.MULTILINE)
            output = re.search(r"^ *output: (.*?)(?:, |$)", block, re.MULTILINE)
            reason = re.search(r"^ *reason: (.*)$", block, re.MULTILINE)
            values = [pair.split("=", 1)[1] for pair in wildcards[1].split(", ")] if wildcards else []
            yield rule[1], values, output[1] if output else "", reason[1] if reason else ""


def _plain(reason: str, output: str) -> Iterator[str]:
    """A reason of Snakemake's in plain words; changed settings with their values before and now, changed inputs by
    their names."""
    params = _PARAMS.search(reason)
    if params:
        before, now = (ast.literal_eval(text) for text in params.groups())
        yield from _differences(before, now)
        reason = reason.replace(params[0], "")
    if _INPUTS in reason:
        yield f"changed: {', '.join(changed_inputs(output)) or 'the set of its inputs'}"
        reason = reason.replace(_INPUTS, "")
    for part in filter(None, (part.strip(" ;") for part in reason.split(";"))):
        part = part.replace("Input files updated by another job: ", "an earlier job makes anew ")
        part = part.replace("Updated input files: ", "newer and different: ")
        yield part.replace("Missing output files: ", "missing: ")


def _differences(before: dict, now: dict) -> Iterator[str]:
    if before.get("code") != now.get("code"):
        yield "its code changed"
    for name in ("settings", "versions"):
        old, new = (_flat(json.loads(params.get(name, "{}"))) for params in (before, now))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield f"{key} was {json.dumps(old.get(key))}, is {json.dumps(new.get(key))}"


def _flat(values: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
