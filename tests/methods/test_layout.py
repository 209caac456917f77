import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bico import InputError
from bico.methods.bico.binder import BinderSpec, ConceptBinder
from bico.methods.bico.checkpoint import load_binder
from bico.methods.bico.layout import FORMAT, read_layout, shapes
from bico.plan.tables import load_tables
from bico.settings.model_file import load_model
from tests import RELEASED, ROOT
from tests.methods.test_binder import trained

SPECS = [
    BinderSpec(8, 2),
    BinderSpec(8, 2, dual=True, absorbent=3),
    BinderSpec(8, 2, absorbent=0, per_block=False),
]


@pytest.mark.parametrize("spec", SPECS)
def test_the_layout_names_every_tensor_of_a_binder_with_its_shape(spec):
    assert shapes(spec) == {name: tuple(value.shape) for name, value in ConceptBinder(spec).state_dict().items()}


def native(path: Path, change=lambda header: None, spec: BinderSpec = SPECS[1], tensors: dict | None = None) -> Path:
    """A native file whose header `change` has edited, or has replaced by what it returns."""
    header = {"format": FORMAT, "version": 1, "spec": dict(vars(spec))}
    header = change(header) or header
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(trained(spec).state_dict() | (tensors or {}), path, {FORMAT: text})
    return path


def of_spec(**values):
    return lambda header: header["spec"].update(values)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda header: "{not JSON", "its header 'bico-binder' is not JSON"),
        (lambda header: "9" * 5000, "its header 'bico-binder' is not JSON"),
        (lambda header: "[" * 100_000, "its header 'bico-binder' is not JSON"),
        (lambda header: "[1]", r"its header 'bico-binder' is \[1\], allowed: a JSON object"),
        (lambda header: header.pop("spec") and None, "'spec' is missing in its header, allowed: an object of dim"),
        (lambda header: header.update(spec=None), "'spec' is null in its header"),
        (lambda header: header.update(version=2), "binder format 2; this version reads 1"),
        (lambda header: header.update(version=True), "binder format true"),
        (of_spec(rank=4), "header, spec.rank: unknown, allowed: dim, blocks"),
        (lambda header: header["spec"].pop("dim") and None, "spec.dim: missing, allowed: a whole number of at least 1"),
        (of_spec(dim="8"), "spec.dim: found 8, allowed: a whole number"),
        (of_spec(dim=8.0), "spec.dim: found 8.0, allowed: a whole number"),
        (of_spec(blocks=-1), "spec.blocks: found -1, allowed: a whole number of at least 1"),
        (of_spec(blocks=True), "spec.blocks: found true"),
        (of_spec(dual=1), "spec.dual: found 1, allowed: true or false"),
        (of_spec(gate="open"), "spec.gate: found open, allowed: zero, softmax"),
        (of_spec(blocks=10**9), "its header says 1000000000 blocks, but the file holds"),
        (of_spec(dim=10**6), r"'absorbent' has shape \[3, 8\], expected \[3, 1000000\]"),
        (of_spec(absorbent=10**8), r"'absorbent' has shape \[3, 8\], expected \[100000000, 8\]"),
        (of_spec(dual=False), "'block_binders.0.gate.0.bias' is not expected"),
    ],
)
def test_a_header_that_describes_no_binder_is_refused_before_anything_is_made(tmp_path, monkeypatch, change, says):
    path = native(tmp_path / "a.safetensors", change)
    monkeypatch.setattr("bico.methods.bico.checkpoint.ConceptBinder", None)
    with pytest.raises(InputError, match=says) as problem:
        load_binder(path)
    assert all(line.startswith(str(path)) for line in problem.value.problems)


def test_weights_of_another_type_are_refused_by_name(tmp_path):
    whole = torch.zeros(8, 8, dtype=torch.int8)
    path = native(tmp_path / "a.safetensors", tensors={"block_binders.1.spatial.3.weight": whole})
    with pytest.raises(InputError, match=r"'block_binders.1.spatial.3.weight' holds I8, allowed: F32, F16, BF16, F64"):
        load_binder(path)


@pytest.mark.parametrize("spec", SPECS)
def test_a_native_file_that_lost_its_header_is_refused_and_never_read_as_a_released_one(tmp_path, spec):
    path = native(tmp_path / "a.safetensors", spec=spec)
    save_file(load_file(path), path)
    with pytest.raises(InputError, match="a tensor of a native binder file, but the file has lost its header"):
        load_binder(path)


