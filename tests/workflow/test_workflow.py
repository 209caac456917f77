"""The workflow as a person runs it: one small finished run, then what a change would run again."""

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from bico.media.video import write_video
from bico.models.components import component_digest
from bico.render.bound_prompt import load_bound_prompt, read_header
from bico.runtime.provenance import file_digest
from tests import ROOT
from tests.project import edit, make_project, planned_jobs, python, snakemake, succeed


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model) -> Path:
    """A copy of the project with a small manifest, run to its end."""
    folder = tmp_path_factory.mktemp("project")
    make_project(folder, tiny_model)
    succeed(folder)
    return folder


@pytest.fixture
def project(finished, tmp_path) -> Path:
    """A copy of the finished run that a test may change; dates are kept."""
    shutil.copytree(finished, tmp_path / "project")
    return tmp_path / "project"


def test_a_second_call_does_nothing(project):
    assert "Nothing to be done" in succeed(project)


def test_every_video_is_rendered_beside_its_sheet_and_shown_on_the_page(finished):
    results = finished / "results"
    for name, frames in (("both/seed0.mp4", 9), ("free/seed0.mp4", 9)):
        path = results / "bico" / "compositions" / name
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, stream.average_rate) == (48, 32, 15)
            assert sum(1 for _ in container.decode(stream)) == frames
        assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")
        assert Image.open(f"{path}.sheet.jpg").width > 300
    assert Image.open(results / "bico" / "compositions" / "still" / "seed0.png").size == (48, 32)
    page = (results / "bico" / "index.html").read_text("utf-8")
    linked = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert {"compositions/both/seed0.mp4", "../concepts/red/red.png", "../concepts/slide/slide.mp4"} <= linked
    assert all((results / "bico" / link).is_file() for link in linked)


def test_a_bound_prompt_says_which_words_belong_to_whom(finished):
    path = finished / "results" / "bico" / "compositions" / "both" / "bound.safetensors"
    bound, header = load_bound_prompt(path), read_header(path)
    assert [piece["concept"] for piece in header["pieces"] if piece["concept"]] == ["red", "slide"]
    assert bound.contexts.shape == (4, 1, 64, 96)
    owner = header["owner"]
    assert owner[0] == "red" and owner[-1] is None and len(owner) == len(header["tokens"])
    free = [i for i in range(64) if i >= len(owner) or owner[i] is None]
    assert (bound.contexts[0, 0, free] == bound.contexts[-1, 0, free]).all()
    assert (bound.contexts[0, 0, 0] != bound.contexts[-1, 0, 0]).any()


def test_a_binder_says_all_that_made_it(finished):
    from bico.methods.bico.checkpoint import load_binder

    _, header = load_binder(finished / "results" / "bico" / "binders" / "slide" / "stage2.safetensors", 96, 4)
    assert header["format"] == "bico-binder" and header["version"] == 1
    assert (header["concept"], header["stage"], header["spec"]["dual"]) == ("slide", 2, True)
    assert header["settings"]["training"]["iterations"] == 4 and header["settings"]["method"]["beta"] == 0.875
    assert len(header["inputs"]["prompts"]) == 64 and header["code"]
    assert header["model"]["path"].endswith("transformer") and len(header["model"]["sha256"]) == 64


def test_each_job_leaves_a_log_and_a_benchmark(finished):
    results = finished / "results"
    assert (results / "logs" / "bind_stage2" / "bico.slide.log").is_file()
    assert "cpu_time" in (results / "benchmarks" / "render" / "bico.both.seed0.mp4.tsv").read_text()


def composed(*names: str) -> set[str]:
    """The jobs that make the videos of compositions anew from their binders, and draw how words are bound."""
    drawn = {f"plot_strength:bico:{name}" for name in names if name != "free"}
    return {f"compose:bico:{name}" for name in names} | drawn | rendered(*names)


def rendered(*names: str) -> set[str]:
    suffix = {"still": "png"}
    return {f"{rule}:bico:{name}:0:{suffix.get(name, 'mp4')}" for name in names for rule in ("render", "sheet")}


def trained(*stages: str) -> set[str]:
    """The jobs of stages of training, as `concept1` or `concept2`, and their plots."""
    jobs = {f"bind_stage{stage[-1]}:bico:{stage[:-1]}" for stage in stages}
    return jobs | {f"plot_training:bico:{stage[:-1]}:{stage[-1]}" for stage in stages}


