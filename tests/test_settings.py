import dataclasses
import json

import pytest
import yaml

from bico import InputError, pipeline
from bico.components import vae_factors
from bico.settings import PRESETS, Method, load_ablations, load_config, load_model, size_problems
from tests.conftest import ROOT


def test_an_empty_configuration_is_the_papers_method_with_the_schemas_defaults():
    config = load_config({})
    assert config["method"] == dataclasses.asdict(PRESETS["paper"])
    assert config["training"]["iterations"] == 2400 and config["training"]["learning_rate"] == 1e-4
    assert (config["prompts"]["count"], config["prompts"]["seed"]) == (60, 100)


def test_a_switch_stands_alone_on_top_of_its_preset():
    config = load_config({"method": {"preset": "released", "absorbent": "none"}})
    expected = dataclasses.asdict(dataclasses.replace(PRESETS["released"], absorbent="none"))
    assert config["method"] == expected


def test_a_resolved_configuration_resolves_to_itself():
    config = load_config({"method": {"preset": "released"}, "training": {"iterations": 7}})
    assert load_config(config) == config


def test_all_problems_of_a_configuration_are_listed_with_their_fields():
    with pytest.raises(InputError) as error:
        load_config({"modell": "x", "training": {"iterations": 0}, "method": {"gate": "open"}})
    text = "\n".join(error.value.problems)
    assert len(error.value.problems) == 3
    assert "'modell' was unexpected" in text
    assert "training.iterations: 0 is less than the minimum of 1" in text
    assert "method.gate: 'open' is not one of ['zero', 'softmax']" in text


def test_batch_sizes_that_cannot_be_split_over_the_cards_are_listed_with_the_other_problems():
    training = {"batch_size_frames": 4, "batch_size_clips": 3, "iterations": 0}
    with pytest.raises(InputError) as error:
        load_config({"compute": {"gpus": 2}, "training": training})
    assert error.value.problems == [
        "the configuration: training.iterations: 0 is less than the minimum of 1",
        "the configuration: training.batch_size_clips: 3 is no multiple of 2, the compute.gpus it is split over",
    ]
    for wrong in (0, "two"):
        with pytest.raises(InputError, match=r"compute\.gpus"):
            load_config({"compute": {"gpus": wrong}})


def test_every_switch_of_the_method_is_documented_in_the_schema():
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text("utf-8"))
    switches = schema["properties"]["method"]["properties"]
    assert switches.keys() - {"preset"} == {field.name for field in dataclasses.fields(Method)}
    assert all(switch["description"] for switch in switches.values())


@pytest.mark.parametrize("name", ["world", "embedded", "wan2.1-t2v-1.3b", "wan2.1-t2v-14b"])
def test_the_shipped_model_files_are_valid(name):
    model = load_model(ROOT / "config" / "models" / f"{name}.yaml", "weights")
    assert model.name == name
    assert set(model.components) == {"transformer", "vae", "text_encoder", "tokenizer", "vlm"}
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
        ({"frames": 0}, "frames: 0 is less than"),
        ({"fps": "fast"}, "fps: 'fast' is not of type 'number'"),
        ({"shape": 1}, "'shape' was unexpected"),
        ({"components": {}}, "'transformer' is a required property"),
    ],
)
def test_a_bad_model_file_is_named_with_its_field(tmp_path, change, says):
    content = yaml.safe_load((ROOT / "config" / "models" / "embedded.yaml").read_text("utf-8"))
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(content | change), "utf-8")
    with pytest.raises(InputError, match=r"model\.yaml") as error:
        load_model(path, "weights")
    assert says in str(error.value)


def test_a_model_whose_weights_are_missing_has_no_sizes_to_check():
    model = load_model(ROOT / "config" / "models" / "wan2.1-t2v-1.3b.yaml", "nowhere")
    assert list(size_problems(model, 80)) == []


def test_a_vae_config_without_scale_factors_as_wan2_1_was_published_is_understood(embedded, tmp_path):
    for component in ("vae", "transformer"):
        (tmp_path / component).mkdir()
        content = json.loads((embedded / component / "config.json").read_text())
        published = {name: value for name, value in content.items() if not name.startswith("scale_factor")}
        assert component != "vae" or len(published) < len(content)
        (tmp_path / component / "config.json").write_text(json.dumps(published))
    found = load_model(ROOT / "config" / "models" / "embedded.yaml", "weights")
    components = {name: dataclasses.replace(c, folder=tmp_path / name) for name, c in found.components.items()}
    model = dataclasses.replace(found, components=components)
    assert list(size_problems(model, 81)) == []
    assert len(list(size_problems(dataclasses.replace(model, width=40), 82))) == 2
    assert vae_factors(model.config("vae")) == (4, 8)


def test_ablations_are_switches_on_top_of_the_configured_method_or_of_a_preset(tmp_path):
    (tmp_path / "a.yaml").write_text("method: {per_block: false}")
    (tmp_path / "b.yaml").write_text("method: {preset: released, absorbent: none}")
    base = load_config({"method": {"beta": 0.5}})["method"]
    methods = load_ablations(tmp_path, base)
    assert methods["a"] == base | {"per_block": False}
    assert methods["b"] == dataclasses.asdict(dataclasses.replace(PRESETS["released"], absorbent="none"))


def test_bad_ablations_are_named_all_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text("method: {gate: open}")
    (tmp_path / "b.yaml").write_text("training: {iterations: 3}")
    (tmp_path / "c.d.yaml").write_text("method: {per_block: false}")
    with pytest.raises(InputError) as error:
        load_ablations(tmp_path, dataclasses.asdict(PRESETS["paper"]))
    first, second, third = error.value.problems
    assert "a.yaml: method.gate: 'open'" in first and "b.yaml: an ablation has `method`" in second
    assert "c.d.yaml: allowed in a method's name" in third


def test_the_shipped_ablations_are_the_papers_rows_and_the_release():
    methods = load_ablations(ROOT / "config" / "ablations", dataclasses.asdict(PRESETS["paper"]))
    assert len(methods) == 9
    assert methods["8_full"] == dataclasses.asdict(PRESETS["paper"])
    assert methods["9_released"] == dataclasses.asdict(PRESETS["released"])
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
    loaded = pipeline.Pipeline.load({"compute": {"device": device}}, runs_here=runs_here)
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
        assert pipeline.Pipeline.load(config | {"prompts": {"writer": writer}}).needs_vlm == needed


@pytest.mark.parametrize("name", ["config", "short", "media"])
def test_the_shipped_manifests_fit_the_shipped_model(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    overlays = [yaml.safe_load((ROOT / "config" / f"{each}.yaml").read_text("utf-8")) for each in ("config", name)]
    loaded = pipeline.Pipeline.load(overlays[0] | overlays[1], thorough=True)
    assert loaded.manifest.concepts and loaded.manifest.compositions
