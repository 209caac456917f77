"""The README's command for real weights, from the weights to the page, on random weights of the real models' widths and
layouts: config/media.yaml's photo and clip at 64x112 pixels, 5 frames, 3 steps of training, on a CPU.

`make test-real` runs all of it from nothing. Each test makes what it needs, so `pytest -m real tests/real -k prompts`
runs one of them alone.
"""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bico.media.video import read_frames
from bico.methods.bico.checkpoint import load_binder
from bico.models.wan import load_embeds
from bico.prompts.table import read_prompts
from bico.render.bound_prompt import load_bound_prompt, read_header
from bico.text.phrases import Phrases, read_phrases
from bico.text.tokens import PromptTokenizer
from tests.real.conftest import COMPOSITIONS, OVERLAY, make, run
from tests.real.published import SAID

pytestmark = pytest.mark.real
RESULTS = "results-wan2.1-t2v-1.3b"
AKITA, GAMING = (f"{RESULTS}/concepts/{concept}/{concept}" for concept in ("akita", "gaming"))
LATENTS = (16, 8, 14)  # channels, height, width
STEPS = OVERLAY["training"]["iterations"]
PROMPTS, AGAIN = OVERLAY["prompts"]["count"], OVERLAY["prompts"]["attempts"]


def test_weights_copied_from_elsewhere_are_adopted_without_a_network(project):
    manifests = project / "resources" / "weights" / "manifests" / "wan2.1-t2v-1.3b"
    run(project, "weights", "--cores", "1", "--configfile", "config/wan2.1-t2v-1.3b.yaml")
    named = {path.stem: json.loads(path.read_text("utf-8")) for path in manifests.glob("[!.]*.json")}
    assert named.keys() == {"transformer", "vae", "text_encoder", "tokenizer", "vlm", "clip", "dino"}
    assert {"chat_template.json", "tokenizer_config.json"} <= named["vlm"]["files"].keys()
    assert len([file for file in named["transformer"]["files"] if file.endswith(".safetensors")]) == 2


def test_the_language_model_names_the_concepts_of_the_real_clip(project):
    make(project, f"{GAMING}.json")
    assert read_phrases(project / f"{GAMING}.json") == Phrases(("a young man",), ("raises both arms",))
    assert json.loads((project / f"{GAMING}.json").read_text())["source"].startswith("Qwen--Qwen2.5-VL-7B-Instruct")


def test_prompts_of_the_clip_and_of_each_of_its_frames_keep_its_phrases(project):
    make(project, f"{GAMING}_prompts.csv", f"{GAMING}_spatial_prompts.csv")
    assert read_prompts(project / f"{GAMING}_prompts.csv") == [("gaming.mp4", SAID)] * PROMPTS
    assert [prompt for _, prompt in read_prompts(project / f"{GAMING}_spatial_prompts.csv")] == [SAID] * 5
    for name, count in (("prompts", PROMPTS), ("spatial_prompts", 5)):
        report = json.loads((project / f"{GAMING}_{name}.report.json").read_text())
        assert (report["count"], report["kept_first_try"], report["reasked"]) == (count, count, 0)


def test_prompts_that_drop_the_phrases_are_asked_for_again_and_the_report_says_that_none_kept_them(project):
    """The photo's phrases are the manifest's, and this model never says them."""
    make(project, f"{AKITA}_prompts.csv")
    assert read_prompts(project / f"{AKITA}_prompts.csv") == [("akita.png", SAID)] * PROMPTS
    report = json.loads((project / f"{AKITA}_prompts.report.json").read_text())
    assert (report["count"], report["kept"], report["reasked"]) == (PROMPTS, 0, PROMPTS * AGAIN)


def test_latents_of_the_clip_and_of_its_frames_have_the_real_vae_s_shape(project):
    concepts = {name: f"{RESULTS}/concepts/{name}/latents.safetensors" for name in ("akita", "gaming")}
    make(project, *concepts.values())
    channels, *size = LATENTS
    photo, clip = (load_file(project / path) for path in concepts.values())
    assert photo["clip"].shape == (channels, 1, *size)
    assert clip["clip"].shape == (channels, 2, *size) and clip["frames"].shape == (5, channels, 1, *size)
    assert all(tensor.isfinite().all() for tensor in (*photo.values(), *clip.values()))