RED = composed("both", "still")
PAGE = {"page:bico"}
TRAINING = trained("red1", "slide1", "slide2")


def change_prompt(folder):
    edit(folder / "config" / "compositions.csv", "(slide) in the snow.,", "(slide) in the rain.,")


def change_phrases(folder):
    edit(folder / "config" / "concepts.csv", "a grey wall", "a white wall")


def change_source(folder):
    Image.new("RGB", (64, 48), "orange").save(folder / "media" / "red.png")


def change_training_logic(folder):
    edit(folder / "bico/methods/bico/train.py", "for k in range(1, 10)", "for k in range(1, 9)")


def change_checkpointing(folder):
    edit(folder / "bico/runtime/runs.py", "time.sleep(0.5)", "time.sleep(0.7)")


def change_comments(folder):
    edit(folder / "bico/methods/bico/train.py", "    # -- setup\n", "    # -- another comment\n")
    edit(folder / "bico/methods/bico/binder.py", '"""The binder: Eq. 2', '"""The binders: Eq. 2')


def change_wording(folder):
    edit(folder / "bico/prompts/instructions.py", "English", "plain English")


def add_a_seed(folder):
    edit(folder / "config" / "compositions.csv", "alone.,0,", "alone.,0 7,")


def reorder_keys(folder):
    content = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    turned = {key: content[key] for key in reversed(content)}
    turned["training"] = dict(reversed(turned["training"].items()))
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(turned, sort_keys=False))


def touch_sources(folder):
    for path in (folder / "media").iterdir():
        path.touch()


def use_the_machine_otherwise(folder):
    compute = {"device": "cpu", "gradient_checkpointing": True, "checkpoint_minutes": 1}
    content = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(content | {"compute": compute}))


def change_model(key, value):
    def change(folder):
        content = yaml.safe_load((folder / "model.yaml").read_text("utf-8"))
        (folder / "model.yaml").write_text(yaml.safe_dump(content | {key: value}, allow_unicode=True), "utf-8")

    return change


def change_config(section, **values):
    def change(folder):
        content = yaml.safe_load((folder / "config" / "config.yaml").read_text())
        content[section] = content.get(section, {}) | values
        (folder / "config" / "config.yaml").write_text(yaml.safe_dump(content))

    return change


def replace_source_by_an_older_file(folder):
    replace_by_an_older(folder / "media" / "red.png", lambda path: Image.new("RGB", (64, 48), "orange").save(path))


def replace_by_an_older(target, make):
    """As `mv`, `cp -p`, `rsync -t` and unzip do: another content under a date of last month."""
    other = target.with_name(f"other{target.suffix}")
    make(other)
    os.utime(other, (target.stat().st_mtime - 30 * 86400,) * 2)
    shutil.move(other, target)


def put_an_older_copy_of_the_prompts_back(folder):
    path = folder / "results" / "concepts" / "red" / "red_prompts.csv"
    text = path.read_text("utf-8")
    replace_by_an_older(path, lambda other: other.write_text(text.replace("a red square", "the red square"), "utf-8"))


def give_a_source_another_name_and_date(folder):
    (folder / "media" / "red.png").rename(folder / "media" / "renamed.png")
    (folder / "media" / "renamed.png").touch()
    edit(folder / "config" / "concepts.csv", "media/red.png", "media/renamed.png")


def copy_the_weights_to_another_folder(folder):
    shutil.copytree(folder / "resources" / "weights", folder / "elsewhere")
    shutil.rmtree(folder / "resources" / "weights")
    content = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(content | {"weights": "elsewhere"}))


def remove(*names):
    def change(folder):
        for name in names:
            path = folder / "results" / "bico" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def forget_all_that_snakemake_knows(folder):
    shutil.rmtree(folder / ".snakemake")
    for path in (folder / "results").rglob("*"):  # dates as the copying of a folder leaves them: in no order
        if path.is_file():
            os.utime(path, (1.7e9 + zlib.crc32(path.name.encode()) % 1e7,) * 2)


def rename_the_results(folder):
    (folder / "results").rename(folder / "others")
    content = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(content | {"results": "others"}))


