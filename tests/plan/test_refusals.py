"""What a person sees of a configuration, a table or a target that cannot be: through Snakemake, and all at once."""

import shutil

import pytest
import yaml

from bico import InputError
from bico.methods.bico.binder import BinderSpec, ConceptBinder
from bico.methods.bico.checkpoint import save_binder
from bico.plan.plan import Plan
from bico.text.phrases import Phrases, write_phrases
from tests import ROOT
from tests.project import snakemake

TABLES = {
    "concepts.csv": "concept,source,spatial,temporal,binder\nred,red.png,a red square,,\nold,,,,old.safetensors\n",
    "compositions.csv": "composition,prompt,frames\nfilm,[A square](red) glows.,\nstill,[A square](red) glows.,1\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The workflow with two small tables and no weights: enough to be planned, or refused."""
    for name in ("workflow", "scripts", "bico"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "environment.yml", tmp_path)
    (tmp_path / "config").mkdir()
    for name, text in TABLES.items():
        (tmp_path / "config" / name).write_text(text, "utf-8")
    config = {"model": str(ROOT / "config" / "models" / "world.yaml"), "training": {"iterations": 80}}
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    shutil.copy(ROOT / "resources" / "media" / "world" / "striped_star.png", tmp_path / "red.png")
    save_binder(tmp_path / "old.safetensors", ConceptBinder(BinderSpec(256, 6, per_block=False)), {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(**changes) -> dict:
    return {"model": str(ROOT / "config" / "models" / "world.yaml"), **changes}


def refused(given: dict) -> list[str]:
    with pytest.raises(InputError) as error:
        Plan.load(given)
    return error.value.problems


def test_problems_of_the_configuration_the_model_file_the_tables_and_the_ablations_are_told_at_once(project):
    (project / "config" / "compositions.csv").write_text("composition,prompt,steps\nx,[A](zoe),0\n", "utf-8")
    (project / "model.yaml").write_text("name: x\nname: y\n", "utf-8")
    (project / "config" / "ablations").mkdir()
    (project / "config" / "ablations" / "a.yaml").write_text("method: {gate: open}", "utf-8")
    (project / "overlay.yaml").write_text("results: a\nresults: b\n", "utf-8")
    with pytest.raises(InputError) as error:
        Plan.load({"model": "model.yaml", "traning": {}}, files=["overlay.yaml"])
    for says in (
        "overlay.yaml, line 2: 'results' is there already",
        "the configuration: top level: 'traning' is unknown; did you mean 'training'?",
        "model.yaml, line 2: 'name' is there already",
        "config/compositions.csv, row 2, prompt: a link to 'zoe'",
        "config/compositions.csv, row 2, steps: found '0'",
        "a.yaml: method.gate: found 'open'",
    ):
        assert any(says in problem for problem in error.value.problems), says
    assert len(error.value.problems) == 6


def test_a_file_that_a_bad_setting_would_name_is_not_asked_and_its_default_neither(project):
    (project / "config" / "concepts.csv").write_text("concept;source\n", "utf-8")
    assert refused(config(concepts="")) == ["the configuration: concepts: found nothing, allowed: a path"]


def test_a_folder_that_cannot_be_one_and_ablations_that_are_not_there_are_refused(project):
    (project / "file").touch()
    assert refused(config(results="file")) == ["results: file is no folder"]
    assert refused(config(weights="file/x")) == ["weights: file is no folder"]
    assert refused(config(ablations="config/abl")) == ["ablations: no such folder: config/abl"]


def test_a_stage_that_a_concept_does_not_have_is_refused(project):
    loaded = Plan.load(config())
    with pytest.raises(InputError, match="under method 'bico', concept 'red' has stage 1 alone"):
        loaded.main.prompts_of(loaded, "red", 2)
    with pytest.raises(InputError, match="under method 'bico', concept 'old' has a finished binder and no stages"):
        loaded.main.prompts_of(loaded, "old", 1)
    with pytest.raises(InputError, match="no method is called 'other'; there are: bico, unbound"):
        loaded.check_target("results/other/index.html")


def test_numbers_and_switches_in_a_section_of_the_command_line_are_taken(project):
    options = ("training={iterations: 5, learning_rate: 1e-4}", "compute={vae_tiling: true}")
    done = snakemake(project, "--dry-run", "--config", *options)
    assert "weights of model 'world'" in done.stdout + done.stderr and "iterations" not in done.stderr
    done = snakemake(project, "--dry-run", "--config", "training={iterations: five}")
    assert "error: the configuration: training.iterations: found 'five', allowed: a whole number" in done.stderr


def test_an_empty_section_of_an_overlay_leaves_what_the_configuration_says_in_it(project):
    (project / "overlay.yaml").write_text("training:\n", "utf-8")
    with (project / "workflow" / "rules" / "common.smk").open("a") as file:
        file.write("\nprint('ITERATIONS', plan.config['training']['iterations'])\n")
    done = snakemake(project, "--dry-run", "--configfile", "overlay.yaml")
    assert "ITERATIONS 80" in done.stdout


def test_a_refusal_is_a_message_and_nothing_else(project):
    (project / "overlay.yaml").write_text('training: {iterations: 1, iterations: 2}\nresults: ""\n', "utf-8")
    done = snakemake(project, "--dry-run", "--configfile", "overlay.yaml")
    assert done.returncode == 1
    assert done.stderr[done.stderr.index("error: ") :].splitlines() == [
        f"error: {project}/overlay.yaml, line 1: 'iterations' is there already, in line 1",
        "the configuration: results: found nothing, allowed: a path",
    ]
    (project / "config" / "config.yaml").write_text("# café\nresults: x\n", "latin-1")
    done = snakemake(project, "--dry-run")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: config/config.yaml, line 1: not UTF-8 text; it looks like Latin-1" in done.stderr


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("results/concepts/zoe/zoe.png", "no concept is called 'zoe'; there are: old, red"),
        ("results/other/index.html", "no method is called 'other'; there are: bico, unbound"),
        ("results/bico/binders/zoe/stage1.safetensors", "no concept is called 'zoe'; there are: old, red"),
    ],
)
def test_a_target_of_something_that_there_is_not_says_what_there_is(project, target, says):
    done = snakemake(project, "--dry-run", "--", target)
    assert done.returncode == 1 and done.stderr.endswith(f"error: {says}\n")


def test_a_method_of_an_unknown_kind_or_with_settings_of_another_is_refused(project):
    assert refused(config(method={"kind": "lora"})) == [
        "the configuration: method.kind: found 'lora', allowed: bico, external, unbound"
    ]
    (problem,) = refused(config(method={"kind": "unbound", "gate": "zero"}))
    assert problem.startswith("the configuration: method: 'gate' is unknown")
    assert refused(config(method={"kind": "external"})) == ["the configuration: method: missing: videos"]


def test_a_method_of_a_file_cannot_have_the_name_of_another_or_of_what_lies_beside_it(project):
    folder = project / "config" / "methods"
    folder.mkdir()
    (folder / "unbound.yaml").write_text("method: {kind: unbound}")
    assert list(Plan.load(config()).methods) == ["bico", "unbound"]
    assert list(Plan.load(config(method={"kind": "unbound"})).methods) == ["unbound"]
    (folder / "bico.yaml").write_text("method: {kind: external, videos: elsewhere}")
    (folder / "Logs.yaml").write_text("method: {kind: unbound}")
    assert refused(config()) == [f"config/methods: no method can be named {name}" for name in ("Logs", "bico")]


def test_an_ablation_is_of_the_methods_own_kind(project):
    (project / "config" / "ablations").mkdir(exist_ok=True)
    (project / "config" / "ablations" / "mine.yaml").write_text("method: {kind: unbound}")
    assert refused(config()) == ["config/ablations: mine is of another kind than bico"]


def test_a_link_to_a_concept_that_is_bound_to_other_words_is_warned_of_and_planned(project):
    rows = "composition,prompt\nfilm,[A cat](red) glows beside [a dog](old).\nfine,[The SQUARE;](red) glows.\n"
    (project / "config" / "compositions.csv").write_text(rows, "utf-8")
    (warning,) = Plan.load(config()).warnings()
    says = "config/compositions.csv, row 2, prompt: [A cat](red) has no word that 'red' is bound to: a red square"
    assert warning == says


def test_phrases_that_a_model_has_named_are_known_from_then_on(project):
    rows = "concept,source,spatial,temporal,binder\nred,red.png,,,\nold,,,,old.safetensors\n"
    (project / "config" / "concepts.csv").write_text(rows, "utf-8")
    assert not list(Plan.load(config()).warnings())
    write_phrases("results/concepts/red/red.json", Phrases(("a yellow star",)), "a model")
    assert [warning.split("bound to: ")[1] for warning in Plan.load(config()).warnings()] == ["a yellow star"] * 2
