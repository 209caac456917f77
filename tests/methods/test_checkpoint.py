import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from bico import InputError
from bico.methods.bico.binder import BinderSpec
from bico.methods.bico.checkpoint import export_released, load_binder, save_binder
from tests import RELEASED
from tests.methods.test_binder import trained

D, N = 36, 3
IMAGE, VIDEO = (RELEASED / f"{kind}_binder.released.safetensors" for kind in ("image", "video"))


@pytest.mark.parametrize(
    "spec",
    [
        BinderSpec(8, 2),
        BinderSpec(8, 2, dual=True, absorbent=3),
        BinderSpec(8, 2, absorbent=0, per_block=False),
        BinderSpec(8, 2, dual=True, gate="softmax", gate_weighs="spatial"),
    ],
)
def test_a_native_file_says_what_it_is_and_comes_back_the_same(tmp_path, spec):
    binder = trained(spec)
    save_binder(tmp_path / "a.safetensors", binder, {"concept": "akita", "settings": {"shift": 5}})
    loaded, header = load_binder(tmp_path / "a.safetensors", 8, 2)
    assert loaded.spec == spec
    assert (header["concept"], header["settings"]) == ("akita", {"shift": 5})
    for name, value in binder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


@pytest.mark.parametrize(("path", "dual"), [(IMAGE, False), (VIDEO, True)])
def test_released_files_load_and_export_to_the_same_bytes_of_every_tensor(tmp_path, path, dual):
    binder, header = load_binder(path, D, N)
    assert binder.spec == BinderSpec(D, N, dual, 1, gate="softmax", gate_weighs="spatial")
    assert header["format"] == "released"
    export_released(tmp_path / "out.safetensors", [binder])
    theirs, ours = load_file(path), load_file(tmp_path / "out.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def test_a_released_file_of_several_sources_gives_each_by_its_number(tmp_path):
    both = [load_binder(path, D, N)[0] for path in (IMAGE, VIDEO)]
    export_released(tmp_path / "both.safetensors", both)
    for k, binder in enumerate(both):
        loaded, _ = load_binder(tmp_path / "both.safetensors", D, N, source=k)
        assert loaded.spec == binder.spec
        assert torch.equal(loaded.absorbent, binder.absorbent)
    with pytest.raises(InputError, match=r"sources 0, 1, and none was named"):
        load_binder(tmp_path / "both.safetensors", D, N)
    with pytest.raises(InputError, match=r"sources 0, 1, and source 2 was asked for"):
        load_binder(tmp_path / "both.safetensors", D, N, source=2)


def test_a_native_file_exported_to_the_released_layout_comes_back(tmp_path):
    binder = trained(BinderSpec(D, N, dual=True, gate="softmax", gate_weighs="spatial"))
    export_released(tmp_path / "out.safetensors", [binder])
    loaded, _ = load_binder(tmp_path / "out.safetensors", D, N)
    assert all(torch.equal(value, binder.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("gate", "weighs", "warned"), [("softmax", "spatial", 0), ("softmax", "temporal", 1), ("zero", "temporal", 1)]
)
def test_a_gate_that_the_released_code_reads_otherwise_is_exported_with_a_warning(
    tmp_path, caplog, gate, weighs, warned
):
    export_released(tmp_path / "out.safetensors", [trained(BinderSpec(D, N, dual=True, gate=gate, gate_weighs=weighs))])
    assert caplog.text.count("will ignore the temporal branch") == warned


def test_a_released_file_of_the_global_binder_alone_fits_any_number_of_blocks(tmp_path):
    kept = {name: value for name, value in load_file(IMAGE).items() if not name.startswith("per_block")}
    save_file(kept, tmp_path / "global.safetensors")
    binder, _ = load_binder(tmp_path / "global.safetensors", D, N)
    assert (binder.spec.per_block, binder.spec.blocks, len(binder.block_binders)) == (False, N, 0)


def broken(tmp_path, change):
    tensors = load_file(VIDEO)
    change(tensors)
    save_file(tensors, tmp_path / "broken.safetensors")
    return tmp_path / "broken.safetensors"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("global_concept_adapter.proj.1.weight"), "'global_binder.spatial.1.weight' is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is not expected"),
        (
            lambda t: t.update({"global_concept_adapter.scaling": torch.zeros(2)}),
            r"'global_binder.gamma' has shape \[2\], expected \[1\]",
        ),
    ],
)
def test_missing_extra_and_misshaped_keys_are_refused_by_name(tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        load_binder(broken(tmp_path, change), D, N)


def test_a_file_for_another_model_is_refused_with_what_was_expected():
    with pytest.raises(InputError, match="width 36 with 3 blocks; this model has width 1536 and 30 blocks"):
        load_binder(IMAGE, 1536, 30)


def test_a_pickle_is_refused_and_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="not a safetensors file"):
        load_binder(tmp_path / "a.safetensors", D, N)
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no such binder file"):
        load_binder(tmp_path / "none.safetensors", D, N)
