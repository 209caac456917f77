import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from bico import InputError
from bico.models.components import component_digest, component_folder, component_id
from bico.runtime.provenance import file_digest
from bico.settings.model_file import load_model
from bico.weights.fetch import fetch_weights
from bico.weights.manifests import missing_weights
from tests import ROOT
from tests.hub import serve
from tests.project import make_project, planned_jobs, snakemake, succeed

WAN = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
CLIP, DINO = "openai/clip-vit-large-patch14", "facebook/dinov2-base"
REPOSITORIES = {"vlm": "qwen", "clip": "clip-vit", "dino": "dinov2"}  # those of their own, and where the test has them
QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"
WITHOUT_VLM = ("transformer", "vae", "text_encoder", "tokenizer")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 5676070424\n"


@pytest.fixture
def model(tmp_path, tiny_model, monkeypatch):
    """The tiny model under another root, its VAE built by a command."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "source")
    content = yaml.safe_load((ROOT / "config" / "models" / "tiny.yaml").read_text("utf-8"))
    content["components"] = {name: {"path": f"source/{name}"} for name in content["components"]}
    content["components"]["vae"] = {"path": "built", "build": "cp -r source/vae built"}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return load_model("model.yaml", "weights")


def weights_of(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def read_manifest(model, name: str) -> dict:
    return json.loads(model.manifest(name).read_text("utf-8"))


def damage(path: Path) -> None:
    """Changes one bit."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def manifests_in(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("[!.]*.json"))


def refusal(model, *components: str) -> str:
    """What fetching says against the weights, in one line, and no manifest is left."""
    with pytest.raises(InputError) as refused:
        fetch_weights(model, components)
    assert missing_weights(model, components)
    (line,) = refused.value.problems
    return line


# -------------------------------------------------------------------------------------------------- local folders


def test_fetching_builds_what_is_missing_and_writes_a_manifest_of_sizes_and_digests(model):
    assert [line.split(":")[0] for line in missing_weights(model)] == list(model.components)
    fetch_weights(model)
    assert missing_weights(model) == []
    file = read_manifest(model, "vae")["files"]["diffusion_pytorch_model.safetensors"]
    assert len(file["sha256"]) == 64 and file["size"] > 1000
    assert component_folder(model.manifest("vae")).resolve() == (model.path.parent / "built").resolve()
    assert component_id(model.manifest("vae"))["path"] == "built"


def test_a_second_fetch_reads_and_writes_nothing(model, caplog):
    fetch_weights(model)
    before = model.manifest("vae").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        fetch_weights(model)
    assert caplog.text.count("read before") == len(model.components)
    assert model.manifest("vae").stat().st_mtime_ns == before


def test_only_the_components_that_are_asked_for_are_taken(model):
    fetch_weights(model, WITHOUT_VLM)
    assert manifests_in(model.manifest("vlm").parent) == sorted(WITHOUT_VLM)


def test_a_component_that_the_model_file_does_not_name_is_named(model):
    with pytest.raises(InputError, match=r"model.yaml: names no 'upscaler', which this run needs"):
        fetch_weights(model, ["vae", "upscaler"])


def test_a_file_that_went_missing_or_changed_its_size_is_named(model):
    fetch_weights(model)
    (model.components["vae"].folder / "config.json").write_text("{}")
    (model.components["tokenizer"].folder / "tokenizer.json").unlink()
    tokenizer, vae = missing_weights(model)
    assert "vae: built/config.json is missing or not" in vae
    assert "tokenizer: source/tokenizer/tokenizer.json is missing" in tokenizer


@pytest.mark.parametrize("days", [1, -1000])
def test_weights_replaced_by_others_of_the_same_size_are_noticed_whatever_their_date_and_get_a_new_manifest(
    model, days
):
    fetch_weights(model)
    before = component_digest(model.manifest("vae"))
    file = weights_of(model.components["vae"].folder)
    other = file.with_suffix(".new")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    other.write_bytes(content)
    os.utime(other, (file.stat().st_mtime + days * 86400,) * 2)
    other.rename(file)
    assert missing_weights(model) == [f"vae: {file} was changed or replaced since it was read"]
    fetch_weights(model)
    assert missing_weights(model) == []
    assert read_manifest(model, "vae")["files"][file.name]["sha256"] == file_digest(file)
    assert component_digest(model.manifest("vae")) != before