def say_the_same_values_otherwise(folder):
    """5 and 5.0, x and ./x, a number as text."""
    change_model("shift", 5.0)(folder)
    change_config("training", iterations=4.0, learning_rate="1e-3")(folder)
    edit(folder / "config" / "concepts.csv", "media/red.png", "./media/red.png")
    edit(folder / "config" / "compositions.csv", "alone.,0,2,", "alone.,0,2.0,")


def after(*changes):
    def change(folder):
        for one in changes:
            one(folder)

    return change


def say_the_same_in_other_words(folder):
    """Version, log lines, error and help texts."""
    edit(folder / "bico" / "__init__.py", '__version__ = "', '__version__ = "1')
    edit(folder / "bico/methods/bico/train.py", 'log.info("resuming at step', 'log.info("going on at step')
    edit(
        folder / "bico/methods/bico/train.py",
        "the gradient is {norm.item()}",
        "the norm of the gradient is {norm.item()}",
    )
    edit(folder / "scripts" / "trim.py", 'help="', 'help="is ')


def change_loss_plot(folder):
    edit(folder / "bico/report/plots.py", 'xlabel="step", ylabel="gamma"', 'xlabel="steps", ylabel="gamma"')


def change_download(folder):
    edit(folder / "bico/weights/fetch.py", "max_workers=4", "max_workers=8")


WRITTEN = {job for name in ("red", "slide") for job in (f"prompts:{name}", f"encode_prompts:{name}:prompts")}
PROMPTS_OF_RED = {"concepts:red", "prompts:red", "encode_prompts:red:prompts"}
RED_FROM_ITS_SOURCE = {"trim:red:png", "encode_latents:red"} | PROMPTS_OF_RED | trained("red1") | RED


@pytest.mark.parametrize(
    ("change", "jobs"),
    [
        (change_prompt, composed("both")),
        (add_a_seed, {"render:bico:still:7:png", "sheet:bico:still:7:png"}),
        (change_phrases, PROMPTS_OF_RED | trained("red1") | RED),
        (change_source, RED_FROM_ITS_SOURCE),
        (replace_source_by_an_older_file, RED_FROM_ITS_SOURCE),
        (after(forget_all_that_snakemake_knows, replace_source_by_an_older_file), RED_FROM_ITS_SOURCE),
        (put_an_older_copy_of_the_prompts_back, {"encode_prompts:red:prompts"} | trained("red1") | RED),
        (after(forget_all_that_snakemake_knows, rename_the_results), set()),
        (
            after(forget_all_that_snakemake_knows, change_config("training", learning_rate=0.002)),
            TRAINING | RED,
        ),
        (remove("compositions/both/seed0.mp4"), rendered("both")),
        (remove("compositions"), composed("both", "still", "free")),
        (remove("binders/slide/stage2.png"), {"plot_training:bico:slide:2"}),
        (change_training_logic, TRAINING | RED),
        (change_checkpointing, TRAINING | RED | rendered("free")),
        (change_config("prompts", count=4), WRITTEN | trained("red1", "slide2") | RED),
        (change_config("training", learning_rate=0.002), TRAINING | RED),
        (change_config("training", iterations_images=3), trained("red1") | RED),
        (change_config("training", iterations_frames=3), trained("slide1", "slide2") | composed("both")),
        (change_config("training", batch_size_clips=4), trained("slide2") | composed("both")),
        (change_config("method", temporal_start="copy"), trained("slide2") | composed("both")),
        (change_config("method", absorbent="none"), TRAINING | RED),
        (change_model("fps", 10), rendered("both", "still", "free")),
        (change_loss_plot, {job for job in TRAINING if job.startswith("plot")}),
        (
            change_config("compute", vae_tiling=True),
            {"encode_latents:red", "encode_latents:slide"} | TRAINING | RED | rendered("free"),
        ),
    ],
)
def test_a_change_runs_exactly_what_depends_on_it(project, change, jobs):
    change(project)
    assert planned_jobs(project) == (jobs and jobs | PAGE)


WITHOUT_EFFECT = (
    say_the_same_values_otherwise,
    say_the_same_in_other_words,
    give_a_source_another_name_and_date,
    copy_the_weights_to_another_folder,
    change_download,
    change_comments,
    change_wording,
    touch_sources,
    use_the_machine_otherwise,
    change_config("compute", gpus=2),
    change_config("compute", offload="cpu"),
    reorder_keys,
)


