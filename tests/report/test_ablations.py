"""The table of the ablations, from logs of training."""

import csv
import json

import numpy as np
import pytest
from scipy.stats import bootstrap

from bico.report.ablations import interval, row, write_table


def logged(path, base: float, *validations: float) -> str:
    """A log whose noise quantiles have these validation losses on the mean."""
    entries = [{"step": 0, "validation_base": {"0.1": 0.5 * base, "0.9": 1.5 * base}}, {"step": 0, "loss": 3.0}]
    entries += [{"step": k, "validation": {"0.1": value, "0.9": value}} for k, value in enumerate(validations)]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


def test_the_table_tells_the_change_of_the_last_loss_with_the_interval_of_several_concepts(tmp_path):
    images = [logged(tmp_path / f"{k}.jsonl", 2.0, 9.0, last) for k, last in enumerate((1.8, 1.6))]
    video = [logged(tmp_path / "v.jsonl", 4.0, 5.0)]
    paper = {"gate": "zero", "beta": 0.5}
    rows = [row("full", paper, paper, images, video), row("no_gate", paper | {"gate": "none"}, paper, images[:1], [])]
    write_table(rows, tmp_path / "table.md", tmp_path / "table.csv")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2] == "| full | nothing | -15.00 (-20.00 to -10.00) | +25.00 |"
    assert lines[3] == '| no_gate | gate: "none" | -10.00 |  |'
    full, _ = csv.DictReader((tmp_path / "table.csv").open())
    assert (full["images_change_percent"], full["images_high"], full["videos_low"]) == ("-15.00", "-10.00", "")


def test_the_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(3).normal(-10, 4, 12)
    found = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert interval(values) == pytest.approx((found.low, found.high), abs=0.15)