def test_a_local_folder_that_nobody_builds_is_named_and_the_others_are_taken(model):
    shutil.rmtree("source/transformer")
    with pytest.raises(InputError, match="source/transformer: no such folder"):
        fetch_weights(model)
    assert [line.split(":")[0] for line in missing_weights(model)] == ["transformer"]


def test_another_revision_in_the_model_file_makes_the_weights_missing(tmp_path, model):
    fetch_weights(model, ["transformer"])
    content = yaml.safe_load((tmp_path / "model.yaml").read_text("utf-8"))
    content["components"]["transformer"] = {"repo": "a/b", "revision": "0" * 40}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content), "utf-8")
    (line,) = missing_weights(load_model("model.yaml", "weights"), ["transformer"])
    assert line == "transformer: a/b at 00000000 is wanted, weights/manifests/tiny/transformer.json holds " + (
        "the local folder source/transformer"
    )


def test_the_same_bytes_elsewhere_are_the_same_component_and_other_bytes_are_not(tmp_path, model):
    fetch_weights(model, ["transformer", "text_encoder"])
    shutil.copytree("source/transformer", "moved/there", copy_function=shutil.copyfile)
    content = yaml.safe_load((tmp_path / "model.yaml").read_text("utf-8"))
    content["components"]["transformer"] = {"path": "moved/there"}
    Path("moved.yaml").write_text(yaml.safe_dump(content), "utf-8")
    moved = load_model("moved.yaml", "other_weights")
    fetch_weights(moved, ["transformer"])
    manifests = model.manifest("transformer"), moved.manifest("transformer")
    assert manifests[0].read_text() != manifests[1].read_text()
    assert component_digest(manifests[0]) == component_digest(manifests[1])
    assert component_digest(manifests[0]) != component_digest(model.manifest("text_encoder"))


def test_a_damaged_manifest_is_named_and_written_anew(model):
    fetch_weights(model, ["vae"])
    model.manifest("vae").write_text("{half")
    assert "vae.json: not a manifest of weights; get the weights with" in missing_weights(model, ["vae"])[0]
    with pytest.raises(InputError, match="not a manifest of weights"):
        component_folder(model.manifest("vae"))
    fetch_weights(model, ["vae"])
    assert missing_weights(model, ["vae"]) == []


# ---------------------------------------------------------------------------------------- what cannot be loaded


def change_tensors(name: str, change) -> None:
    path = weights_of(Path("source") / name)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def point(path: str):
    return lambda: Path(path).write_text(POINTER)


def cut_off(path: str):
    return lambda: os.truncate(path, Path(path).stat().st_size // 2)


def shard(name: str, spoil=None) -> None:
    """Splits a component's weights in two behind an index, as published; spoil: changes the folder and the index."""
    whole = weights_of(Path("source") / name)
    tensors, index = load_file(whole), {"metadata": {}, "weight_map": {}}
    for number, keys in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), 1):
        part = whole.with_name(f"{whole.stem}-{number:05d}-of-00002.safetensors")
        save_file({key: tensors[key] for key in keys}, part, {"format": "pt"})
        index["weight_map"] |= dict.fromkeys(keys, part.name)
    whole.unlink()
    if spoil:
        spoil(whole.parent, index)
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps(index))


def lose_a_shard(folder: Path, _) -> None:
    next(folder.glob("*-00002-of-00002.safetensors")).unlink()


def promise_too_much(_, index: dict) -> None:
    index["weight_map"]["blocks.7.ffn.bias"] = next(iter(index["weight_map"].values()))


def pickle_only() -> None:
    path = weights_of(Path("source/text_encoder"))
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()


def rename_weights() -> None:
    path = weights_of(Path("source/transformer"))
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))


def replace_in(path: str, old: str, new: str):
    def change() -> None:
        text = Path(path).read_text("utf-8")
        assert old in text
        Path(path).write_text(text.replace(old, new), "utf-8")

    return change


