"""Methods beside each other."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from bico.evaluate.comparison import (
    TableSettings,
    compared,
    mean_of,
    read_metrics,
    write_comparison,
    write_metrics,
)
from bico.evaluate.costs import CostSettings, costs
from bico.methods.bico.checkpoint import save_binder
from bico.methods.bico.layout import BinderSpec
from tests.methods.test_binder import trained


def row(method: str, composition: str, value: float | None, seed: int = 0, metric: str = "dino_i", **more) -> dict:
    base = {"concept": "", "reason": "", "meaning": ""}
    return base | {"method": method, "composition": composition, "seed": seed, "metric": metric, "value": value} | more


def test_every_result_s_metrics_come_back_from_the_table_as_they_were_measured(tmp_path):
    rows = [{"metric": "dino", "concept": "NA", "value": 0.1234567890123, "reason": "", "meaning": ""},
            {"metric": "clip_t", "concept": "", "value": None, "reason": "a, \"b\"", "meaning": ""}]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(rows))
    write_metrics(TableSettings((("bico", "null", 7),)), [tmp_path / "a.json"], tmp_path / "metrics.csv")
    found = read_metrics([tmp_path / "metrics.csv"])
    assert found.composition.tolist() == ["null"] * 2 and found.concept.tolist() == ["NA", ""]
    assert found.value.iloc[0] == rows[0]["value"] and np.isnan(found.value.iloc[1])
    assert found.reason.iloc[1] == 'a, "b"'


def test_the_interval_is_scipys_bootstrap_of_the_cases_and_one_case_has_none():
    values = np.random.default_rng(1).normal(0.5, 0.2, 14)
    found = mean_of([*values, np.nan])
    other = bootstrap((values,), np.mean, method="percentile", n_resamples=30_000, rng=5).confidence_interval
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.01)
    assert (found.value, found.cases) == (pytest.approx(values.mean()), 14)
    assert mean_of([0.3]).low is None and mean_of([np.nan]) is None


def test_seeds_of_a_case_are_averaged_first_so_that_many_seeds_are_not_many_cases():
    rows = pd.DataFrame(
        [row("bico", "a", value, seed) for seed, value in enumerate((0.2, 0.4, 0.6))] + [row("bico", "b", 0.8)]
    )
    (line,) = compared(rows, ["bico"]).to_dict("records")
    assert (line["own"].value, line["own"].cases) == (pytest.approx(0.6), 2)


def test_methods_are_compared_case_by_case_over_those_that_both_have():
    rows = [row("bico", case, value) for case, value in zip("abcdef", (0.5, 0.6, 0.7, 0.8, 0.9, 0.1), strict=True)]
    rows += [row("unbound", case, value) for case, value in zip("abcde", (0.4, 0.5, 0.6, 0.7, 0.8), strict=True)]
    rows += [row("unbound", "f", None, reason="no sky"), row("lora", "a", None, reason="'x' is a video")]
    table = compared(pd.DataFrame(rows), ["bico", "unbound", "lora"]).set_index("method")
    difference = table.difference["unbound"]
    assert (difference.value, difference.cases) == (pytest.approx(-0.1), 5)
    assert table.stands["unbound"] == "yes"  # though the intervals of the means overlap widely
    assert table.own["bico"].cases == 6 and table.own["unbound"].cases == 5
    assert table.own["lora"] is None and table.reason["lora"] == "'x' is a video"
    assert table.common["bico"] is None  # no case that all three have


def test_equal_methods_do_not_differ():
    rows = pd.DataFrame([row(method, case, value) for method in "mn" for case, value in (("a", 0.1), ("b", 0.9))])
    assert compared(rows, ["m", "n"]).stands.tolist() == ["", "no"]


def test_the_comparison_says_what_methods_are_worth_and_cost_in_three_forms(tmp_path):
    save_binder(tmp_path / "bico/binders/rex/stage1.safetensors", trained(BinderSpec(4, 1)), {})
    for rule, name, seconds in (("bind_stage1", "bico.rex", 12.5), ("render", "bico.a.seed0.mp4", 3.0)):
        folder = tmp_path / "benchmarks" / rule
        folder.mkdir(parents=True)
        (folder / f"{name}.tsv").write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:12\t{seconds * 10}\n")
    files = {"bico": [str(tmp_path / "bico/binders/rex/stage1.safetensors")], "unbound": []}
    spent = costs(CostSettings(str(tmp_path), files))
    assert spent["bico"]["seconds to bind a concept"] == "12.5" and spent["bico"]["peak memory, MB"] == "125"
    weights = sum(weight.numel() for weight in trained(BinderSpec(4, 1)).state_dict().values())
    assert spent["bico"]["trained parameters of a concept"] == f"{weights}"
    rows = pd.DataFrame([row("bico", "a|b", 0.5), row("unbound", "a|b", None, reason="<script>")])
    write_comparison(tmp_path / "compare.md", rows, spent)
    assert "| dino_i | bico | 0.5 (1) |" in (tmp_path / "compare.md").read_text()
    assert "<script>" not in (tmp_path / "compare.html").read_text()
    first, second = csv.DictReader((tmp_path / "compare.csv").open())
    assert (first["own_value"], second["reason"]) == ("0.5", "<script>")
