"""The metrics of methods beside each other: means over cases, their intervals, and which differences stand.

A case is a composition; its seeds are averaged first, for they are not independent of each other. Intervals hold 95 %
of the means of 9,999 resamplings of the cases (scipy's bootstrap, percentiles).
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from bico.evaluate import MEANINGS
from bico.runtime.files import write_text

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Comparison</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color-scheme: light dark }
  table { border-collapse: collapse } td, th { padding: .3em .8em; text-align: left; border-bottom: 1px solid #8884 }
</style>
"""
COLUMNS = ("method", "composition", "seed", "metric", "concept", "value", "reason", "meaning")


@dataclass(frozen=True)
class TableSettings:
    """results: of each result whose metrics there are its method, composition and seed."""

    results: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class Mean:
    """Of some cases: the mean, and its interval where there are two cases or more."""

    value: float
    low: float | None
    high: float | None
    cases: int

    def __str__(self) -> str:
        interval = f" [{self.low:.3g}, {self.high:.3g}]" if self.low is not None else ""
        return f"{self.value:.3g}{interval} ({self.cases})"

    @property
    def stands(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and (self.low > 0 or self.high < 0)


def write_metrics(settings: TableSettings, measured: Sequence[str | Path], output: str | Path) -> None:
    """One row per result, metric and concept. measured: what `measure` wrote, in the order of the settings' results."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for (method, composition, seed), path in zip(settings.results, measured, strict=True):
        for row in json.loads(Path(path).read_text("utf-8")):
            writer.writerow({"method": method, "composition": composition, "seed": seed, **row})
    write_text(output, text.getvalue())


def read_metrics(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Those of several methods, one after the other."""
    text = dict.fromkeys(("method", "composition", "metric", "concept", "reason", "meaning"), str)
    return pd.concat(
        [pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"value": [""]}) for path in paths]
    )


def by_case(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric's values by composition and method: the mean over seeds and concepts, nan where it does not apply."""
    return rows[rows.metric == metric].pivot_table("value", "composition", "method", "mean", dropna=False)


def mean_of(values: Sequence[float]) -> Mean | None:
    """The mean of cases; nan do not count. None without any."""
    there = np.asarray(values, float)
    there = there[~np.isnan(there)]
    if not len(there):
        return None
    low = high = None
    if len(there) > 1:
        low, high = bootstrap((there,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return Mean(float(there.mean()), low, high, len(there))


def compared(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """A row for each metric and method: `own`, the mean over the cases that the method has; `common`, over those that
    all methods have; `difference`, from the first method over the cases that both have; `stands`, whether the interval
    of the difference leaves 0 out; `reason`, why there is none."""
    table = []
    for metric in dict.fromkeys(rows.metric):
        cases = by_case(rows, metric).reindex(columns=methods)
        common = cases.dropna()
        for method in methods:
            difference = mean_of(cases[method] - cases[methods[0]]) if method != methods[0] else None
            own = mean_of(cases[method])
            reasons = rows[(rows.metric == metric) & (rows.method == method)].reason
            table.append(
                {
                    "metric": metric,
                    "method": method,
                    "own": own,
                    "common": mean_of(common[method]),
                    "difference": difference,
                    "stands": "" if difference is None else "yes" if difference.stands else "no",
                    "reason": "" if own else "; ".join(dict.fromkeys(filter(None, reasons))) or "not measured",
                }
            )
    return pd.DataFrame(table, columns=["metric", "method", "own", "common", "difference", "stands", "reason"])


def write_comparison(output: str | Path, rows: pd.DataFrame, costs: Mapping[str, Mapping[str, str]]) -> None:
    """Writes the table as .md, and beside it as .csv and .html. costs: of each method, in the order of the rows; the
    first method is the one that the others are compared with."""
    methods, output = list(costs), Path(output)
    table = compared(rows, methods)
    meanings = dict(zip(rows.metric, rows.meaning, strict=True))
    legend = [f"- `{name}`: {meaning or _meaning(name)}" for name, meaning in meanings.items()]
    head = "Mean [95 % interval] (cases); `difference` is from " + methods[0] + ", over the cases that both have."
    spent = pd.DataFrame.from_dict(costs, orient="index").rename_axis("method").reset_index()
    shown = table.map(lambda value: "" if value is None else str(value))
    parts = ["# Comparison", head, _markdown(shown), "## Cost", _markdown(spent)]
    parts += ["## What the metrics say", "\n".join(legend)]
    body = f"<h1>Comparison</h1><p>{head}</p>{_html(shown)}<h2>Cost</h2>{_html(spent)}"
    write_text(output.with_suffix(".csv"), _flat(table).to_csv(index=False, lineterminator="\n"))
    write_text(output.with_suffix(".html"), f"{_HEAD}{body}</html>\n")
    write_text(output, "\n\n".join(parts) + "\n")


def _meaning(metric: str) -> str:
    meaning, more = MEANINGS.get(metric, (metric, None))
    return meaning + {True: "; more is better", False: "; less is better", None: ""}[more]


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """The means as numbers, a column each."""
    flat = table[["metric", "method"]].copy()
    for name in ("own", "common", "difference"):
        for part in ("value", "low", "high", "cases"):
            flat[f"{name}_{part}"] = [getattr(mean, part, None) for mean in table[name]]
    return flat.assign(stands=table["stands"], reason=table["reason"])


def _markdown(table: pd.DataFrame) -> str:
    escaped = table.map(lambda value: str(value).replace("|", "\\|"))
    lines = [list(table.columns), ["---"] * len(table.columns), *escaped.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, escape=True, border=0)
