"""bico watch

What a run is doing, and how far it is, from the files that it writes: the plan says what is to be made, journals of
training say at which step they are. It only reads, so it can be started and left at any time, beside any run.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bico import InputError
from bico.evaluate.costs import benchmarks
from bico.plan.plan import Plan
from bico.runtime.reading import read_yaml
from bico.runtime.runs import RUNS

# The rules whose jobs make each station's files.
RULES = {
    "clips": ("trim",),
    "latents": ("encode_latents",),
    "embeds": ("encode_prompts",),
    "trainings": ("bind_stage1", "bind_stage2"),
    "results": ("render",),
    "unbound twins": ("render",),
    "metrics": ("measure",),
    "page": ("page",),
}
RECENT = 20  # steps, of which the speed is the median
AT_WORK = 15 * 60  # seconds after its last sign of life in which a run counts as being at work
_TRAILING = 1 << 16  # bytes of a journal's end that are read


@dataclass(frozen=True)
class Station:
    """How many of a station's files are there."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class Training:
    """One training that is at work. step: how many are done; speed: steps per second, None before there is one."""

    name: str
    step: int
    steps: int
    loss: float | None
    speed: float | None

    @property
    def seconds_left(self) -> float | None:
        return (self.steps - self.step) / self.speed if self.speed else None


def stations(plan: Plan) -> Iterator[Station]:
    """The stations of what `snakemake` makes without a target, in their order."""
    method = plan.main.name
    trained = [row.id for row in plan.trained()] if plan.main.training_prompts(plan) else []
    named = {
        "clips": [plan.clip(row.id) for row in plan.tables.concepts.values() if row.kind],
        "latents": [plan.concept_file(name, "latents.safetensors") for name in trained],
        "embeds": list(dict.fromkeys(plan.main.training_prompts(plan))),
        "trainings": [str(Path(plot).with_suffix(".safetensors")) for plot in plan.main.plots(plan)],
        "results": plan.results(method),
        "unbound twins": plan.twins(method),
        "metrics": plan.measured(method),
        "page": [plan.page(method)],
    }
    for name, files in named.items():
        if files:
            yield Station(name, sum(Path(file).is_file() for file in files), len(files))


def time_left(plan: Plan) -> tuple[float, list[str]]:
    """About how many seconds the jobs that are left take, one after the other, by what those of the same rule took so
    far; and the stations that are left of which no job was timed yet."""
    seconds, unknown = 0.0, []
    for station in stations(plan):
        jobs = (job for rule in RULES[station.name] for job in benchmarks(plan.config["results"], rule))
        timed = [float(job["s"]) for job in jobs]
        if timed:
            seconds += (station.total - station.done) * mean(timed)
        elif station.done < station.total:
            unknown.append(station.name)
    return seconds, unknown


def trainings(plan: Plan, now: float | None = None) -> Iterator[Training]:
    """The trainings that are at work: those whose journal has grown lately."""
    now = time.time() if now is None else now
    for plot in plan.main.plots(plan):
        output = Path(plot).with_suffix(".safetensors")
        journals = list((output.parent / RUNS / output.name).glob("*/log.jsonl"))
        journal = max(journals, key=lambda path: path.stat().st_mtime, default=None)
        if journal is None or now - journal.stat().st_mtime > AT_WORK:
            continue
        concept, stage = output.parent.name, int(output.stem.removeprefix("stage"))
        entries = [entry for entry in _last_entries(journal) if "loss" in entry]
        steps = plan.main.train_settings(plan, concept, stage)["training"]["iterations"]
        speeds = [entry["steps_per_second"] for entry in entries[-RECENT:] if entry.get("steps_per_second")]
        last = entries[-1] if entries else {"step": -1, "loss": None}
        speed = median(speeds) if speeds else None
        yield Training(f"{concept}, stage {stage}", last["step"] + 1, steps, last["loss"], speed)


def _last_entries(journal: Path) -> list[dict]:
    """The entries at the end of a journal that somebody may be writing."""
    with open(journal, "rb") as file:
        start = max(0, file.seek(0, 2) - _TRAILING)
        file.seek(start)
        lines = file.read().split(b"\n")[1 if start else 0 : -1]
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        entries += [entry] if isinstance(entry, dict) else []
    return entries


def picture(plan: Plan) -> Group:
    """What is to be seen: how far each station is, and what is being trained."""
    table = Table(box=None, padding=(0, 2), show_header=False)
    for station in stations(plan):
        bar = ProgressBar(total=station.total, completed=station.done, width=30)
        table.add_row(station.name, bar, f"{station.done} of {station.total}")
    working = list(trainings(plan))
    jobs = Table(box=None, padding=(0, 2))
    for name in ("training", "", "step", "loss", "steps/s", "left"):
        jobs.add_column(name, justify="left" if name in ("training", "") else "right")
    for each in working:
        bar = ProgressBar(total=each.steps, completed=each.step, width=30)
        loss = "" if each.loss is None else f"{each.loss:.4f}"
        speed = "" if each.speed is None else f"{each.speed:.3g}"
        jobs.add_row(each.name, bar, f"{each.step} of {each.steps}", loss, speed, _duration(each.seconds_left))
    seconds, unknown = time_left(plan)
    left = f"about {_duration(seconds)} of jobs left, one after the other" if seconds else ""
    left += f"; not timed yet: {', '.join(unknown)}" if unknown else ""
    return Group(table, Text(), jobs if working else Text("nothing is being trained"), Text(left.lstrip("; ")))


def _duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, of these the two that count."""
    if seconds is None:
        return ""
    hours, minutes, seconds = int(seconds // 3600), int(seconds // 60 % 60), int(seconds % 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def load_plan(files: Sequence[str]) -> Plan:
    """The plan of configuration files, each of which takes the place of what those before it say, as Snakemake does it;
    config/config.yaml is the first where it is there. Raises InputError."""
    config: dict = {}
    first = ["config/config.yaml"] if Path("config/config.yaml").is_file() else []
    for file in (*first, *files):
        if not Path(file).is_file():
            raise InputError(f"{file}: no such configuration file")
        _update(config, read_yaml(file) or {})
    return Plan.load(config)


def _update(config: dict, other: dict) -> None:
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            _update(config[name], value)
        elif value is not None or not isinstance(config.get(name), dict):
            config[name] = value


def watch(plan: Plan, once: bool = False, seconds: float = 2) -> None:
    """Shows the picture, every so many seconds until it is interrupted; or once."""
    if once:
        Console().print(picture(plan))
        return
    with Live(picture(plan), auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            time.sleep(seconds)
            live.update(picture(plan), refresh=True)