def test_changes_that_no_result_depends_on_run_nothing_even_all_together(project):
    after(*WITHOUT_EFFECT)(project)
    assert planned_jobs(project) == set()


def use_a_newer(package, folder):
    """A newer release as the package index would leave it: metadata that Python finds first."""
    info = folder / f"{package}-99.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.0\n")


def test_a_newer_av_runs_what_reads_clips_again_and_nothing_of_images_alone(project):
    use_a_newer("av", project)
    of_clips = {"frames:slide", "encode_latents:slide", "spatial_prompts:slide", "encode_prompts:slide:spatial_prompts"}
    sheets = {job for job in RED | rendered("free") if job.startswith("sheet")}
    jobs = of_clips | trained("slide1", "slide2") | composed("both") | sheets | PAGE
    assert planned_jobs(project, PYTHONPATH=str(project)) == jobs


def test_a_source_that_is_replaced_while_its_job_runs_is_trimmed_again(project):
    """By a file with an older date, after the job has read it."""
    replace = (
        "; import os, shutil; os.utime('media/new.png', (1e9, 1e9)); shutil.move('media/new.png', 'media/red.png')"
    )
    edit(project / "scripts" / "trim.py", "    run(main)", f"    run(main){replace}")
    Image.new("RGB", (64, 48), "orange").save(project / "media" / "new.png")
    succeed(project, "results/concepts/red/red.png")
    assert planned_jobs(project, "results/concepts/red/red.png") == {"trim:red:png"}


def test_a_newer_diffusers_runs_what_loads_its_models_again(project):
    use_a_newer("diffusers", project)
    encoding = {"encode_latents:red", "encode_latents:slide"}
    everything = encoding | TRAINING | RED | composed("free") | PAGE
    assert planned_jobs(project, PYTHONPATH=str(project)) == everything


def test_another_revision_of_a_component_runs_again_what_uses_it(project):
    manifest = project / "resources" / "weights" / "manifests" / "tiny" / "vae.json"
    edit(manifest, '"sha256": "', '"sha256": "0')
    encoding = {"encode_latents:red", "encode_latents:slide"}
    assert planned_jobs(project) == encoding | TRAINING | RED | rendered("free") | PAGE


def test_an_edited_wording_of_the_language_model_runs_its_prompts_and_on_where_it_is_asked(project):
    change_config("prompts", writer="vlm", count=1, max_new_tokens=3, attempts=0)(project)
    target = "results/concepts/red/red_prompts.csv"
    succeed(project, target)
    assert planned_jobs(project, target) == set()
    change_wording(project)
    assert planned_jobs(project, target) == {"prompts:red"}


def test_two_concepts_never_run_again_for_each_others_sake(project):
    row = "other,media/red.png,a red thing,"
    edit(project / "config" / "concepts.csv", "slide,media", f"{row}\nslide,media")
    edit(project / "config" / "compositions.csv", "free,Only", "new,[A red thing](other) here.,0,2,\nfree,Only")
    jobs = planned_jobs(project) - PAGE
    assert jobs and all("other" in job or "new" in job for job in jobs)


def test_a_video_says_what_made_it(finished):
    folder = finished / "results" / "bico"
    made = json.loads((folder / "compositions" / "both" / "seed0.mp4.json").read_text())
    assert made["sha256"] == file_digest(folder / "compositions" / "both" / "seed0.mp4")
    bound = made["inputs"]["bound_prompt"]
    assert bound["sha256"] == file_digest(folder / "compositions" / "both" / "bound.safetensors")
    assert [binder["concept"] for binder in bound["binders"]] == ["red", "slide"]
    encoded = bound["made_by"]
    assert encoded["versions"]["transformers"] and (encoded["device"], encoded["dtypes"]) == (
        "cpu",
        {"text_encoder": "float32"},
    )
    manifest = finished / "resources" / "weights" / "manifests" / "tiny" / "text_encoder.json"
    assert encoded["inputs"]["text_encoder"]["sha256"] == component_digest(manifest)
    assert bound["binders"][1]["sha256"] == file_digest(folder / "binders" / "slide" / "stage2.safetensors")
    assert bound["binders"][1]["inputs"]["latents"] == file_digest(
        finished / "results/concepts/slide/latents.safetensors"
    )
    assert (
        made["settings"]["steps"] == 2
        and made["versions"]["diffusers"]
        and made["dtypes"]
        == {
            "transformer": "float32",
            "vae": "float32",
        }
    )