def test_a_released_file_that_names_a_tensor_twice_is_refused(tmp_path):
    tensors = load_file(RELEASED / "image_binder.released.safetensors")
    tensors["global_concept_adapter.spatial.0.bias"] = tensors["global_concept_adapter.proj.0.bias"].clone()
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="are one and the same tensor"):
        load_binder(tmp_path / "a.safetensors")


def test_a_file_of_the_wrong_model_names_five_tensors_and_counts_the_rest(tmp_path):
    path = native(tmp_path / "a.safetensors", of_spec(dim=9))
    with pytest.raises(InputError, match=r"and \d+ more of this kind") as problem:
        load_binder(path)
    assert len(problem.value.problems) == 6


def test_a_binder_file_is_checked_without_torch():
    code = "import sys, bico.plan.tables as m; m.read_layout(sys.argv[1]); sys.exit('torch' in sys.modules)"
    path = RELEASED / "video_binder.released.safetensors"
    assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT).returncode == 0


def test_every_bad_binder_file_is_named_while_planning_with_its_row(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    model = load_model("config/models/tiny.yaml", tmp_path)
    native(tmp_path / "spec.safetensors", of_spec(rank=4))
    save_file(load_file(native(tmp_path / "bare.safetensors")), tmp_path / "bare.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    names = ("spec", "bare", "text")
    rows = [f"{name},{tmp_path / name}.safetensors" for name in names]
    (tmp_path / "concepts.csv").write_text("\n".join(["concept,binder", *rows]))
    (tmp_path / "compositions.csv").write_text("composition,prompt\nx,free\n")
    with pytest.raises(InputError) as problem:
        load_tables(tmp_path / "concepts.csv", tmp_path / "compositions.csv", model, thorough=True)
    sayings = ("spec.rank", "lost its header", "not a safetensors")
    for row, (name, said) in enumerate(zip(names, sayings, strict=True), start=2):
        (line,) = [line for line in problem.value.problems if f"{name}.safetensors" in line]
        assert line.startswith(f"{tmp_path}/concepts.csv, row {row}, binder: ") and said in line


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["dim", "blocks", "dual", "absorbent", "per_block", "gate", "gate_weighs", "other"])
sizes = st.sampled_from([0, 1, 2, 3, 8, -1, 10**8, 10**30])
words = st.sampled_from(["zero", "softmax", "spatial"])


def opened(path: Path) -> None:
    """A binder whose tensors are those of its spec, or an InputError that names the file; nothing else."""
    try:
        layout = read_layout(path)
        binder, _ = load_binder(path)
    except InputError as problem:
        assert str(path) in str(problem)
    else:
        assert {name: tuple(value.shape) for name, value in binder.state_dict().items()} == shapes(layout.spec)


here = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@here
@given(st.binary(max_size=200), st.binary(max_size=300), st.sampled_from(["raw", "length", "json"]))
def test_arbitrary_bytes_are_a_binder_or_refused(tmp_path, header, data, kind):
    path = tmp_path / "a.safetensors"
    if kind == "json":
        header = json.dumps({"a": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes((b"" if kind == "raw" else struct.pack("<Q", len(header))) + header + data)
    opened(path)


@here
@given(st.dictionaries(fields, anything | sizes | words, max_size=3), anything)
def test_a_changed_header_is_a_binder_or_refused(tmp_path, changes, other):
    path = native(tmp_path / "a.safetensors", lambda header: header["spec"].update(changes) or header | {"more": other})
    opened(path)


@here
@given(st.data())
def test_a_file_with_changed_bytes_or_another_length_is_a_binder_or_refused(tmp_path, data):
    path = tmp_path / "a.safetensors"
    if data.draw(st.booleans(), "native"):
        native(path, spec=BinderSpec(2, 1, absorbent=1))
    else:
        path.write_bytes((RELEASED / "image_binder.released.safetensors").read_bytes())
    content = bytearray(path.read_bytes())
    header = struct.unpack("<Q", content[:8])[0]
    for at in data.draw(st.lists(st.integers(0, 8 + header - 1), max_size=4), "at"):
        content[at] = data.draw(st.integers(0, 255) | st.sampled_from(b'{}[]",:0123456789'), "byte")
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)), "length")])
    opened(path)
