"""How a job uses the machine. What it computes does not depend on it, so a change of it is no cause to run again: the
workflow hands its configuration's `compute` over in the environment."""

import argparse
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

from bico.runtime.command import COMPUTE, default_settings

COMPUTE_DEFAULTS = default_settings("compute")


@dataclass(frozen=True)
class Compute:
    """device: auto, cpu, cuda, cuda:1, mps. offload: `cpu` keeps weights in main memory. gradient_checkpointing: `auto`
    is on where there is an accelerator: a clip's activations (about 100 GB at 81 frames of 480x832) fit on few cards.
    checkpoint_minutes: between two savings of long work. embeds: the folder in which the jobs of a run leave prompt
    embeds for each other (see `bico.encode.embeds`), if any."""

    device: str = COMPUTE_DEFAULTS["device"]
    offload: str = COMPUTE_DEFAULTS["offload"]
    gradient_checkpointing: bool | str = COMPUTE_DEFAULTS["gradient_checkpointing"]
    checkpoint_minutes: float = COMPUTE_DEFAULTS["checkpoint_minutes"]
    embeds: str | None = None


def add_compute_arguments(
    to: argparse.ArgumentParser, training: bool = False, saves: bool = False, encodes: bool = False
) -> None:
    """The arguments of a script that `compute_of` reads; their defaults are what the workflow hands over.

    training: the script computes gradients. saves: it saves what it has at an interval. encodes: it encodes prompts.
    """
    given = COMPUTE_DEFAULTS | json.loads(os.environ.get(COMPUTE, "{}"))
    to.add_argument("--device", default=given["device"], help="auto, cpu, cuda, cuda:1, mps")
    to.add_argument("--offload", choices=("none", "cpu"), default=given["offload"])
    if training:
        default = given["gradient_checkpointing"]
        to.add_argument("--gradient-checkpointing", choices=("auto", True, False), type=_switch, default=default)
    if saves:
        to.add_argument("--checkpoint-minutes", type=float, default=given["checkpoint_minutes"])
    if encodes:
        shared = "the folder in which the jobs of a run leave prompt embeds for each other"
        to.add_argument("--embeds", default=given.get("embeds"), help=shared)


def compute_of(given: argparse.Namespace) -> Compute:
    """What a script was told by the arguments of `add_compute_arguments`."""
    return Compute(**{each.name: getattr(given, each.name) for each in fields(Compute) if hasattr(given, each.name)})


def _switch(text: str) -> str | bool:
    return {"true": True, "false": False}.get(text, text)


def export_compute(compute: dict, root: Path) -> None:
    """Lets the shell find the scripts of the checkout `root`, these find its package, and use the machine by
    `compute`."""
    os.environ["BICO_SCRIPTS"] = str(root / "scripts")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    os.environ[COMPUTE] = json.dumps(compute)
