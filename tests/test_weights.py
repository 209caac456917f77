import json
import logging
import shutil
from types import SimpleNamespace

import pytest
import yaml

from bico import InputError
from bico.components import component_folder, component_id
from bico.provenance import file_digest
from bico.settings import load_model
from bico.weights import fetch_weights, missing_weights
from tests.conftest import ROOT


@pytest.fixture
def model(tmp_path, embedded, monkeypatch):
    """The embedded model under another root, its VAE built by a command."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(embedded, "source")
    content = yaml.safe_load((ROOT / "config" / "models" / "embedded.yaml").read_text("utf-8"))
    content["components"] = {name: {"path": f"source/{name}"} for name in content["components"]}
    content["components"]["vae"] = {"path": "built", "build": "cp -r source/vae built"}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return load_model("model.yaml", "weights")


def test_fetching_builds_what_is_missing_and_writes_a_manifest_of_sizes_and_digests(model):
    assert [line.split(":")[0] for line in missing_weights(model)] == list(model.components)
    fetch_weights(model)
    assert missing_weights(model) == []
    manifest = json.loads(model.manifest("vae").read_text())
    file = manifest["files"]["diffusion_pytorch_model.safetensors"]
    assert len(file["sha256"]) == 64 and file["size"] > 1000
    assert component_folder(model.manifest("vae")).resolve() == (model.path.parent / "built").resolve()
    assert component_id(model.manifest("vae"))["path"] == "built"


def test_a_second_fetch_writes_nothing(model):
    fetch_weights(model)
    before = model.manifest("vae").stat().st_mtime_ns
    fetch_weights(model)
    assert model.manifest("vae").stat().st_mtime_ns == before


def test_a_file_that_went_missing_or_changed_its_size_is_named(model):
    fetch_weights(model)
    (model.components["vae"].folder / "config.json").write_text("{}")
    (model.components["tokenizer"].folder / "tokenizer.json").unlink()
    tokenizer, vae = missing_weights(model)
    assert "vae: built/config.json is missing or not" in vae
    assert "tokenizer: source/tokenizer/tokenizer.json is missing" in tokenizer


def test_local_weights_that_changed_at_the_same_size_get_a_new_manifest(model):
    fetch_weights(model)
    before = model.manifest("vae").read_text()
    file = model.components["vae"].folder / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    fetch_weights(model)
    assert json.loads(model.manifest("vae").read_text())["files"][file.name]["sha256"] == file_digest(file)
    assert model.manifest("vae").read_text() != before


def test_a_local_folder_that_nobody_builds_is_named(model):
    shutil.rmtree("source/transformer")
    with pytest.raises(InputError, match="source/transformer: no such folder"):
        fetch_weights(model)


def test_hub_weights_are_sized_first_and_downloaded_at_their_revision_into_their_folder(
    tmp_path, monkeypatch, caplog, embedded
):
    """Against a stand-in for the hub's two calls, which cannot be reached from a test."""
    import huggingface_hub

    calls = []
    names = [
        f"{c}/{f.name}" for c in ("transformer", "vae", "text_encoder", "tokenizer") for f in (embedded / c).iterdir()
    ]
    names += ["assets/demo.mp4", "transformer/notes.bin"]

    class Hub:
        def model_info(self, repo, revision, files_metadata):
            calls.append(("info", repo, revision, files_metadata))
            source = embedded if "Wan" in repo else embedded / "vlm"
            listed = names if "Wan" in repo else [file.name for file in source.iterdir()]
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name, size=10**9, lfs=None) for name in listed])

    def snapshot_download(repo, revision, local_dir, allow_patterns, max_workers):
        calls.append(("download", repo, revision))
        source = embedded if "Wan" in repo else embedded / "vlm"
        for name in allow_patterns:
            (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, local_dir / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    model = load_model(ROOT / "config" / "models" / "wan2.1-t2v-1.3b.yaml", tmp_path)
    with caplog.at_level(logging.INFO):
        fetch_weights(model)
    assert missing_weights(model) == []
    assert [call[0] for call in calls] == ["info", "info", "download", "download"]
    assert {call[1:3] for call in calls} == {(c.repo, c.revision) for c in model.components.values()}
    wan = f"{len(names) - 2} files, {len(names) - 2}.0 GB"
    assert wan in caplog.text
    manifest = json.loads(model.manifest("transformer").read_text())
    assert manifest["revision"] == model.components["transformer"].revision
    assert component_folder(model.manifest("transformer")) == model.components["transformer"].folder
    assert not (model.components["transformer"].folder / "notes.bin").exists()


def test_another_revision_in_the_model_file_makes_the_weights_missing(tmp_path, model):
    fetch_weights(model)
    content = yaml.safe_load((tmp_path / "model.yaml").read_text("utf-8"))
    content["components"]["transformer"] = {"repo": "a/b", "revision": "0" * 40}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content), "utf-8")
    (line,) = missing_weights(load_model("model.yaml", "weights"))
    assert line == "transformer: a/b at 00000000 is wanted, weights/manifests/embedded/transformer.json holds " + (
        "the local folder source/transformer"
    )
