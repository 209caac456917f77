"""python -m bico.runtime.launch 2 bind.py --latents ...

Starts a script on a number of graphics cards, none of which another job of this user holds. It becomes the script by
`exec` and starts nothing itself: signals and the exit status are the script's own, and the locks on its cards go with
it, however it ends. For several cards it becomes accelerate's launcher, which hands signals on, and whose exit status
is 1 for every failure.
"""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bico import InputError
from bico.runtime.command import COMPUTE, run

# `--multi_gpu` is what starts several processes; `--cpu` would start one. The script's device decides where they run.
ACCELERATE = (
    "-m accelerate.commands.launch --multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no"
    " --gpu_ids all --main_process_port 0 --num_processes"
)


# Whose cards nobody else has; in it they may be numbered from 0 like those of the allocation beside it.
ALLOCATION = "SLURM_JOB_ID"


def main() -> None:
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        raise InputError("usage: python -m bico.runtime.launch COUNT SCRIPT [ARGUMENT ...]")
    count, script = int(sys.argv[1]), sys.argv[2:]
    device = json.loads(os.environ.get(COMPUTE, "{}")).get("device", "auto")
    if count and device.startswith(("auto", "cuda")):
        take_cards(count, device)
    launcher = [*ACCELERATE.split(), str(count)] if count > 1 else []
    # From the signal on, for a step and its validation; the launcher's own 30 s are short for a real clip.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "110")
    os.execv(sys.executable, [sys.executable, *launcher, *script])


def take_cards(count: int, device: str) -> None:
    """Waits until `count` of the cards are free, locks them and shows them alone to the script. On a machine without
    cards one job goes on without, and its script's device setting decides."""
    names = _names()
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = list(names) if shown is None else [card.strip() for card in shown.split(",")]
    cards = [card for card in cards if card not in ("", "-1", "NoDevFiles")]
    if ":" in device:
        # The script counts from 0 among the cards it is shown: hold this one, show what was shown.
        cards = cards[int(device.split(":")[1]) :][:1]
    if not cards and count == 1:
        return
    if len(cards) < count:
        where = "this machine" if shown is None else f"CUDA_VISIBLE_DEVICES={shown}"
        raise InputError(f"{count} cards are asked for (compute.gpus), found {len(cards)} of {where}")
    taken = _wait_for(cards, count, {card: _unique(card, names) for card in cards})
    if ":" not in device:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's


def _wait_for(cards: list[str], count: int, locks: dict[str, str]) -> list[str]:
    """The first `count` free cards, locked. All or none are taken, by one job at a time, so no two wait for each
    other."""
    folder, announced = _folder(), False
    while True:
        with open(folder / "picking", "w") as picking:
            fcntl.flock(picking, fcntl.LOCK_EX)
            held = {}
            for card in cards:
                if len(held) < count and (lock := _lock(folder / locks[card].replace("/", "_"))):
                    held[card] = lock
            if len(held) == count:
                for lock in held.values():
                    os.set_inheritable(lock, True)
                return list(held)
            for lock in held.values():
                os.close(lock)
        if not announced:
            print(f"waiting for {count} free of the cards {', '.join(cards)}", file=sys.stderr, flush=True)
            announced = True
        time.sleep(1)


def _lock(path: Path) -> int | None:
    """A descriptor that holds `path` alone, None if another process does."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _folder() -> Path:
    """Where the locks lie: for each user, and apart for each allocation in which Snakemake itself runs."""
    folder = Path(tempfile.gettempdir()) / f"bico-cards-{os.getuid()}" / os.environ.get(ALLOCATION, "machine")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _names() -> dict[str, str]:
    """The unique id of each card of this machine by its index, as nvidia-smi lists them; empty where there is none."""
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return {}
    return dict(line.split(", ") for line in listed.splitlines())


def _unique(card: str, names: dict[str, str]) -> str:
    """A card's UUID, which names its lock; the card may be given by its index or by the beginning of that."""
    return names.get(card) or next((name for name in names.values() if name.startswith(card)), card)


if __name__ == "__main__":
    run(main)