def test_embeds_are_those_of_the_real_tokenizer_s_tokens(project):
    make(project, f"{GAMING}_prompts.safetensors", f"{AKITA}_prompts.safetensors")
    tokenizer = PromptTokenizer(next(project.glob("resources/weights/Wan-AI*/tokenizer")))
    embeds = load_embeds(project / f"{GAMING}_prompts.safetensors")
    assert [tuple(prompt.shape) for prompt in embeds] == [(len(tokenizer.tokenise_text(SAID)), 4096)] * PROMPTS
    assert all(prompt.isfinite().all() for prompt in embeds)


@pytest.mark.parametrize(("concept", "stage"), [("akita", 1), ("gaming", 1), ("gaming", 2)])
def test_a_stage_trains_the_binders_of_all_30_blocks(project, concept, stage):
    folder = Path(f"{RESULTS}/bico/binders/{concept}")
    make(project, f"{folder}/stage{stage}.safetensors")
    binder, made = load_binder(project / folder / f"stage{stage}.safetensors", 1536, 30)
    assert binder.spec.dual == (stage == 2) and made["stage"] == stage
    assert all(parameter.isfinite().all() for parameter in binder.parameters())
    assert all(block.gamma.item() != 0 for block in binder.block_binders)
    log = [json.loads(line) for line in (project / folder / f"stage{stage}.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(STEPS))


def test_a_composition_binds_each_word_by_its_own_concept(project):
    path = f"{RESULTS}/bico/compositions/akita_plays_a_game/bound.safetensors"
    make(project, path)
    header, bound = read_header(project / path), load_bound_prompt(project / path)
    assert bound.contexts.shape == bound.negative.shape == (30, 1, 512, 1536)
    owners = [owner or "" for owner in header["owner"]]
    assert "".join(header["tokens"]).replace("▁", " ").strip().startswith("An Akita dog raises both arms in a cosy")
    assert owners == sorted(owners, key=["akita", "gaming", ""].index)
    moved = (bound.contexts[0, 0] != bound.contexts[-1, 0]).any(-1)
    assert torch.equal(moved[: len(owners)], torch.tensor([bool(owner) for owner in owners]))


def test_compositions_are_rendered_as_a_video_and_as_an_image(project):
    video, image = (
        f"{RESULTS}/bico/compositions/{name}" for name in ("akita_plays_a_game/seed0.mp4", "portrait/seed0.png")
    )
    make(project, video, image)
    assert read_frames(project / video).shape == (5, 64, 112, 3)
    assert read_frames(project / image).shape == (1, 64, 112, 3)
    assert read_frames(project / video).std() > 1


def test_results_are_measured_by_the_real_models_classes(project):
    make(project, f"{RESULTS}/bico/metrics.csv")
    with open(project / RESULTS / "bico" / "metrics.csv", encoding="utf-8") as file:
        found = {(row["composition"], row["metric"], row["concept"]): row for row in csv.DictReader(file)}
    for composition, concept in (
        ("akita_plays_a_game", "akita"),
        ("akita_plays_a_game", "gaming"),
        ("portrait", "akita"),
    ):
        assert -1 <= float(found[composition, "dino", concept]["value"]) <= 1
        assert -1 <= float(found[composition, "clip_t", ""]["value"]) <= 1
    assert found["portrait", "smoothness", ""]["reason"] == "the result is a still"


def test_the_page_shows_everything_and_nothing_is_left_to_do(project):
    make(project)
    page = (project / RESULTS / "bico" / "index.html").read_text("utf-8")
    assert all(row["composition"] in page for row in csv.DictReader(COMPOSITIONS.splitlines()))
    assert "Nothing to be done" in make(project, "--dry-run")


def test_no_job_needed_more_than_12_gb(project):
    make(project)
    used = {}
    for path in (project / RESULTS / "benchmarks").rglob("*.tsv"):
        (row,) = csv.DictReader(path.read_text().splitlines(), delimiter="\t")
        used[path.stem] = 0.0 if row["max_rss"] == "NA" else float(row["max_rss"])
    assert 5000 < max(used.values()) < 12000, used