def set_one(value: float):
    def change(tensors: dict) -> None:
        tensors["blocks.1.ffn.net.2.bias"][3] = value

    return lambda: change_tensors("transformer", change)


def empty_vocabulary() -> None:
    path = Path("source/tokenizer/tokenizer.json")
    content = json.loads(path.read_text("utf-8"))
    content["model"] |= {"vocab": {}, "merges": [], "unk_token": None}
    content["added_tokens"] = []
    content["post_processor"] = None
    path.write_text(json.dumps(content))


WEIGHTS = "source/transformer/diffusion_pytorch_model.safetensors"
CONFIG = "source/transformer/config.json"
UNLOADABLE = {
    "a pointer of git-LFS": ("transformer", point(WEIGHTS), f"{WEIGHTS}: a pointer of git-LFS, not the file itself"),
    "a pointer of a tokenizer": ("tokenizer", point("source/tokenizer/tokenizer.json"), "tokenizer.json: a pointer of"),
    "a file cut off": ("transformer", cut_off(WEIGHTS), f"{WEIGHTS}: not a whole safetensors file ("),
    "an empty file": ("transformer", lambda: os.truncate(WEIGHTS, 0), f"{WEIGHTS}: not a whole safetensors file (0 "),
    "a missing shard": (
        "transformer",
        lambda: shard("transformer", lose_a_shard),
        "-00002-of-00002.safetensors: missing, and diffusion_pytorch_model.safetensors.index.json names it",
    ),
    "a missing shard of the language model": (
        "vlm",
        lambda: shard("vlm", lose_a_shard),
        "source/vlm/model-00002-of-00002.safetensors: missing, and model.safetensors.index.json names it",
    ),
    "a shard without a weight of the index": (
        "transformer",
        lambda: shard("transformer", promise_too_much),
        "-of-00002.safetensors: blocks.7.ffn.bias is not in it",
    ),
    "a pickle alone": (
        "text_encoder",
        pickle_only,
        "source/text_encoder/pytorch_model.bin: a pickle, which can run code and is never opened; convert the weights "
        "to model.safetensors",
    ),
    "another name": (
        "transformer",
        rename_weights,
        f"{WEIGHTS}: missing, and no diffusion_pytorch_model.safetensors.index.json either; the folder holds "
        "diffusion_pytorch_model.fp16.safetensors",
    ),
    "no config": ("transformer", lambda: Path(CONFIG).unlink(), f"{CONFIG}: missing"),
    "a config that is not JSON": ("transformer", lambda: Path(CONFIG).write_text("{"), f"{CONFIG}: not JSON: "),
    "a config of other shapes": (
        "transformer",
        replace_in(CONFIG, '"ffn_dim": 256', '"ffn_dim": 320'),
        f"{WEIGHTS}: does not fit {CONFIG}: Cannot load  because blocks.0.ffn.net.0.proj.bias expected shape",
    ),
    "a config of other shapes of the text encoder": (
        "text_encoder",
        replace_in("source/text_encoder/config.json", '"d_ff": 128', '"d_ff": 160'),
        "is [128, 64], source/text_encoder/config.json asks for [160, 64]",
    ),
    "a config of more layers": (
        "transformer",
        replace_in(CONFIG, '"num_layers": 4', '"num_layers": 5'),
        f"{WEIGHTS}: 27 weights that config.json asks for are missing, such as blocks.4.",
    ),
    "other keys": (
        "text_encoder",
        lambda: change_tensors("text_encoder", lambda t: t.update({f"x.{key}": t.pop(key) for key in list(t)})),
        "source/text_encoder/model.safetensors: ",
    ),
    "a config that means nothing": (
        "transformer",
        replace_in(CONFIG, '"num_layers": 4', '"num_layers": "four"'),
        f"{WEIGHTS}: does not fit {CONFIG}: ",
    ),
    "other latents than the VAE's": (
        "transformer",
        lambda: replace_in("source/vae/config.json", '"z_dim": 8', '"z_dim": 16')(),
        f"{CONFIG}: in_channels is 8, but z_dim in built/config.json 16",
    ),
    "whole numbers": (
        "transformer",
        lambda: change_tensors("transformer", lambda t: t.update({k: v.to(torch.int8) for k, v in t.items()})),
        f"{WEIGHTS}: 123 weights are whole numbers, such as ",
    ),
    "NaN": ("transformer", set_one(float("nan")), f"{WEIGHTS}: blocks.1.ffn.net.2.bias holds NaN or infinite values"),
    "infinity": ("transformer", set_one(float("-inf")), f"{WEIGHTS}: blocks.1.ffn.net.2.bias holds NaN or infinite"),
    "a tokenizer without a vocabulary": (
        "tokenizer",
        empty_vocabulary,
        "source/tokenizer/tokenizer.json: its vocabulary",
    ),
    "a language model without a tokenizer": (
        "vlm",
        lambda: Path("source/vlm/tokenizer.json").unlink(),
        "source/vlm",
    ),
}