def explained(folder: Path, result: str) -> str:
    done = python("from bico.cli import entry; entry()", folder, "explain", result)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_explain_says_in_plain_words_why_a_result_would_or_would_not_be_made_again(project):
    result = "results/bico/compositions/both/seed0.mp4"
    before = explained(project, result)
    assert "rendered from the prompt: [A red square](red) [slides to the right](slide) in the snow." in before
    assert before.strip().endswith("It would not be made again: nothing that it depends on has changed.")
    change_prompt(project)
    after = explained(project, result)
    assert "It would be made again, by 2 jobs:" in after
    assert '- compose bico both: prompt was "[A red square](red) [slides to the right](slide) in the snow."' in after
    replace_source_by_an_older_file(project)
    change_training_logic(project)
    after = explained(project, result)
    assert "- trim red png: changed: media/red.png" in after
    assert "- bind_stage1 bico slide: its code changed" in after
    assert "is not there yet" in explained(project, "results/bico/binders/red/released.safetensors")


def test_swapping_the_values_of_two_settings_is_seen(project):
    change_config("method", alpha=0.8, beta=0.9)(project)
    succeed(project, "results/bico/binders/red/stage1.safetensors")
    assert "bind_stage1:bico:red" not in planned_jobs(project)
    change_config("method", alpha=0.9, beta=0.8)(project)
    assert "bind_stage1:bico:red" in planned_jobs(project)


def test_an_exported_binder_composes_beside_a_native_one_in_the_other_syntax_to_the_very_same_video(project):
    succeed(project, "results/bico/binders/red/released.safetensors")
    shutil.copy(project / "results" / "bico" / "binders" / "red" / "released.safetensors", project / "old.safetensors")
    header = "concept,source,spatial,temporal"
    edit(project / "config" / "concepts.csv", f"{header}\n", f"{header},binder\nold,,,,old.safetensors\n")
    row = "mixed,# # in the snow. | [A red square](old) | [slides to the right](slide),0,2,"
    edit(project / "config" / "compositions.csv", "free,Only", f"{row}\nfree,Only")
    succeed(project)
    mixed, both = (project / "results" / "bico" / "compositions" / name / "seed0.mp4" for name in ("mixed", "both"))
    assert mixed.read_bytes() == both.read_bytes()


def trained_as(method: str, *stages: str) -> set[str]:
    return {job.replace("bico", method) for job in trained(*stages)}


def test_ablations_run_the_manifest_under_each_overlay_and_give_one_table(project):
    """The one that differs in nothing is planned, and then begins with the binders that the method has trained."""
    folder = project / "config" / "ablations"
    folder.mkdir()
    (folder / "global_only.yaml").write_text("method: {per_block: false, temporal_stage: false}\n")
    (folder / "full.yaml").write_text("method: {preset: paper}\n")
    (project / "config" / "few.csv").write_text(
        "composition,prompt,steps,frames\nstill,[A red square](red) alone.,2,1\n"
    )
    few = ("ablations", "--config", "compositions=config/few.csv")
    jobs = {job for job in planned_jobs(project, *few) if job.startswith(("bind", "plot_training"))}
    assert jobs == trained_as("global_only", "red1", "slide1") | trained_as("full", "red1", "slide1", "slide2")
    for folder in ("results", "results/.records"):
        shutil.copytree(project / folder / "bico", project / folder / "full")
    assert "bind_stage1:full:red" not in planned_jobs(project, *few)
    succeed(project, *few)
    table = (project / "results" / "ablations.md").read_text().splitlines()
    assert table[2].startswith("| full | nothing | ")
    assert table[3].startswith("| global_only | per_block: false, temporal_stage: false | ")
    figures = [float(cell) for line in table[2:4] for cell in line.split("|")[3:5]]
    assert len(figures) == 4 and all(-100 < figure < 100 for figure in figures)
    for name in ("global_only", "full"):
        page = project / "results" / name / "index.html"
        assert all((page.parent / link).is_file() for link in re.findall(r'(?:src|href)="([^"]+)"', page.read_text()))
    assert planned_jobs(project) == set()


