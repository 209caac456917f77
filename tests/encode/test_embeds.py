"""bico.encode.embeds: the text encoder is loaded once for all that wait for it, and nobody can tell from the embeds."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bico import InputError
from bico.encode import embeds
from bico.encode.embeds import TextEncoder
from bico.models.devices import Placement
from bico.models.wan import encode_tokens, load_embeds, load_text_encoder
from bico.prompts.table import write_prompts
from tests import ROOT

CPU = torch.device("cpu")
PROMPTS = {"red": ["A photo of a red square.", "A red square."], "slide": ["A clip of a blue square: slides.", "Blue."]}
COMPOSITIONS = [["[A red square](red) [slides](slide).", "模糊"], ["[A red square](red) alone.", "模糊"]]


@pytest.fixture
def run(tmp_path, tiny_model, caplog):
    """The folder of a run of two concepts and two compositions; its encoder, and how many prompts it was loaded for."""
    caplog.set_level(logging.INFO)
    for name in ("text_encoder", "tokenizer"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"path": str(tiny_model / name), "files": {}}))
    for concept, prompts in PROMPTS.items():
        write_prompts(csv(tmp_path, concept), [(f"{concept}.mp4", prompt) for prompt in prompts])
    wanted = {"prompts": [str(csv(tmp_path, concept)) for concept in PROMPTS], "compositions": COMPOSITIONS}
    (tmp_path / "waiting").mkdir()
    (tmp_path / "waiting" / "wanted.json").write_text(json.dumps(wanted))
    return tmp_path


def csv(run: Path, concept: str) -> Path:
    return run / concept / f"{concept}_prompts.csv"


def job(run: Path, waiting: str | None = "waiting", **options) -> TextEncoder:
    placed = (64, Placement(CPU, torch.float32), waiting and run / waiting)
    return TextEncoder(run / "tokenizer.json", run / "text_encoder.json", *placed, **options)


def composed(encoder: TextEncoder, row: list[str]) -> list[torch.Tensor]:
    ids = [[encoder.words.tokenise(embeds.parse(row[0])).ids], [encoder.words.tokenise_text(row[1]).ids]]
    return [found for (found,) in encoder.encode(ids)]


def loads(caplog) -> list[str]:
    return [line for line in caplog.messages if line.startswith("loading the text encoder")]


def test_a_prompt_at_its_own_length_has_the_embeds_that_it_has_padded_and_masked(tiny_model):
    encoder = load_text_encoder(tiny_model / "text_encoder", Placement(CPU, torch.float32))
    for ids in ([5, 9, 300, 7, 1], [1], list(range(3, 60))):
        padded, mask = torch.zeros(1, 64, dtype=torch.long), torch.zeros(1, 64, dtype=torch.long)
        padded[0, : len(ids)], mask[0, : len(ids)] = torch.tensor(ids), 1
        with torch.no_grad():
            expected = encoder(input_ids=padded, attention_mask=mask).last_hidden_state[0, : len(ids)]
        (found,) = encode_tokens(encoder, [ids], 64, CPU)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_encoder_is_loaded_once_for_the_concepts_and_compositions_of_a_run(run, caplog):
    for concept in PROMPTS:
        job(run).encode_csv(csv(run, concept), run / f"{concept}.safetensors")
    for row in COMPOSITIONS:
        composed(job(run), row)
    assert loads(caplog) == ["loading the text encoder for 2 prompts"]
    assert "and for 5 prompts that other jobs of this run will ask for" in caplog.messages


def test_embeds_have_the_same_bytes_whoever_encoded_them(run):
    for concept in PROMPTS:
        job(run).encode_csv(csv(run, concept), run / "shared" / f"{concept}.safetensors")
        job(run, waiting=None).encode_csv(csv(run, concept), run / "alone" / f"{concept}.safetensors")
        shared, alone = (run / where / f"{concept}.safetensors" for where in ("shared", "alone"))
        assert shared.read_bytes() == alone.read_bytes()
    for row in COMPOSITIONS:
        assert all(map(torch.equal, composed(job(run), row), composed(job(run, waiting=None), row)))


def test_what_waits_is_taken_once_and_what_no_job_will_ask_for_is_removed(run):
    job(run).encode_csv(csv(run, "red"), csv(run, "red").with_suffix(".safetensors"))
    assert len(list((run / "waiting").glob("*.safetensors"))) == 4
    job(run).encode_csv(csv(run, "slide"), csv(run, "slide").with_suffix(".safetensors"))
    assert len(list((run / "waiting").glob("*.safetensors"))) == 3  # two prompts and the negative prompt
    (run / "waiting" / "wanted.json").write_text(json.dumps({"prompts": [], "compositions": COMPOSITIONS[:1]}))
    composed(job(run), ["Something else.", ""])
    assert len(list((run / "waiting").glob("*.safetensors"))) == 2


def test_prompts_that_changed_after_they_were_encoded_are_encoded_anew(run, caplog):
    job(run).encode_csv(csv(run, "red"), run / "red.safetensors")
    write_prompts(csv(run, "slide"), [("slide.mp4", "Now another prompt.")])
    job(run).encode_csv(csv(run, "slide"), run / "slide.safetensors")
    assert len(loads(caplog)) == 2
    job(run, waiting=None).encode_csv(csv(run, "slide"), run / "alone.safetensors")
    assert (run / "slide.safetensors").read_bytes() == (run / "alone.safetensors").read_bytes()


def test_embeds_of_another_encoder_or_precision_are_not_taken(run, caplog):
    composed(job(run), COMPOSITIONS[0])
    files, placed = (run / f"{name}.json" for name in ("tokenizer", "text_encoder")), Placement(CPU, torch.bfloat16)
    narrow = TextEncoder(*files, 64, placed, waiting=run / "waiting")
    assert composed(narrow, COMPOSITIONS[0])[0].dtype == torch.bfloat16
    content = json.loads((run / "text_encoder.json").read_text())
    (run / "text_encoder.json").write_text(json.dumps(content | {"revision": "other"}))
    composed(job(run), COMPOSITIONS[0])
    assert len(loads(caplog)) == 3


def test_all_prompts_are_encoded_again_together_when_the_encoder_is_another(run, caplog):
    def encode_all() -> None:
        for concept in PROMPTS:
            job(run).encode_csv(csv(run, concept), csv(run, concept).with_suffix(".safetensors"))

    encode_all()
    content = json.loads((run / "text_encoder.json").read_text())
    (run / "text_encoder.json").write_text(json.dumps(content | {"revision": "other"}))
    encode_all()
    assert len(loads(caplog)) == 2


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"", lambda data: b"\xff" * 400])
def test_embeds_that_wait_damaged_are_encoded_anew(run, damage):
    expected = composed(job(run), COMPOSITIONS[0])
    for path in (run / "waiting").glob("*.safetensors"):
        path.write_bytes(damage(path.read_bytes()))
    assert all(map(torch.equal, composed(job(run), COMPOSITIONS[0]), expected))
    assert all(map(torch.equal, composed(job(run), COMPOSITIONS[0]), expected))


def test_a_full_disk_fails_no_job_for_the_sake_of_others(run, monkeypatch):
    save = embeds.save_embeds

    def full(path, *rest):
        if Path(path).parent.name == "waiting":
            raise InputError(f"{path}: disk full")
        save(path, *rest)

    monkeypatch.setattr(embeds, "save_embeds", full)
    job(run).encode_csv(csv(run, "red"), run / "red.safetensors")
    assert len(load_embeds(run / "red.safetensors")) == 2


@pytest.mark.parametrize("bad", ["video,prompt\na.mp4,\n", "nothing", "video,prompt\na.mp4," + "ha " * 99])
def test_another_job_s_bad_prompts_are_that_job_s_affair(run, bad):
    csv(run, "slide").write_text(bad)
    job(run).encode_csv(csv(run, "red"), run / "red.safetensors")
    with pytest.raises(InputError, match=r"slide_prompts\.csv, row"):
        job(run).encode_csv(csv(run, "slide"), run / "slide.safetensors")


def test_rows_too_long_for_the_encoder_are_refused_by_number_with_what_to_do(run, caplog):
    write_prompts(csv(run, "red"), [("a.mp4", "Short."), ("a.mp4", "red " * 200)])
    with pytest.raises(InputError, match=r"red_prompts\.csv, row 3, prompt: \d+ tokens .* at most 64\nShorten them"):
        job(run).encode_csv(csv(run, "red"), run / "red.safetensors")
    assert not loads(caplog)


def test_weights_that_give_no_numbers_are_refused(tiny_model):
    encoder = load_text_encoder(tiny_model / "text_encoder", Placement(CPU, torch.float32))
    encoder.encoder.final_layer_norm.weight.data[0] = float("nan")
    with pytest.raises(InputError, match="not finite: its weights are damaged"):
        encode_tokens(encoder, [[5, 1]], 64, CPU)


def started(run: Path, concept: str) -> subprocess.Popen:
    settings = json.dumps({"text_length": 64, "dtype": "float32"})
    command = [sys.executable, str(ROOT / "scripts" / "encode_prompts.py"), "--prompts", str(csv(run, concept))]
    for name in ("tokenizer", "text_encoder"):
        command += [f"--{name.replace('_', '-')}", str(run / f"{name}.json")]
    command += [
        "--output",
        str(run / f"{concept}.safetensors"),
        "--settings",
        settings,
        "--embeds",
        str(run / "waiting"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--device", "cpu", "--settings", settings], env=environment, stderr=subprocess.PIPE, text=True
    )


def test_of_two_jobs_at_once_one_loads_the_encoder_and_a_killed_one_leaves_it_to_the_next(run):
    jobs = [started(run, concept) for concept in PROMPTS]
    said = "".join(job.communicate()[1] for job in jobs)
    assert [job.returncode for job in jobs] == [0, 0], said
    assert said.count("loading the text encoder") == 1
    assert all(len(load_embeds(run / f"{concept}.safetensors")) == 2 for concept in PROMPTS)

    for path in (run / "waiting").glob("*.safetensors"):
        path.unlink()
    killed = started(run, "red")
    while "loading the text encoder" not in killed.stderr.readline():
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    job(run).encode_csv(csv(run, "slide"), run / "after.safetensors")
    assert (run / "after.safetensors").read_bytes() == (run / "slide.safetensors").read_bytes()
