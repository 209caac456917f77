"""The documents say what the schemas and the code say."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import pytest
import yaml

from bico.methods import kinds, schema_of
from bico.methods.bico.switches import PRESETS, Switches
from bico.plan.tables import COMPOSITION_COLUMNS, CONCEPT_COLUMNS
from tests import ROOT

SCHEMAS = {
    "config": ROOT / "bico" / "settings" / "schemas" / "config.schema.yaml",
    "model": ROOT / "bico" / "settings" / "schemas" / "model.schema.yaml",
    **{kind: schema_of(kind) for kind in kinds()},
}
FOLDERS = ("benchmarks", "config", "docs", "resources/media", "resources/world")
CONFIG_README = (ROOT / "config" / "README.md").read_text("utf-8")


def setting_rows(schema: dict, prefix: str = "") -> list[str]:
    """The documentation of a schema's settings as rows of a table."""
    rows = []
    for name, field in schema["properties"].items():
        if "properties" in field:
            rows += [f"| **`{prefix}{name}`** | | {field['description']} |", *setting_rows(field, f"{prefix}{name}.")]
            continue
        default = (
            f"`{field['default']}`"
            if "default" in field
            else ""
            if name in schema.get("required", ())
            else "the preset's"
        )
        rows.append(
            f"| `{prefix}{name}` | {default.replace('False', 'false')} | {field['description']} |".replace(
                "|  |", "| |"
            )
        )
    return rows


def model_rows(schema: dict) -> list[str]:
    return [f"| `{name}` | {field['description']} |" for name, field in schema["properties"].items()]


def preset_rows() -> list[str]:
    pairs = zip(*(dataclasses.asdict(PRESETS[name]).items() for name in ("paper", "released")), strict=True)
    return [
        f"| `{name}` | `{json.dumps(paper)}` | `{json.dumps(released)}` |" for (name, paper), (_, released) in pairs
    ]


def method_rows(schema: dict) -> list[str]:
    return setting_rows(schema, "method.")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_setting_is_documented_with_its_default(schema):
    rows = {"config": setting_rows, "model": model_rows}.get(schema, method_rows)
    content = yaml.safe_load(SCHEMAS[schema].read_text("utf-8"))
    for row in rows(content):
        assert row in CONFIG_README


def test_every_column_of_the_manifests_is_documented():
    for column in (*CONCEPT_COLUMNS, *COMPOSITION_COLUMNS):
        assert f"\n| `{column}` | " in CONFIG_README


def test_both_presets_are_documented_switch_by_switch():
    document = (ROOT / "docs" / "method.md").read_text("utf-8")
    for row in preset_rows():
        assert row in document
    assert len(preset_rows()) == len(dataclasses.fields(Switches))


DOCUMENTS = [*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_of_the_repository_leads_somewhere(path):
    """But for code: in a prompt a link leads to a concept."""
    text = re.sub(r"(?s)```.*?```|`[^`]*`", "", path.read_text("utf-8"))
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_pictures_name_what_the_code_has():
    """The names in the diagrams are those of rules, modules and functions."""
    rules = "".join(path.read_text("utf-8") for path in (ROOT / "workflow" / "rules").rglob("*.smk"))
    drawing = (ROOT / "docs" / "pipeline.svg").read_text("utf-8")
    for name in re.findall(r"rules? ([a-z_0-9]+)", drawing):
        assert f"rule {name}:" in rules or f" as {name} with:" in rules
    assert ">results/bico/index.html<" in drawing
    text = " ".join(ET.parse(ROOT / "docs" / "binding.svg").getroot().itertext())
    for module, name in re.findall(r"\b(grammar|binding|wan|noise|render)\.([a-z_]+)", text):
        (path,) = (ROOT / "bico").rglob(f"{module}.py")
        assert f"def {name}(" in path.read_text("utf-8")


def test_all_profiles_agree_on_what_is_a_cause_to_run_again():
    paths = sorted((ROOT / "workflow" / "profiles").glob("*/config.v8+.yaml"))
    profiles = [yaml.safe_load(path.read_text("utf-8")) for path in paths]
    assert [path.parent.name for path in paths] == ["default", "gpu", "multi-gpu", "slurm"]
    for name in ("max-checksum-file-size", "rerun-triggers", "rerun-incomplete", "show-failed-logs"):
        assert len({json.dumps(profile[name]) for profile in profiles}) == 1


def test_the_slurm_profile_sends_exactly_the_jobs_with_a_model_to_the_cards():
    """And makes arrays of none of them: the executor forgets jobs of an array that the cap on cards holds back."""
    rules = "".join(path.read_text("utf-8") for path in (ROOT / "workflow" / "rules").rglob("*.smk"))
    blocks = dict(re.findall(r"(?ms)^rule (\w+):\n(.*?)(?=^\w|\Z)", rules))
    on_cards = {name for name, text in blocks.items() if "gpu=" in text}
    others = re.findall(r"(?m)^use rule (\w+) as (\w+) with:", rules)
    on_cards |= {other for base, other in others if base in on_cards}
    profile = yaml.safe_load((ROOT / "workflow" / "profiles" / "slurm" / "config.v8+.yaml").read_text("utf-8"))
    assert set(profile["set-resources"]) == on_cards - {"concepts", "prompts", "spatial_prompts"}
    arrays = set(profile["slurm-array-jobs"].split(","))
    assert arrays <= blocks.keys() and not arrays & {*on_cards, "spatial_prompts"}
