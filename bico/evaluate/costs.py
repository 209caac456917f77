"""What methods cost: the time and the memory that Snakemake measured, and the size of what they train."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

BINDING, RENDERING = "bind", "render"  # the beginnings of rules' names


@dataclass(frozen=True)
class CostSettings:
    """results: the folder of all methods; methods: of each, the files that it trains."""

    results: str
    methods: dict


def costs(settings: CostSettings) -> dict[str, dict[str, str]]:
    """The costs of each method. Nothing where nothing was measured, as of a run whose benchmarks were deleted."""
    return {name: _cost(Path(settings.results), name, files) for name, files in settings.methods.items()}


def _cost(results: Path, method: str, trained: list[str]) -> dict[str, str]:
    binding, rendering = (list(benchmarks(results, f"{rule}*", f"{method}.")) for rule in (BINDING, RENDERING))
    concepts = {Path(file).parent.name for file in trained}
    memory = [float(row["max_rss"]) for row in (*binding, *rendering) if row.get("max_rss", "-") not in ("-", "NA")]
    return {
        "seconds to bind a concept": _mean(binding, max(1, len(concepts))),
        "seconds to render a result": _mean(rendering, max(1, len(rendering))),
        "peak memory, MB": f"{max(memory):.0f}" if memory else "",
        "trained parameters of a concept": _whole([_parameters(file) for file in trained]),
        "bytes of a concept": _whole([Path(file).stat().st_size for file in trained]),
    }


def benchmarks(results: str | Path, rule: str, begins: str = "") -> Iterator[dict[str, str]]:
    """What Snakemake measured of a rule's jobs, or only of those whose wildcards begin so. rule: a pattern."""
    for path in sorted(Path(results, "benchmarks").glob(f"{rule}/{begins}*.tsv")):
        with open(path, encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, delimiter="\t")


def _mean(rows: list[dict[str, str]], count: int) -> str:
    return f"{sum(float(row['s']) for row in rows) / count:.1f}" if rows else ""


def _parameters(path: str) -> int:
    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _whole(values: list[int]) -> str:
    """The mean of some numbers of things."""
    return f"{round(sum(values) / len(values)):,}" if values else "0"