@pytest.mark.parametrize("case", UNLOADABLE)
def test_weights_that_cannot_be_loaded_are_refused_in_one_line_that_names_the_file(model, case):
    name, spoil, said = UNLOADABLE[case]
    fetch_weights(model, [name])
    spoil()
    if case == "other latents than the VAE's":
        shutil.copytree("source/vae", "built")
        shutil.rmtree(model.manifest(name).parent)
    assert said in refusal(model, name)


def older_names(tensors: dict) -> None:
    """Qwen2.5-VL's as published, before transformers 4.52."""
    for key in list(tensors):
        old = key.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
        tensors[old] = tensors.pop(key)


def other_embedding(tensors: dict) -> None:
    """umT5's single embedding under its other name."""
    (key,) = tensors.keys() & {"shared.weight", "encoder.embed_tokens.weight"}
    other = {"shared.weight": "encoder.embed_tokens.weight"}.get(key, "shared.weight")
    tensors[other] = tensors.pop(key)


def both_embeddings(tensors: dict) -> None:
    (key,) = tensors.keys() & {"shared.weight", "encoder.embed_tokens.weight"}
    tensors |= {"shared.weight": tensors[key], "encoder.embed_tokens.weight": tensors[key].clone()}


LAYOUTS = {
    "older names of the language model": ("vlm", lambda: change_tensors("vlm", older_names)),
    "older names, in shards": ("vlm", lambda: (change_tensors("vlm", older_names), shard("vlm"))),
    "the embedding's other name": ("text_encoder", lambda: change_tensors("text_encoder", other_embedding)),
    "the embedding twice": ("text_encoder", lambda: change_tensors("text_encoder", both_embeddings)),
    "a text encoder in shards": ("text_encoder", lambda: shard("text_encoder")),
    "a transformer in shards": ("transformer", lambda: shard("transformer")),
    "half precision": (
        "transformer",
        lambda: change_tensors("transformer", lambda t: t.update({k: v.bfloat16() for k, v in t.items()})),
    ),
    "a pickle beside the weights": ("vlm", lambda: Path("source/vlm/pytorch_model.bin").write_bytes(b"\x80")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_that_the_libraries_load_is_taken(model, layout):
    name, arrange = LAYOUTS[layout]
    arrange()
    fetch_weights(model, [name])
    assert missing_weights(model, [name]) == []


def test_planning_needs_no_torch():
    imports = "import sys, bico.plan.plan, bico.weights.manifests"
    code = f"{imports}; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# ------------------------------------------------------------------------------------------------------- the hub


@pytest.fixture
def hub(tmp_path, tiny_model, monkeypatch):
    """The hub's own client, against a stand-in for its server; the repositories are the tiny model's folders."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model, "hub")
    for component, folder in REPOSITORIES.items():
        Path("hub", component).rename(folder)
    Path("hub/assets").mkdir()
    Path("hub/assets/demo.mp4").write_bytes(b"large")
    Path("hub/transformer/notes.bin").write_bytes(b"pickled")
    others = {CLIP: "clip-vit", DINO: "dinov2", QWEN: "qwen"}
    with serve(
        {WAN: Path("hub").resolve()} | {name: Path(folder).resolve() for name, folder in others.items()}
    ) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.split("/{", 1)[1]
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.url}/{{{template}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield server


@pytest.fixture
def published(hub):
    return load_model(ROOT / "config" / "models" / "wan2.1-t2v-1.3b.yaml", "weights")


def unplug(monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def copy_by_hand(model) -> None:
    """The folders as the hub has them, without manifests and without the client's own records."""
    for name, component in model.components.items():
        shutil.copytree(REPOSITORIES.get(name, f"hub/{name}"), component.folder, dirs_exist_ok=True)


def test_the_hub_is_asked_once_for_what_is_needed_and_sizes_come_first(hub, published, caplog):
    with caplog.at_level(logging.INFO):
        fetch_weights(published, WITHOUT_VLM)
    wanted = {f"{name}/{path.name}" for name in WITHOUT_VLM for path in Path(f"hub/{name}").iterdir()}
    assert sorted(hub.downloaded()) == sorted(wanted - {"transformer/notes.bin"})
    assert not any("Qwen" in request for request in hub.asked)
    said = caplog.text
    assert f"transformer: {WAN}/transformer at 0fad780a: 2 of 2 files to download, 2.39MB" in said
    assert said.index("free on the disk of weights: ") < said.index("manifests/wan2.1-t2v-1.3b/transformer.json: ")
    manifest = read_manifest(published, "transformer")
    assert manifest["revision"] == published.components["transformer"].revision and manifest["verified"]
    assert component_folder(published.manifest("transformer")) == published.components["transformer"].folder
    hub.forget()
    fetch_weights(published, WITHOUT_VLM)
    assert hub.asked == []


def test_a_download_that_breaks_off_keeps_what_is_whole_and_goes_on_with_the_rest(hub, published):
    hub.refused.add("vae/diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match=rf"vae: {WAN}: the download broke off: .*; call again, it resumes"):
        fetch_weights(published, WITHOUT_VLM)
    assert missing_weights(published, ["transformer"]) == []
    hub.forget()
    fetch_weights(published, WITHOUT_VLM)
    assert missing_weights(published, WITHOUT_VLM) == []
    assert not any("transformer" in name for name in hub.downloaded())


def test_a_disk_that_cannot_hold_the_download_is_said_before_any(hub, published, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    with pytest.raises(InputError, match=r"weights: its disk has 5.00MB free, the download needs 13.\dMB; make room"):
        fetch_weights(published, WITHOUT_VLM)
    assert hub.downloaded() == []


def test_copied_folders_are_adopted_without_network_and_verified_with_it(hub, published, monkeypatch, caplog):
    copy_by_hand(published)
    unplug(monkeypatch)
    with caplog.at_level(logging.INFO):
        fetch_weights(published)
    assert missing_weights(published) == [] and hub.asked == []
    assert caplog.text.count("adopted from a local folder, the revision is unverified") == 7
    assert not component_id(published.manifest("vae"))["verified"]


def test_adopted_folders_are_verified_once_there_is_a_network(hub, published, monkeypatch):
    copy_by_hand(published)
    with monkeypatch.context() as without_network:
        unplug(without_network)
        fetch_weights(published)
    before = {name: component_digest(published.manifest(name)) for name in published.components}
    fetch_weights(published)
    assert all(read_manifest(published, name)["verified"] for name in published.components)
    assert before == {name: component_digest(published.manifest(name)) for name in published.components}
    assert hub.downloaded() == []


def test_a_copied_file_that_is_not_the_hubs_is_named(hub, published):
    copy_by_hand(published)
    path = published.components["vae"].folder / "config.json"
    path.write_text(path.read_text().replace("0.0", "0.1"))
    large = weights_of(published.components["transformer"].folder)
    damage(large)
    with pytest.raises(InputError) as refused:
        fetch_weights(published)
    end = "not the file that the hub has; remove it and call again"
    assert refused.value.problems == [f"{large}: {end}", f"{path}: {end}"]
    assert [line.split(":")[0] for line in missing_weights(published)] == ["transformer", "vae"]


def test_copied_pointers_of_git_lfs_are_replaced_by_the_files(hub, published):
    copy_by_hand(published)
    weights_of(published.components["vae"].folder).write_text(POINTER)
    fetch_weights(published)
    assert hub.downloaded() == ["vae/diffusion_pytorch_model.safetensors"]


def test_without_network_what_cannot_be_adopted_is_said_with_the_reason(hub, published, monkeypatch):
    copy_by_hand(published)
    weights_of(published.components["vae"].folder).write_text(POINTER)
    shutil.rmtree(published.components["vlm"].folder)
    unplug(monkeypatch)
    with pytest.raises(InputError) as refused:
        fetch_weights(published)
    pointer, vae, vlm = refused.value.problems
    assert "vae/diffusion_pytorch_model.safetensors: a pointer of git-LFS" in pointer
    assert vae.startswith(f"vae: {WAN} at 0fad780a: the hub cannot be asked for it: ")
    assert vlm.startswith(f"vlm: {QWEN} at cc594898: the hub cannot be asked for it: ")
    assert missing_weights(published, ["transformer", "text_encoder", "tokenizer"]) == []


def test_weights_and_manifests_copied_to_a_machine_without_network_need_no_hub(hub, published, monkeypatch):
    fetch_weights(published)
    shutil.copytree("weights", "elsewhere/weights", copy_function=shutil.copyfile)
    there = load_model(published.path, "elsewhere/weights")
    unplug(monkeypatch)
    fetch_weights(there)
    assert missing_weights(there) == [] and read_manifest(there, "vlm")["verified"]
    digests = [component_digest(model.manifest("vlm")) for model in (published, there)]
    assert digests[0] == digests[1]


def test_a_file_that_was_damaged_while_it_was_copied_is_named_without_network(hub, published, monkeypatch):
    fetch_weights(published, ["vae"])
    shutil.copytree("weights", "elsewhere/weights", ignore=shutil.ignore_patterns("*.stamps.json"))
    there = load_model(published.path, "elsewhere/weights")
    damage(weights_of(there.components["vae"].folder))
    unplug(monkeypatch)
    for _ in range(2):
        with pytest.raises(InputError, match=r"safetensors: not the file that the hub has; remove it and call again"):
            fetch_weights(there, ["vae"])
        assert missing_weights(there, ["vae"])


# --------------------------------------------------------------------------------------------- through Snakemake


def test_snakemake_weights_looks_again_each_time(tmp_path, tiny_model):
    source, folder = tmp_path / "tiny", tmp_path / "project"
    shutil.copytree(tiny_model, source)
    folder.mkdir()
    make_project(folder, source, with_weights=False)
    file, manifests = weights_of(source / "vae"), folder / "resources" / "weights" / "manifests" / "tiny"
    succeed(folder, "weights")
    assert manifests_in(manifests) == sorted(WITHOUT_VLM)
    assert len(planned_jobs(folder)) > 10

    kept = file.rename(tmp_path / "kept")
    for spoil in (lambda: None, lambda: file.write_text(POINTER)):
        spoil()
        stopped = snakemake(folder, "weights")
        said = stopped.stdout + stopped.stderr
        assert stopped.returncode and f"{file}: " in said and "Traceback" not in said
        assert "weights of model 'tiny' (model.yaml) are missing" in snakemake(folder, "-n").stderr
    before = file_digest(kept)
    tensors = load_file(kept)
    tensors["encoder.conv_in.bias"] += 1
    save_file(tensors, file, {"format": "pt"})
    succeed(folder, "weights")
    assert json.loads((manifests / "vae.json").read_text())["files"][file.name]["sha256"] != before
    assert len(planned_jobs(folder)) > 10


def test_a_run_without_the_language_models_weights_says_how_to_get_them(tmp_path, tiny_model):
    folder = tmp_path / "project"
    folder.mkdir()
    make_project(folder, tiny_model)
    manifests = folder / "resources" / "weights" / "manifests" / "tiny"
    (manifests / "vlm.json").unlink()
    assert len(planned_jobs(folder)) > 10
    overlay = tmp_path / "vlm.yaml"
    overlay.write_text("prompts: {writer: vlm}\n")
    stopped = snakemake(folder, "-n", "--configfile", str(overlay))
    assert stopped.returncode and "vlm: the local folder" in stopped.stdout + stopped.stderr
    succeed(folder, "weights", "--configfile", str(overlay))
    assert len(planned_jobs(folder, "--configfile", str(overlay))) > 10