@pytest.fixture
def elsewhere(project, tmp_path) -> Path:
    """A folder with a person's own tables, media and weights, and nothing of the workflow."""
    folder = tmp_path / "else where"
    folder.mkdir()
    for name in ("config", "media", "resources", "model.yaml"):
        shutil.move(project / name, folder / name)
    return folder


def test_it_runs_in_another_working_directory(project, elsewhere):
    succeed(project, "--directory", str(elsewhere), "results/concepts/red/red.png", "results/concepts/slide/slide.mp4")
    assert (elsewhere / "results" / "concepts" / "red" / "red.png").is_file()


def test_another_workflow_uses_it_as_a_module_and_renders(project, elsewhere):
    shutil.move(project / "results", elsewhere / "results")
    video = elsewhere / "results" / "bico" / "compositions" / "free" / "seed0.mp4"
    before = video.read_bytes()
    shutil.rmtree(video.parent)
    (elsewhere / "Snakefile").write_text(
        'configfile: "config/config.yaml"\n'
        f'module bico:\n    snakefile: "{project}/workflow/Snakefile"\n    config: config\n'
        "use rule * from bico as bico_*\n"
        'rule mine:\n    default_target: True\n    input: "results/bico/compositions/free/seed0.mp4"\n'
    )
    assert planned_jobs(elsewhere) == {"bico_compose:bico:free", "bico_render:bico:free:0:mp4", "mine"}
    succeed(elsewhere)
    assert video.read_bytes() == before


def test_results_copied_into_a_fresh_checkout_are_not_made_again(project, tmp_path):
    subprocess.run(["cp", "-r", project, tmp_path / "clone"], check=True)  # new dates everywhere
    assert planned_jobs(tmp_path / "clone") == set()


def test_a_finished_run_changes_only_the_edited_compositions_files(project):
    before = {path: path.read_bytes() for path in (project / "results").glob("[bc]*/**/*") if path.is_file()}
    before = {path: content for path, content in before.items() if ".embeds" not in path.parts}
    change_prompt(project)
    succeed(project)
    changed = {path for path, content in before.items() if path.read_bytes() != content}
    folder = project / "results" / "bico" / "compositions" / "both"
    rest = {folder.parent.parent / "index.html", *(project / "results" / "benchmarks").glob("**/*")}
    rest |= {*folder.glob(".runs/*/lock")}
    assert changed <= {*folder.iterdir()} | rest
    assert folder / "seed0.mp4" in changed


def test_missing_weights_stop_it_before_any_job_with_the_one_command(project):
    shutil.rmtree(project / "resources")
    stopped = snakemake(project)
    said = stopped.stdout + stopped.stderr
    assert stopped.returncode != 0
    for part in ("weights of model 'tiny' (model.yaml) are missing", "transformer: ", "vae: ", "tokenizer: "):
        assert part in said
    assert "Get them with: snakemake weights --cores 1 --config model=model.yaml weights=resources/weights" in said
    assert "Execute" not in said


def test_bad_input_stops_it_before_any_job_with_all_problems(project):
    edit(project / "config" / "concepts.csv", "media/red.png", "media/none.png")
    change_prompt(project)
    edit(project / "config" / "compositions.csv", "(slide) in the rain.", "(slid) in the rain.")
    stopped = snakemake(project)
    said = stopped.stdout + stopped.stderr
    assert stopped.returncode != 0 and "Execute" not in said
    assert "config/concepts.csv, row 2, source: no such file: media/none.png" in said
    assert "config/compositions.csv, row 2, prompt: a link to 'slid', which is no concept" in said


def test_a_concept_that_the_model_cannot_name_fails_with_the_raw_text_and_the_rest_goes_on(project):
    """The tiny model's answers are noise: the language model's path runs to its honest end."""
    edit(project / "config" / "concepts.csv", "a red square; a grey wall", "")
    stopped = snakemake(project, "--keep-going")
    said = stopped.stdout + stopped.stderr
    assert stopped.returncode != 0
    assert "the raw text:" in said
    assert not (project / "results" / "concepts" / "red" / "red.json").exists()


