import dataclasses
import datetime
import json
import math

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bico import InputError
from bico.methods import kinds, schema_of
from bico.methods.bico.switches import PRESETS, Switches
from bico.models.components import vae_factors
from bico.plan import plan as pipeline
from bico.plan.config import load_config, load_methods, readable
from bico.runtime.provenance import canonical
from bico.settings.model_file import load_model, size_problems
from tests import ROOT

FILES = [*(ROOT / "bico" / "settings" / "schemas").glob("*.yaml"), *map(schema_of, kinds())]
SCHEMAS = [yaml.safe_load(path.read_text("utf-8")) for path in FILES]
PAPER = {"kind": "bico", **dataclasses.asdict(PRESETS["paper"])}
SECTIONS = [schema["properties"] for schema in SCHEMAS]
SECTIONS += [field["properties"] for fields in SECTIONS for field in fields.values() if "properties" in field]
KNOWN = sorted({name for fields in SECTIONS for name in fields} | {"path", "repo", "revision"})


def test_an_empty_configuration_is_the_papers_method_with_the_schemas_defaults():
    config = load_config({})
    assert config["method"] == PAPER
    assert config["training"]["iterations"] == 2400 and config["training"]["learning_rate"] == 1e-4
    assert (config["prompts"]["count"], config["prompts"]["seed"]) == (60, 100)


def test_a_switch_stands_alone_on_top_of_its_preset():
    config = load_config({"method": {"preset": "released", "absorbent": "none"}})
    expected = dataclasses.asdict(dataclasses.replace(PRESETS["released"], absorbent="none"))
    assert config["method"] == {"kind": "bico", **expected}


def test_a_resolved_configuration_resolves_to_itself():
    config = load_config({"method": {"preset": "released"}, "training": {"iterations": 7}})
    assert load_config(config) == config


def test_all_problems_of_a_configuration_are_listed_with_their_fields():
    with pytest.raises(InputError) as error:
        load_config({"modell": "x", "training": {"iterations": 0}, "method": {"gate": "open"}})
    text = "\n".join(error.value.problems)
    assert len(error.value.problems) == 3
    assert "top level: 'modell' is unknown; did you mean 'model'?" in text
    assert "training.iterations: found 0, allowed: at least 1" in text
    assert "method.gate: found 'open', allowed: zero, softmax" in text


def test_batch_sizes_that_cannot_be_split_over_the_cards_are_listed_with_the_other_problems():
    training = {"batch_size_frames": 4, "batch_size_clips": 3, "iterations": 0}
    with pytest.raises(InputError) as error:
        load_config({"compute": {"gpus": 2}, "training": training})
    assert error.value.problems == [
        "the configuration: training.batch_size_clips: 3 is no multiple of 2, the compute.gpus it is split over",
        "the configuration: training.iterations: found 0, allowed: at least 1",
    ]
    for wrong in (0, "two"):
        with pytest.raises(InputError, match=r"compute\.gpus"):
            load_config({"compute": {"gpus": wrong}})


def test_every_switch_of_the_method_is_documented_in_the_schema():
    switches = yaml.safe_load(schema_of("bico").read_text("utf-8"))["properties"]
    assert switches.keys() - {"preset"} == {field.name for field in dataclasses.fields(Switches)}
    assert all(switch["description"] for switch in switches.values())


@pytest.mark.parametrize("name", ["world", "tiny", "wan2.1-t2v-1.3b", "wan2.1-t2v-14b"])
def test_the_shipped_model_files_are_valid(name):
    model = load_model(ROOT / "config" / "models" / f"{name}.yaml", "weights")
    assert model.name == name
    judges = set() if name == "world" else {"clip", "dino"}
    assert set(model.components) == {"transformer", "vae", "text_encoder", "tokenizer", "vlm"} | judges
    assert (model.frames - 1) % 4 == 0


