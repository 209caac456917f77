"""The configuration, on the command line too; model files; ablations."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml
from snakemake.cli import parse_config
from snakemake.common.configfile import load_configfile

from bico.plan.plan import Plan
from bico.runtime.reading import read_yaml
from bico.settings.model_file import load_model
from tests.corpus.project import model_file, plan, write
from tests.corpus.verdicts import Input


def _send(folder: Path, content: str | bytes) -> Plan:
    """As Snakefile and Snakemake read config/config.yaml."""
    write("mine.yaml", content)
    read_yaml("mine.yaml")
    return plan(config=load_configfile("mine.yaml"), files=["mine.yaml"])


def _send_words(folder: Path, words: tuple[str, ...]) -> Plan:
    """As Snakemake reads --config."""
    return plan(config=parse_config(words))


def _send_model(folder: Path, content: str | bytes) -> object:
    write("odd.yaml", content)
    return load_model("odd.yaml", "weights")


def _send_ablation(folder: Path, content: str | bytes, name: str = "mine") -> Plan:
    (folder / "ablations").mkdir()
    write(f"ablations/{name}.yaml", content)
    return plan(config={"ablations": "ablations"})


def refused(proves: str, content: str | bytes, names: str) -> Input:
    return Input("configuration", proves, partial(_send, content=content), names=names)


def takes(proves: str, content: str | bytes, right: Callable[[dict], bool]) -> Input:
    return Input("configuration", proves, partial(_send, content=content), lambda pipeline: right(pipeline.config))


def words_refused(proves: str, names: str, *words: str) -> Input:
    return Input("configuration", f"--config: {proves}", partial(_send_words, words=words), names=names)


def takes_words(proves: str, right: Callable[[dict], bool], *words: str) -> Input:
    send = partial(_send_words, words=words)
    return Input("configuration", f"--config: {proves}", send, lambda pipeline: right(pipeline.config))


def model_refused(proves: str, names: str, content: str | bytes | None = None, **change: object) -> Input:
    content = yaml.safe_dump(model_file() | change) if content is None else content
    send = partial(_send_model, content=content)
    return Input("configuration", f"a model file {proves} is refused", send, names=f"odd.yaml{names}")


def ablation_refused(proves: str, content: str | bytes, name: str = "mine") -> Input:
    send = partial(_send_ablation, content=content, name=name)
    return Input("configuration", f"an ablation {proves} is refused", send, names=name)


def default(config: dict) -> bool:
    return config["training"]["iterations"] == 2400


SETTINGS = [
    refused(f"{setting}: {value} is refused", f"{section}: {{{setting}: {value}}}", f"{section}.{setting}")
    for section, setting, value in (
        ("training", "learning_rate", ".nan"),
        ("training", "learning_rate", ".inf"),
        ("training", "learning_rate", "1" + "0" * 400),
        ("training", "learning_rate", "fast"),
        ("training", "learning_rate", "0"),
        ("training", "learning_rate", "-1.0e-4"),
        ("training", "learning_rate", "null"),
        ("training", "weight_decay", ".inf"),
        ("training", "weight_decay", ".nan"),
        ("training", "iterations", "0"),
        ("training", "iterations", "2.5"),
        ("training", "iterations", "true"),
        ("training", "iterations", "[5]"),
        ("training", "iterations", "1" + "0" * 400),
        ("training", "seed", "-1"),
        ("training", "seed", "1" + "0" * 400),
        ("training", "batch_size_clips", "0"),
        ("prompts", "writer", "off"),
        ("prompts", "writer", "gpt"),
        ("prompts", "count", "0"),
        ("prompts", "count", "1" + "0" * 400),
        ("prompts", "temperature", ".inf"),
        ("prompts", "temperature", ".nan"),
        ("prompts", "top_p", "1.5"),
        ("prompts", "top_p", ".nan"),
        ("prompts", "seed", "1.5"),
        ("compute", "device", "0"),
        ("compute", "dtype", "fp16"),
        ("compute", "gpus", "0"),
        ("compute", "checkpoint_minutes", ".nan"),
        ("compute", "checkpoint_minutes", ".inf"),
        ("compute", "checkpoint_minutes", "0"),
        ("compute", "vae_tiling", "sometimes"),
        ("method", "alpha", ".nan"),
        ("method", "beta", "2"),
        ("method", "phase1_length", ".nan"),
        ("method", "absorbent_tokens", "1" + "0" * 400),
        ("method", "preset", "ours"),
    )
]
SETTINGS = [
    Input(one.category, one.proves.replace("1" + "0" * 400, "a number of 401 digits"), one.send, names=one.names)
    for one in SETTINGS
]
SHAPES = [
    refused("an unknown section is named", "traning: {iterations: 3}", "traning"),
    refused("an unknown setting is named", "training: {iteration: 3}", "iteration"),
    refused("a section that is a list is named", "training: [iterations]", "training"),
    refused("a section that is a number is named", "training: 5", "training"),
    refused("a section that is text is named", "training: iterations", "training"),
    refused("a setting at the top that belongs in a section is named", "iterations: 5", "iterations"),
    refused("a key that is no text is named", "1: 2", "1"),
    refused("a key that is true is named", "on: 2", "True"),
    refused("a key that is a date is named", "2025-11-28: 2", "2025-11-28"),
    refused("a setting that is a date is named", "training: {iterations: 2025-11-28}", "training.iterations"),
    refused("a setting that is a set is named", "training: !!set {iterations}", "training"),
    refused("a setting that is bytes is named", "results: !!binary aGFsbG8=", "results"),
    refused("an empty results folder is refused", 'results: ""', "results"),
    refused("a results folder of spaces is refused", 'results: "  "', "results"),
    refused("a results folder that is nothing is refused", "results:", "results"),
    refused("a results folder that is a number is refused", "results: 2025", "results"),
    refused("a results folder with braces is refused", "results: res/{x}", "results"),
    refused("a results folder with a NUL is refused", 'results: "a\\0b"', "results"),
    refused("a model that is not there is named", "model: none.yaml", "none.yaml"),
    refused("a model that is a folder is named", "model: .", "model"),
    refused("a table that is not there is named", "concepts: none.csv", "none.csv"),
    refused("a table that is a folder is named", "concepts: .", "."),
    refused("an empty name of a table is named", 'concepts: ""', "concepts"),
    takes("an empty file has the defaults", "{}", default),
    takes("a section with all its lines commented has the defaults", "training:\n  # iterations: 5\n", default),
    takes(
        "a number that YAML 1.1 takes for text is a number",
        "training: {learning_rate: 1e-4}",
        lambda c: c["training"]["learning_rate"] == 1e-4,
    ),
    takes(
        "a whole number may be written with a dot",
        "training: {iterations: 5.0}",
        lambda c: c["training"]["iterations"] == 5,
    ),
    takes(
        "an anchor may be used twice",
        "training: &a {iterations: 5}\nmethod: {preset: paper}\n",
        lambda c: c["training"]["iterations"] == 5,
    ),
    takes("JSON is YAML", '{"training": {"iterations": 5}}', lambda c: c["training"]["iterations"] == 5),
    takes(
        "a switch of `on` is true",
        "compute: {gradient_checkpointing: on}",
        lambda c: c["compute"]["gradient_checkpointing"] is True,
    ),
    takes("a null of a switch is its preset's", "method: {}", lambda c: c["method"]["gate"] == "zero"),
]
WORDS = [
    takes_words(
        "a number in a section is a number", lambda c: c["training"]["iterations"] == 5, "training={iterations: 5}"
    ),
    takes_words(
        "a fraction in a section is a number",
        lambda c: c["training"]["learning_rate"] == 1e-3,
        "training={learning_rate: 1e-3}",
    ),
    takes_words(
        "a switch in a section is a switch", lambda c: c["compute"]["vae_tiling"] is True, "compute={vae_tiling: true}"
    ),
    takes_words("a text in a section stays text", lambda c: c["compute"]["device"] == "cpu", "compute={device: cpu}"),
    takes_words(
        "several sections are taken together",
        lambda c: (c["training"]["iterations"], c["prompts"]["count"]) == (5, 2),
        "training={iterations: 5}",
        "prompts={count: 2}",
    ),
    words_refused("a misspelt section is named", "traning", "traning={iterations: 5}"),
    words_refused("a section that is a number is named", "training", "training=5"),
    words_refused("a number that is none is named", "training.iterations", "training={iterations: five}"),
    words_refused("NaN is named", "training.learning_rate", "training={learning_rate: nan}"),
    words_refused("infinity is named", "training.learning_rate", "training={learning_rate: inf}"),
    words_refused("an empty results folder is named", "results", "results="),
    words_refused("a results folder that reads as a number is named", "results", "results=5"),
]
MODELS = [
    model_refused("in Latin-1", "", yaml.safe_dump(model_file()).encode() + "# café\n".encode("latin-1")),
    model_refused("in UTF-16 without a mark", "", yaml.safe_dump(model_file()).encode("utf-16-le")),
    model_refused("that is empty", "", ""),
    model_refused("that is a list", "", "- a\n- b\n"),
    model_refused("that is text", "", "wan"),
    model_refused("that is no YAML", "", "name: [\n"),
    model_refused("with tabs", "", "name:\n\t- x\n"),
    model_refused("that asks for a Python object", "", "name: !!python/object/apply:os.system [true]\n"),
    model_refused("of two documents", "", "a: 1\n---\nb: 2\n"),
    model_refused("with a key twice", "", yaml.safe_dump(model_file()) + "frames: 5\n"),
    model_refused(
        "that repeats itself a billion times",
        "",
        "a: &a [x]\nb: &b ["
        + "*a," * 9
        + "]\nc: &c ["
        + "*b," * 9
        + "]\nd: &d ["
        + "*c," * 9
        + "]\ne: &e ["
        + "*d," * 9
        + "]\nf: &f ["
        + "*e," * 9
        + "]\ng: ["
        + "*f," * 9
        + "]\n",
    ),
    model_refused("that contains itself", "", "&a\nname: *a\n"),
    model_refused("nested 5,000 deep", "", "name: " + "[" * 5000),
    model_refused("with NUL bytes", "", b"name: a\0b\n"),
    model_refused("without a width", "", yaml.safe_dump({k: v for k, v in model_file().items() if k != "width"})),
    model_refused("with a height of 0", ": height", height=0),
    model_refused("with a height of words", ": height", height="tall"),
    model_refused("with frames of a fraction", ": frames", frames=8.5),
    model_refused("with fps that are no number", ": fps", fps=float("nan")),
    model_refused("with fps without end", ": fps", fps=float("inf")),
    model_refused("with a shift that is no number", ": shift", shift=float("nan")),
    model_refused("with a guidance scale without end", ": guidance_scale", guidance_scale=float("inf")),
    model_refused("with steps of 400 digits", ": steps", steps=10**400),
    model_refused("with a name that climbs folders", ": name", name="../x"),
    model_refused("with a name of two dots", ": name", name=".."),
    model_refused(
        "with a component too many", ": components", components=model_file()["components"] | {"lora": {"path": "x"}}
    ),
    model_refused(
        "with a component without its place", ": components.vae", components=model_file()["components"] | {"vae": {}}
    ),
    model_refused(
        "with a repository without a revision",
        ": components.vae",
        components=model_file()["components"] | {"vae": {"repo": "a/b"}},
    ),
    model_refused(
        "with a revision that is a branch",
        ": components.vae",
        components=model_file()["components"] | {"vae": {"repo": "a/b", "revision": "main"}},
    ),
    model_refused(
        "with a repository that climbs folders",
        ": components.vae",
        components=model_file()["components"] | {"vae": {"repo": "../..", "revision": "0" * 40}},
    ),
]
ABLATIONS = [
    ablation_refused("that is empty", ""),
    ablation_refused("of other settings", "training: {iterations: 5}\n"),
    ablation_refused("of an unknown switch", "method: {gat: zero}\n"),
    ablation_refused("of a list", "- method\n"),
    ablation_refused("that is no YAML", "method: {\n"),
    ablation_refused("in Latin-1", "method: {gate: zero} # café\n".encode("latin-1")),
    ablation_refused("with a number that is none", "method: {alpha: .nan}\n"),
    ablation_refused("with a switch twice", "method: {gate: zero, gate: softmax}\n"),
    ablation_refused("that is called as the method itself", "method: {gate: zero}\n", "bico"),
    ablation_refused("that is called as a folder of the results", "method: {gate: zero}\n", "concepts"),
    ablation_refused("with a space in its name", "method: {gate: zero}\n", "my ablation"),
]

FILES = [
    refused(f"a file {what} is refused", content, "mine.yaml")
    for what, content in {
        "with a section twice": "training: {iterations: 5}\nprompts: {}\ntraining: {seed: 1}\n",
        "with a setting twice": "training:\n  iterations: 5\n  iterations: 6\n",
        "with a key twice in JSON": '{"results": "a", "results": "b"}',
        "in Latin-1": "results: café\n".encode("latin-1"),
        "in UTF-16": "results: here\n".encode("utf-16"),
        "with a NUL": b"results: a\0b\n",
        "with a tab": "training:\n\titerations: 5\n",
        "that is no YAML": "training: {iterations: 5\n",
        "of two documents": "results: a\n---\nresults: b\n",
        "nested 5,000 deep": "training: " + "[" * 5000,
        "that asks for a Python object": "results: !!python/object/apply:os.system [true]\n",
        "with an unknown anchor": "training: *none\n",
    }.items()
]

INPUTS = FILES + SETTINGS + SHAPES + WORDS + MODELS + ABLATIONS