def test_planning_never_imports_torch(project):
    code = (
        "import sys; from snakemake.cli import main\n"
        "try: main(['--dry-run', '--quiet', 'all'])\n"
        "except SystemExit as end: code = end.code\n"
        "print(json_modules := sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'diffusers',"
        " 'transformers'})); sys.exit(code)"
    )
    clean = {"PATH": os.environ["PATH"], "HOME": str(project)}
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")


def test_the_reports_of_prompts_give_the_share_that_kept_the_key_phrases(finished):
    report = json.loads((finished / "results/concepts/slide/slide_spatial_prompts.report.json").read_text())
    assert (report["count"], report["share_kept"]) == (9, 1.0)


@pytest.fixture(scope="module")
def twins(finished, tmp_path_factory) -> Path:
    """The compositions of the unbound twin, made from the finished run's concepts into a folder of results with a space
    in its name."""
    project = tmp_path_factory.mktemp("twins") / "project"
    shutil.copytree(finished, project)
    (project / "config" / "methods").mkdir()
    shutil.copy(ROOT / "config" / "methods" / "unbound.yaml", project / "config" / "methods")
    content = yaml.safe_load((project / "config" / "config.yaml").read_text())
    (project / "config" / "config.yaml").write_text(yaml.safe_dump(content | {"results": "my results"}))
    made = Path("my results", "unbound", "compositions")
    succeed(project, f"{made}/free/seed0.mp4.sheet.jpg", f"{made}/both/bound.safetensors")
    return project / made


def test_a_folder_of_results_may_have_spaces(twins):
    assert {path.name for path in (twins / "free").glob("seed*")} == {
        "seed0.mp4",
        "seed0.mp4.json",
        "seed0.mp4.sheet.jpg",
    }


def test_results_stand_beside_their_unbound_twins_on_sheet_and_page(project):
    """Where no word is linked there is no twin, for it would be the very same video."""
    wanted, made = ("--config", "report={unbound: true}"), project / "results"
    twins = {f"compose_unbound:unbound:{name}" for name in ("both", "still")}
    twins |= {"render:unbound:both:0:mp4", "render:unbound:still:0:png"}
    shown = {"sheet:bico:both:0:mp4", "sheet:bico:still:0:png", "page:bico"}
    assert planned_jobs(project, *wanted) == twins | shown
    succeed(project, *wanted)
    assert planned_jobs(project, *wanted) == set()
    page = (made / "bico" / "index.html").read_text("utf-8")
    assert "../unbound/compositions/both/seed0.mp4" in page and "../unbound/compositions/free" not in page


def test_the_page_lists_the_words_that_can_be_linked(finished):
    page = (finished / "results" / "bico" / "index.html").read_text("utf-8")
    for words in ("[a red square](red)", "[a grey wall](red)", "[slides to the right](slide)"):
        assert f"<code>{words}</code>" in page


def test_videos_made_elsewhere_are_taken_and_shown_beside_and_what_is_not_there_is_said(project):
    theirs = project / "elsewhere" / "both"
    theirs.mkdir(parents=True)
    shutil.copy(project / "results" / "bico" / "compositions" / "free" / "seed0.mp4", theirs)
    (project / "config" / "methods").mkdir()
    (project / "config" / "methods" / "theirs.yaml").write_text("method: {kind: external, videos: elsewhere}")
    planned = {"external:theirs:both:0:mp4", "sheet:theirs:both:0:mp4", "page:theirs", "methods"}
    assert planned_jobs(project, "methods") == planned
    succeed(project, "methods")
    taken = project / "results" / "theirs" / "compositions" / "both" / "seed0.mp4"
    assert taken.read_bytes() == (theirs / "seed0.mp4").read_bytes()
    page = (project / "results" / "theirs" / "index.html").read_text("utf-8")
    assert 'src="compositions/both/seed0.mp4"' in page and "elsewhere/still/seed0.png: not there" in page
    assert "was made elsewhere and taken from elsewhere/both/seed0.mp4" in explained(
        project, str(taken.relative_to(project))
    )
    shutil.copy(project / "results" / "bico" / "compositions" / "both" / "seed0.mp4", theirs)
    assert planned_jobs(project, "methods") == planned