def test_wan_is_pinned_and_sampled_as_published():
    model = load_model(ROOT / "config" / "models" / "wan2.1-t2v-1.3b.yaml", "weights")
    assert (model.height, model.width, model.frames, model.fps) == (480, 832, 81, 15)
    assert (model.shift, model.steps, model.guidance_scale, model.text_length) == (5, 50, 5, 512)
    transformer = model.components["transformer"]
    assert transformer.repo == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers" and len(transformer.revision) == 40


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames": 0}, "frames: found 0, allowed: at least 1"),
        ({"fps": "fast"}, "fps: found 'fast', allowed: a finite number"),
        ({"shape": 1}, "top level: 'shape' is unknown; allowed: name, components"),
        ({"components": {}}, "components: missing: transformer, vae, text_encoder, tokenizer"),
    ],
)
def test_a_bad_model_file_is_named_with_its_field(tmp_path, change, says):
    content = yaml.safe_load((ROOT / "config" / "models" / "tiny.yaml").read_text("utf-8"))
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(content | change), "utf-8")
    with pytest.raises(InputError, match=r"model\.yaml") as error:
        load_model(path, "weights")
    assert says in str(error.value)


def test_a_model_whose_weights_are_missing_has_no_sizes_to_check():
    model = load_model(ROOT / "config" / "models" / "wan2.1-t2v-1.3b.yaml", "nowhere")
    assert list(size_problems(model, 80)) == []


def test_a_vae_config_without_scale_factors_as_wan2_1_was_published_is_understood(tiny_model, tmp_path):
    for component in ("vae", "transformer"):
        (tmp_path / component).mkdir()
        content = json.loads((tiny_model / component / "config.json").read_text())
        published = {name: value for name, value in content.items() if not name.startswith("scale_factor")}
        assert component != "vae" or len(published) < len(content)
        (tmp_path / component / "config.json").write_text(json.dumps(published))
    found = load_model(ROOT / "config" / "models" / "tiny.yaml", "weights")
    components = {name: dataclasses.replace(c, folder=tmp_path / name) for name, c in found.components.items()}
    model = dataclasses.replace(found, components=components)
    assert list(size_problems(model, 81)) == []
    assert len(list(size_problems(dataclasses.replace(model, width=40), 82))) == 2
    assert vae_factors(model.config("vae")) == (4, 8)


def test_ablations_are_switches_on_top_of_the_configured_method_or_of_a_preset(tmp_path):
    (tmp_path / "a.yaml").write_text("method: {per_block: false}")
    (tmp_path / "b.yaml").write_text("method: {preset: released, absorbent: none}")
    base = load_config({"method": {"beta": 0.5}})["method"]
    methods = load_methods(tmp_path, base)
    assert methods["a"] == base | {"per_block": False}
    assert methods["b"] == {
        "kind": "bico",
        **dataclasses.asdict(dataclasses.replace(PRESETS["released"], absorbent="none")),
    }


def test_bad_ablations_are_named_all_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text("method: {gate: open}")
    (tmp_path / "b.yaml").write_text("training: {iterations: 3}")
    (tmp_path / "c.d.yaml").write_text("method: {per_block: false}")
    with pytest.raises(InputError) as error:
        load_methods(tmp_path, PAPER)
    first, second, third = error.value.problems
    assert "a.yaml: method.gate: found 'open'" in first and "b.yaml: holds `method`" in second
    assert "c.d.yaml: the name of a method: found 'c.d', allowed: letters" in third


def test_the_shipped_ablations_are_the_papers_rows_and_the_release():
    methods = load_methods(ROOT / "config" / "ablations", PAPER)
    assert len(methods) == 9
    assert methods["8_full"] == PAPER
    assert methods["9_released"] == {"kind": "bico", **dataclasses.asdict(PRESETS["released"])}
    assert methods["7_without_inversion"]["phase1_noise"] == "uniform"


