"""The documents say what the schemas and the code say."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET

import pytest
import yaml

import bico
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
        default = "" if name in schema.get("required", ()) else "the preset's"
        if "default" in field:
            value = field["default"]
            default = f"`{str(value).lower() if isinstance(value, bool) else value}`"
        row = f"| `{prefix}{name}` | {default} | {field['description']} |"
        rows.append(row.replace("|  |", "| |"))
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


# Files that are made, by a user or by a run, and those that an example invents.
ELSEWHERE = ("results", "resources/weights", ".venv", ".real", ".runs", ".snakemake", "docs/notes")
INVENTED = re.compile(r"\b(test_)?(poster|colourfulness|plain|prompt_only|mine|words)\b")
# Those that speak of the code as it is now; the others of that of their day.
LIVING = [path for path in DOCUMENTS if not {"notes", "CHANGELOG.md"} & {*path.parts} and path.parent.name != "world"]


def named_paths(text: str) -> set[str]:
    """The paths of this repository that a text names: they begin with one of its folders."""
    folders = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir())
    found = re.findall(rf"(?<![\w./<>-])(?:{folders})/[\w./+-]*\w/?", text)
    return {path for path in found if not path.startswith(ELSEWHERE) and not INVENTED.search(path)}


def named_modules(text: str) -> set[str]:
    found = re.findall(r"(?<![\w./])(?:bico|toyworld)(?:\.[a-z_]+)+\b", text)
    return {name for name in found if not INVENTED.search(name)}


@pytest.mark.parametrize("path", LIVING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_and_module_that_a_document_names_is_there(path):
    text = path.read_text("utf-8")
    assert sorted(name for name in named_paths(text) if not (ROOT / name).exists()) == []
    assert sorted(name for name in named_modules(text) if not is_module(name)) == []


def is_module(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module of ours defines."""
    stem = ROOT.joinpath(*name.split("."))
    if stem.is_dir() or stem.with_suffix(".py").is_file():
        return True
    module, (*_, attribute) = stem.parent.with_suffix(".py"), name.split(".")
    return module.is_file() and re.search(rf"\b{attribute}\b", module.read_text("utf-8")) is not None


def test_the_readmes_map_names_every_room():
    """Each folder of the repository, each room of the library and each method, and nothing else."""
    (tree,) = re.findall(r"(?s)```text\n(bico/ .*?)```", (ROOT / "README.md").read_text("utf-8"))
    named, parents = [], []
    for line in tree.splitlines():
        indent, folder = re.match(r"( *)(\w+)/ ", line).groups()
        parents = [*parents[: len(indent) // 2], folder]
        named.append("/".join(parents))
    made = re.compile(r"[._].*|results.*|build|dist|.*\.egg-info")
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and not made.fullmatch(path.name)}
    rooms = {f"bico/{path.parent.name}" for path in (ROOT / "bico").glob("*/__init__.py")}
    methods = {f"bico/methods/{kind}" for kind in kinds()}
    assert len(named) == len(set(named))
    assert set(named) == top | rooms | methods


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == bico.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert "arxiv.org/abs/2512.09824" in citation["identifiers"][0]["value"]


def test_continuous_integration_runs_the_readmes_two_commands():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    commands = [step["run"] for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == ["make demo-short", "make test"]
    assert "http" not in text


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