def test_a_video_made_elsewhere_that_is_too_short_is_refused_by_name(project):
    (project / "elsewhere" / "both").mkdir(parents=True)
    write_video(project / "elsewhere" / "both" / "seed0.mp4", np.zeros((3, 32, 48, 3), np.uint8), 15)
    stopped = snakemake(project, "--config", "method={kind: external, videos: elsewhere}")
    said = stopped.stdout + stopped.stderr
    assert "error: elsewhere/both/seed0.mp4: 3 frames; the composition has 9" in said


BRIGHTNESS = """
from bico.evaluate.measure import Measurement
from bico.media.video import read_frames
def measure(result, sources, pieces):
    yield Measurement("brightness", float(read_frames(result).mean()), meaning="how bright it is")
"""


def test_results_and_their_twins_are_measured_and_only_what_changed_is_measured_again(project):
    """With all that the configuration can name: two models, optical flow, a module of one's own."""
    content = yaml.safe_load((project / "config" / "config.yaml").read_text())
    content |= {"report": {"unbound": True}, "evaluation": {"metrics": ["clip", "dino", "motion", "brightness"]}}
    (project / "config" / "config.yaml").write_text(yaml.safe_dump(content))
    (project / "brightness.py").write_text(BRIGHTNESS)
    said = succeed(project, "all", "compare")
    assert "page: results/bico/index.html\n" in said and "comparison: results/compare.html\n" in said
    assert planned_jobs(project, "all", "compare") == set()
    made = project / "results"
    found = pd.read_csv(made / "bico" / "metrics.csv").set_index(["composition", "metric"]).sort_index()
    assert set(found.loc["both"].index) >= {"clip_t", "dino_i", "dino", "motion", "dynamic_degree", "brightness"}
    assert found.loc[("still", "dynamic_degree"), "reason"] == "the result is a still"
    assert found.loc[("free", "dino_i"), "reason"] == "it has no source"
    comparison = (made / "compare.md").read_text("utf-8")
    assert "| dino_i | unbound |" in comparison and "`brightness`: how bright it is" in comparison
    page = (made / "bico" / "index.html").read_text("utf-8")
    assert "<summary>Metrics, bound and unbound</summary>" in page and 'title="how bright it is"' in page

    copied = project.with_name("copied")  # the dates of a copy are no cause
    shutil.copytree(project, copied, copy_function=shutil.copyfile)
    assert planned_jobs(copied, "all", "compare") == set()
    (made / "bico" / "compositions" / "still" / "seed0.png.metrics.json").unlink()
    anew = {"measure:bico:still:0:png", "metrics:bico", "page:bico"}
    assert planned_jobs(project) == anew
    edit(project / "brightness.py", "read_frames(result).mean()", "read_frames(result).max()")
    measured = {f"measure:{method}:{name}" for method in ("bico", "unbound") for name in ("both:0:mp4", "still:0:png")}
    measured |= {"measure:bico:free:0:mp4", "measure:unbound:free:0:mp4"}
    assert planned_jobs(project) >= measured and not {
        job for job in planned_jobs(project) if job.startswith("features")
    }


def test_people_can_rate_what_methods_made_without_knowing_which(project):
    wanted = ("--config", "report={unbound: true}")
    made = {f"compose_unbound:unbound:{name}" for name in ("both", "still")}
    made |= {"render:unbound:both:0:mp4", "render:unbound:still:0:png", "rating"}
    assert planned_jobs(project, "rating", *wanted) == made
    succeed(project, "rating", *wanted)
    assert planned_jobs(project, "rating", *wanted) == set()
    key = pd.read_csv(project / "results" / "rating_key.csv")
    assert sorted(zip(key.method, key.composition, strict=True)) == [
        (method, name) for method in ("bico", "unbound") for name in ("both", "still")
    ]
    page = (project / "results" / "rating" / "index.html").read_text("utf-8")
    assert all(item in page for item in key.item) and "“A red square alone.”" in page
    change_prompt(project)
    assert "rating" in planned_jobs(project, "rating", *wanted)


def test_a_metric_that_does_not_exist_is_refused_by_name(project):
    stopped = snakemake(project, "--dry-run", "--config", "evaluation={metrics: [motoin]}")
    said = stopped.stdout + stopped.stderr
    assert "evaluation.metrics: found 'motoin', allowed: clip, dino, motion, or a module that Python finds" in said