@pytest.mark.parametrize(
    ("device", "runs_here", "has_card", "cards"),
    [
        ("auto", True, False, 0),
        ("auto", True, True, 1),
        ("auto", False, False, 1),
        ("cpu", True, True, 0),
        ("cuda", True, False, 1),
    ],
)
def test_a_job_asks_for_a_card_unless_its_device_is_a_processor(device, runs_here, has_card, cards, monkeypatch):
    """On a login node without cards the jobs that a cluster gets still ask for one."""
    monkeypatch.setattr(pipeline, "has_accelerator", lambda: has_card)
    monkeypatch.chdir(ROOT)
    loaded = pipeline.Plan.load({"compute": {"device": device}}, runs_here=runs_here)
    assert (loaded.gpus(), loaded.gpus(training=True)) == (cards, cards)


def test_the_language_model_is_needed_only_for_concepts_that_are_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.safetensors").touch()
    (tmp_path / "red.png").touch()
    (tmp_path / "compositions.csv").write_text("composition,prompt\nboth,[A star](old) glows.\n")
    given = "concept,source,spatial,binder\nold,,,old.safetensors\n"
    config = {
        "concepts": "concepts.csv",
        "compositions": "compositions.csv",
        "model": str(ROOT / "config" / "models" / "world.yaml"),
    }
    for row, writer, needed in (
        ("", "vlm", False),
        ("red,red.png,a red star,\n", "vlm", True),
        ("red,red.png,a red star,\n", "template", False),
        ("red,red.png,,\n", "template", True),
    ):
        (tmp_path / "concepts.csv").write_text(given + row)
        plan = pipeline.Plan.load(config | {"prompts": {"writer": writer}})
        assert ("vlm" in plan.needed_components()) == needed


