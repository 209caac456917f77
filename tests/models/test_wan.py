"""bico.models.wan: weights are loaded from safetensors alone."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from bico import InputError
from bico.models.devices import Placement
from bico.models.wan import load_text_encoder, load_transformer, load_vae

LOADS = {
    "transformer": (load_transformer, "diffusion_pytorch_model"),
    "vae": (load_vae, "diffusion_pytorch_model"),
    "text_encoder": (load_text_encoder, "model"),
}


@pytest.mark.parametrize("component", LOADS)
def test_a_pickle_is_never_opened_even_where_there_is_nothing_else(component, tiny_model, tmp_path, monkeypatch):
    load, name = LOADS[component]
    folder = tmp_path / component
    shutil.copytree(tiny_model / component, folder)
    pickle = folder / f"{'pytorch_model' if name == 'model' else name}.bin"
    torch.save(load_file(folder / f"{name}.safetensors"), pickle)
    (folder / f"{name}.safetensors").unlink()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    with pytest.raises(InputError, match=f"{component}: cannot be loaded"):
        load(folder, Placement())
