"""The card of the world's models: that it says what their files and reports say."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from tests import ROOT
from toyworld.training.card import COMPONENTS, publish


@pytest.fixture
def trained(tmp_path):
    folder = tmp_path / "trained"
    for source in COMPONENTS.values():
        (folder / source).mkdir(parents=True, exist_ok=True)
    for name, source in COMPONENTS.items():
        if name != "tokenizer":
            (folder / source / "config.json").write_text(json.dumps({"architectures": [f"The{name}"]}))
            save_file({"a": torch.zeros(10, 100), "b": torch.zeros(7)}, folder / source / "model.safetensors")
    for model in ("vae", "vlm", "transformer"):
        entries = [{"step": step, "loss": 1 / (1 + step), "seconds": 36.0 * step} for step in range(0, 101, 20)]
        (folder / f"{model}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    vae = {"scenes": 3, "psnr": {"mean": 31.24, "lowest": 25}, "shade": 1.6, "oracle": {"shape": 0.9}}
    vae["colour_by_frame"] = [0.5] * 72 + [1.5] * 9
    kind = {"valid": 1.0, "right": 0.912, "kept_first_try": 0.8, "kept": 0.95, "words": {"motion": 0.871}}
    (folder / "vae.json").write_text(json.dumps(vae))
    (folder / "vlm.json").write_text(json.dumps({"scenes": 5, "image": kind, "video": kind}))
    t2v = {"captions": 200, "frames": 81, "agreement": {"colour": 0.955, "motion": 0.5}, "alone": {"colour": 0.975}}
    (folder / "transformer.json").write_text(json.dumps(t2v))
    return folder


def test_it_has_every_components_size_and_every_figure(trained, tmp_path):
    publish(trained, tmp_path / "world")
    card = (tmp_path / "world" / "README.md").read_text()
    assert {path.name for path in (tmp_path / "world").iterdir()} == {*COMPONENTS, "README.md"}
    assert card.count("| 0.00 M |") == 5  # 1,007 parameters each; none in the tokenizer
    for text in ("Thevae", "Thevlm", "31.2 dB", "25.0 dB", "0.50 of 255", "1.50 in the last", "91.2 %", "87.1 %"):
        assert text in card, text
    assert "| transformer | 101 | 1.00 | 0.0099 |" in card
    assert "| colour | motion |\n| --- | --- |\n| 95.5 % | 50.0 % |" in card
    assert "Of the captions of one subject:\n\n| colour |\n| --- |\n| 97.5 % |" in card
    assert "| shape |\n| --- |\n| 90.0 % |" in card and "a CIEDE2000 of\n1.6 (median)" in card


def test_where_no_subject_is_seen_it_says_nothing_of_shades(trained, tmp_path):
    report = json.loads((trained / "vae.json").read_text())
    (trained / "vae.json").write_text(json.dumps(report | {"shade": None}))
    publish(trained, tmp_path / "world")
    card = (tmp_path / "world" / "README.md").read_text()
    assert "CIEDE2000" not in card and "31.2 dB" in card


def test_what_there_is_to_say_of_the_training_besides_stands_under_its_table(trained, tmp_path):
    publish(trained, tmp_path / "world", "On one H200.")
    assert "twentieth of\nthe steps. On one H200.\n\n## Figures" in (tmp_path / "world" / "README.md").read_text()


def test_publishing_again_replaces_what_was_there(trained, tmp_path):
    publish(trained, tmp_path / "world")
    (tmp_path / "world" / "vae" / "old.safetensors").write_bytes(b"")
    publish(trained, tmp_path / "world")
    assert not (tmp_path / "world" / "vae" / "old.safetensors").exists()


def test_a_model_that_is_not_trained_yet_is_left_out(trained, tmp_path):
    shutil.rmtree(trained / "vlm")
    publish(trained, tmp_path / "world")
    card = (tmp_path / "world" / "README.md").read_text()
    assert not (tmp_path / "world" / "vlm").exists()
    assert "vlm" not in card and "Language model" not in card
    assert "31.2 dB" in card and "95.5 %" in card


def test_of_a_training_in_several_runs_it_counts_all(trained, tmp_path):
    log = trained / "transformer.jsonl"
    log.write_text(2 * log.read_text())
    publish(trained, tmp_path / "world")
    assert "| transformer | 202 | 2.00 | 0.0099 |" in (tmp_path / "world" / "README.md").read_text()


def test_the_shipped_models_are_small_enough_to_ship():
    shipped = ROOT / "resources" / "world"
    assert {path.name for path in shipped.iterdir()} == {*COMPONENTS, "README.md"}
    assert sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file()) < 40e6