@pytest.mark.parametrize("name", ["config", "short", "media"])
def test_the_shipped_manifests_fit_the_shipped_model(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    overlays = [yaml.safe_load((ROOT / "config" / f"{each}.yaml").read_text("utf-8")) for each in ("config", name)]
    loaded = pipeline.Plan.load(overlays[0] | overlays[1], thorough=True)
    assert loaded.tables.concepts and loaded.tables.compositions


@pytest.mark.parametrize(
    ("given_", "section", "name", "value"),
    [
        ({"training": {"iterations": "5"}}, "training", "iterations", 5),
        ({"training": {"iterations": 5.0}}, "training", "iterations", 5),
        ({"training": {"iterations": "1e3"}}, "training", "iterations", 1000),
        ({"training": {"learning_rate": "1e-4"}}, "training", "learning_rate", 1e-4),
        ({"training": {"weight_decay": 0}}, "training", "weight_decay", 0.0),
        ({"training": {"weight_decay": -0.0}}, "training", "weight_decay", 0.0),
        ({"compute": {"vae_tiling": "true"}}, "compute", "vae_tiling", True),
        ({"compute": {"vae_tiling": "off"}}, "compute", "vae_tiling", False),
        ({"compute": {"gradient_checkpointing": "True"}}, "compute", "gradient_checkpointing", True),
        ({"compute": {"gradient_checkpointing": "auto"}}, "compute", "gradient_checkpointing", "auto"),
        ({"compute": {"checkpoint_minutes": 5}}, "compute", "checkpoint_minutes", 5.0),
        ({"method": {"phase1_length": "0"}}, "method", "phase1_length", 0.0),
        ({"method": {"per_block": "no"}}, "method", "per_block", False),
        ({"training": None}, "training", "iterations", 2400),
    ],
)
def test_a_value_becomes_what_its_type_says_however_it_came(given_, section, name, value):
    """In a section of `--config` Snakemake gives text; YAML reads 1e-4 as text, and an empty section as None."""
    found = load_config(given_)[section][name]
    assert (repr(found), type(found)) == (repr(value), type(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"training": {"learning_rate": 5}}, {"training": {"learning_rate": 5.0}}),
        ({"training": {"iterations": 5}}, {"training": {"iterations": "5.0"}}),
        ({"training": None, "method": {}}, {}),
        ({"results": "./out//x/"}, {"results": "out/x"}),
        ({"concepts": "./a.csv", "weights": "./w/"}, {"concepts": "a.csv", "weights": "w"}),
    ],
)
def test_equal_settings_are_the_same_whatever_way_they_are_written(one, other):
    assert canonical(load_config(one)) == canonical(load_config(other))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"results": ""}, "results: found nothing, allowed: a path"),
        ({"results": " "}, "results: found nothing, allowed: a path"),
        ({"results": None}, "results: empty; leave it out for its default"),
        ({"results": datetime.date(2025, 11, 28)}, "results: found 2025-11-28, which YAML does not read as text"),
        ({"results": 7}, "results: found 7, which YAML does not read as text; allowed: text, here in quotes"),
        ({"results": False}, "results: found false, which YAML does not read as text"),
        ({"results": "/"}, "results: found '/', allowed: a folder of its own"),
        ({"results": "."}, "results: found '.', allowed: a folder of its own"),
        ({"results": "a/.."}, "results: found 'a/..', allowed: a folder of its own"),
        ({"results": "~/x"}, "results: found '~/x', but '~' is not your home folder here"),
        ({"results": "-x"}, "results: found '-x', which commands take for an option"),
        ({"results": "out{x}"}, "results: found 'out{x}', allowed: a path without braces"),
        ({"weights": "{x}"}, "weights: found '{x}', allowed: a path without braces"),
        ({"model": "a}.yaml"}, "model: found 'a}.yaml', allowed: a path without braces"),
        ({"concepts": "a\0b"}, "concepts: found 'a\\x00b', allowed: a path without invisible characters"),
        ({"compositions": "a\nb"}, "compositions: found 'a\\nb', allowed: a path without invisible characters"),
        ({"results": "a\u202eb"}, "allowed: a path without invisible characters"),
        ({"results": "x" * 256}, "allowed: at most 1000 bytes, and 255 in the name of a file or folder"),
        ({"results": "x/" * 600}, "allowed: at most 1000 bytes"),
        ({"training": {"learning_rate": math.nan}}, "training.learning_rate: found nan, allowed: a finite number"),
        ({"training": {"learning_rate": math.inf}}, "training.learning_rate: found inf, allowed: a finite number"),
        ({"training": {"learning_rate": "9" * 400}}, "training.learning_rate: found 99999"),
        ({"training": {"learning_rate": "1e999"}}, "training.learning_rate: found inf, allowed: a finite number"),
        (
            {"training": {"iterations": 2**63}},
            "training.iterations: found 9223372036854775808, allowed: a whole number of",
        ),
        ({"training": {"seed": "9" * 5000}}, "training.seed: found inf, allowed: a whole number of at most 64 bits"),
        ({"training": {"iterations": "five"}}, "training.iterations: found 'five', allowed: a whole number"),
        ({"training": {"iterations": 1.5}}, "training.iterations: found 1.5, allowed: a whole number"),
        ({"training": {"iterations": True}}, "training.iterations: found true, allowed: a whole number"),
        ({"training": {"iterations": None}}, "training.iterations: empty; leave it out for its default"),
        ({"training": 5}, "training: found 5, allowed: a section with settings in it"),
        ({"training": {"iteration": 5}}, "training: 'iteration' is unknown; did you mean 'iterations'?"),
        ({"compute": {"device": "gpu"}}, "compute.device: found 'gpu', allowed: auto, cpu, mps, cuda, cuda:1"),
        ({"compute": {"vae_tiling": "maybe"}}, "compute.vae_tiling: found 'maybe', allowed: true or false"),
        ({"prompts": {"writer": False}}, "prompts.writer: found false, which YAML does not read as text"),
        ({"prompts": {"writer": "gpt"}}, "prompts.writer: found 'gpt', allowed: vlm, template"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_with_what_is_allowed(config, says):
    with pytest.raises(InputError) as error:
        load_config(config)
    (problem,) = error.value.problems
    assert says in problem and len(problem) < 250


def test_a_configuration_that_explodes_or_holds_itself_is_refused():
    bomb = "x"
    for _ in range(40):
        bomb = [bomb, bomb]
    itself = {}
    itself["training"] = itself
    for config in ({"training": bomb}, itself):
        with pytest.raises(InputError, match="nested too deeply"):
            load_config(config)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.binary(max_size=3),
    st.text(max_size=8),
    st.sampled_from(["5", "1e-4", "true", "auto", "vlm", "path", "a/b", "9" * 400, ".", "/", "cuda:1", 2**64]),
)
KEYS = st.one_of(st.sampled_from(KNOWN), st.text(max_size=3), st.integers(), st.none())
VALUES = st.recursive(
    LEAVES,
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(KEYS, inside, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_structure_is_a_configuration_or_a_list_of_problems(config):
    try:
        loaded = load_config(config)
    except InputError as error:
        assert all(problem.startswith("the configuration: ") and "\n" not in problem for problem in error.problems)
        assert load_config(readable(config))
        return
    assert load_config(loaded) == loaded


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(VALUES, st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_structure_is_a_model_file_or_a_list_of_problems_that_name_it(tmp_path, whole, changes):
    good = yaml.safe_load((ROOT / "config" / "models" / "world.yaml").read_text("utf-8"))
    for content in (whole, good | changes, good | {"components": good["components"] | changes}):
        path = tmp_path / "model.yaml"
        path.write_text(yaml.safe_dump(content), "utf-8")
        try:
            assert load_model(path, "weights").path == path
        except InputError as error:
            assert all(problem.startswith(str(path)) and "\n" not in problem for problem in error.problems)


def test_a_model_file_in_another_encoding_or_with_a_key_twice_is_named(tmp_path):
    good = (ROOT / "config" / "models" / "world.yaml").read_text("utf-8")
    path = tmp_path / "model.yaml"
    path.write_text(good + "# café\n", "latin-1")
    with pytest.raises(InputError, match=r"model\.yaml, line 19: not UTF-8 text; it looks like Latin-1"):
        load_model(path, "weights")
    path.write_text(good + "steps: 3\n", "utf-8")
    with pytest.raises(InputError, match=r"model\.yaml, line 19: 'steps' is there already, in line 15"):
        load_model(path, "weights")


@pytest.mark.parametrize(
    ("component", "says"),
    [
        ({"path": "a{b}"}, "components.vae.path: found 'a{b}', allowed: a path without braces"),
        ({"path": ""}, "components.vae.path: found nothing"),
        ({"path": "a", "repo": "b/c"}, "components.vae: 'repo' is unknown; allowed: path, build"),
        ({"repo": "a/b"}, "components.vae: missing: revision"),
        (None, "components.vae: missing: repo, revision; or give path, a local folder"),
        ({"repo": "../..", "revision": "0" * 40}, "components.vae.repo: found '../..', allowed: owner/name"),
        ({"repo": "a/b", "revision": "main"}, "components.vae.revision: found 'main', allowed: a commit id of 40"),
        ("resources/vae", "components.vae: found 'resources/vae', allowed: a section"),
    ],
)
def test_a_bad_component_is_named_with_what_is_wrong_in_it(tmp_path, component, says):
    content = yaml.safe_load((ROOT / "config" / "models" / "world.yaml").read_text("utf-8"))
    content["components"]["vae"] = component
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    with pytest.raises(InputError) as error:
        load_model(path, "weights")
    assert any(says in problem for problem in error.value.problems)


def test_ablations_may_end_in_yml_but_not_differ_in_the_size_of_letters_alone(tmp_path):
    for name in ("a.yml", "A.yaml", "con.yaml", f"{'x' * 101}.yaml"):
        (tmp_path / name).write_text("method: {per_block: false}")
    with pytest.raises(InputError) as error:
        load_methods(tmp_path, PAPER)
    same, device, long = error.value.problems
    assert "a.yml: there is a method of this name already" in same
    assert "con.yaml: the name of a method: found 'con', the name of a device" in device
    assert "101 characters, allowed: at most 100" in long
