import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bico import InputError
from bico.methods.bico.binder import BinderSpec
from bico.methods.bico.checkpoint import load_binder, save_binder
from bico.models.devices import Placement
from bico.models.tensors import load_state, require_finite, save_state
from bico.models.wan import (
    decode_video,
    encode_video,
    load_embeds,
    load_text_encoder,
    load_text_projection,
    load_transformer,
    load_vae,
    save_embeds,
)
from bico.render.bound_prompt import load_bound_prompt, save_bound_prompt
from bico.runtime.runs import Journal
from tests import RELEASED
from tests.methods.test_binder import trained

CPU, F32 = torch.device("cpu"), torch.float32
NUMBERS = [float("nan"), float("inf"), float("-inf")]
LIKE = {"weights": torch.zeros(2, 3), "done": torch.tensor(0)}


def spoil(path, name: str, number: float = float("nan")) -> None:
    """Puts the number into one place of a tensor of a safetensors file, its metadata as they were."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors[name].view(-1)[-1] = number
    save_file(tensors, path, metadata)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_number_that_is_none_is_found_among_many(number, dtype):
    tensor = torch.randn(1000, 7).to(dtype)
    require_finite("a.file", {"whole": tensor, "empty": tensor[:0], "counts": torch.arange(3)})
    tensor[571, 3] = number
    with pytest.raises(InputError, match=r"a.file: 1 of 7000 numbers of 'its tensor' are NaN or infinite"):
        require_finite("a.file", {"its tensor": tensor})


@pytest.mark.parametrize("number", NUMBERS)
def test_a_binder_with_a_number_that_is_none_is_neither_loaded_nor_saved(tmp_path, number):
    native, released, name = tmp_path / "a.safetensors", tmp_path / "b.safetensors", "block_binders.1.spatial.3.weight"
    save_binder(native, trained(BinderSpec(8, 2)), {})
    spoil(native, name, number)
    shutil.copy(RELEASED / "image_binder.released.safetensors", released)
    spoil(released, "per_block_concept_adapters.1.proj.3.weight", number)
    for path in (native, released):
        with pytest.raises(InputError, match=f"{path}: 1 of .* numbers of '{name}' are NaN or infinite"):
            load_binder(path)
    binder = trained(BinderSpec(8, 2))
    binder.global_binder.gamma.data.fill_(number)
    with pytest.raises(InputError, match=r"c.safetensors: 1 of 1 numbers of 'global_binder.gamma'"):
        save_binder(tmp_path / "c.safetensors", binder, {})
    assert not (tmp_path / "c.safetensors").exists()


@pytest.mark.parametrize(
    ("component", "load", "tensor"),
    [
        ("transformer", load_transformer, "blocks.1.attn1.to_q.weight"),
        ("transformer", load_text_projection, "condition_embedder.text_embedder.linear_1.weight"),
        ("vae", load_vae, "quant_conv.weight"),
        ("text_encoder", load_text_encoder, "encoder.final_layer_norm.weight"),
    ],
)
def test_weights_with_a_nan_are_refused_when_they_are_loaded(tiny_model, tmp_path, component, load, tensor):
    shutil.copytree(tiny_model / component, tmp_path / component)
    (weights,) = (tmp_path / component).glob("*.safetensors")
    spoil(weights, tensor)
    with pytest.raises(InputError, match=f"{tmp_path / component}: 1 of .* numbers of '{tensor}' are NaN"):
        load(tmp_path / component, Placement(CPU, F32))


def test_embeds_and_bound_prompts_with_a_nan_are_neither_saved_nor_loaded(tmp_path):
    embeds, bound = tmp_path / "embeds.safetensors", tmp_path / "bound.safetensors"
    save_embeds(embeds, [torch.randn(3, 4), torch.randn(2, 4)], "digest")
    prompts, rows, owned = torch.randn(1, 2, 5, 4), torch.tensor([1]), torch.randn(3, 1, 4)
    save_bound_prompt(bound, prompts, rows, owned, {})
    spoil(embeds, "embeds")
    spoil(bound, "bound")
    with pytest.raises(InputError, match=f"{embeds}: 1 of 20 numbers of 'embeds'"):
        load_embeds(embeds)
    with pytest.raises(InputError, match=f"{bound}: 1 of 12 numbers of 'bound'"):
        load_bound_prompt(bound)
    nan = torch.full((3, 4), float("nan"))
    with pytest.raises(InputError, match="'embeds' are NaN"):
        save_embeds(embeds, [nan], "digest")
    with pytest.raises(InputError, match="'bound' are NaN"):
        save_bound_prompt(bound, prompts, rows, owned * float("inf"), {})


def test_a_vae_that_overflows_is_told_and_no_black_picture_comes_of_it(tiny_model):
    vae = load_vae(tiny_model / "vae", Placement(CPU, F32))
    channels = vae.config.z_dim
    vae.post_quant_conv.bias.data.fill_(float("inf"))
    with pytest.raises(InputError, match=r"the VAE: .* numbers of 'pixels' are NaN or infinite"):
        decode_video(vae, torch.zeros(channels, 1, 4, 4))
    vae.quant_conv.bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match=r"the VAE: .* numbers of 'latents' are NaN or infinite"):
        encode_video(vae, torch.zeros(1, 32, 32, 3, dtype=torch.uint8).numpy())


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64])
def test_damaged_embeds_and_bound_prompts_are_named(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    for load in (load_embeds, load_bound_prompt):
        with pytest.raises(InputError, match=f"{path}: .*; remove it, and the same command makes it anew"):
            load(path)


def test_a_bound_prompt_whose_tensors_do_not_fit_together_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    for rows, owned in (([9], torch.zeros(3, 1, 4)), ([1, 2], torch.zeros(3, 1, 4)), ([1], torch.zeros(3, 1, 5))):
        save_bound_prompt(path, torch.zeros(1, 2, 5, 4), torch.tensor(rows), owned, {})
        with pytest.raises(InputError, match="its tensors do not fit together: 'prompt'"):
            load_bound_prompt(path)


def saved(folder, *values: int):
    for value in values:
        save_state(
            folder / "state.safetensors",
            {"weights": torch.full((2, 3), float(value)), "done": torch.tensor(int(value))},
        )
    return folder / "state.safetensors"


DAMAGES = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "emptied": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x93garbage" * 40),
    "another tensor": lambda path: save_file({"other": torch.zeros(2)}, path),
    "another shape": lambda path: save_file(LIKE | {"weights": torch.zeros(3, 2)}, path),
    "another dtype": lambda path: save_file(LIKE | {"weights": torch.zeros(2, 3).half()}, path),
    "not numbers": lambda path: spoil(path, "weights"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_said_and_set_aside_and_the_one_before_is_taken(tmp_path, caplog, damage):
    path = saved(tmp_path, 1, 2)
    assert load_state(path, LIKE)["done"] == 2
    DAMAGES[damage](path)
    caplog.clear()
    assert load_state(path, LIKE)["done"] == 1
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(path) in said and said.endswith("damaged, set aside as state.safetensors.damaged") and "\n" not in said
    assert not path.exists() and (tmp_path / "state.safetensors.damaged").exists()
    assert load_state(saved(tmp_path, 3), LIKE)["done"] == 3  # and it goes on


def test_without_a_good_state_there_is_none(tmp_path):
    assert load_state(tmp_path / "state.safetensors", LIKE) is None
    path = saved(tmp_path, 1, 2)
    for each in tmp_path.glob("*.safetensors"):
        each.write_bytes(b"")
    assert load_state(path, LIKE) is None and len(list(tmp_path.glob("*.damaged"))) == 2


@pytest.mark.parametrize(
    "damage", [b"garbage\n", b"\xff\xfe\x00\n", b"[1]\n", b'{"other": 1}\n', b"[" * 99_999 + b"\n"]
)
def test_a_damaged_journal_is_said_and_set_aside_and_its_good_lines_stay(tmp_path, caplog, damage):
    path, lines = tmp_path / "log.jsonl", [f"{json.dumps({'step': k})}\n".encode() for k in range(3)]
    path.write_bytes(lines[0] + damage + b"".join(lines[1:]))
    journal = Journal(path, keep=lambda entry: entry["step"] < 2)
    assert [entry["step"] for entry in journal.entries] == [0, 1]
    assert f"{path}: 1 lines are damaged; set aside as log.jsonl.damaged" in caplog.text
    assert damage in path.with_name("log.jsonl.damaged").read_bytes()
    assert path.read_bytes() == b"".join(lines[:2])
