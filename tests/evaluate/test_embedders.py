"""CLIP's and DINOv2's embeddings, against transformers' own way from a picture to a vector."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPModel, Dinov2Model

from bico import InputError
from bico.evaluate.features import FeatureSettings, read_features, write_features
from bico.media.video import write_image
from bico.weights.loadable import check
from tests import ROOT


@pytest.fixture
def picture(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (48, 70, 3), dtype=np.uint8)
    write_image(tmp_path / "picture.png", frame)
    return tmp_path / "picture.png"


def prepared(path, side: int) -> torch.Tensor:
    """As Pillow and arithmetic do it: the shorter side resized, the middle 32 x 32 cut out, standardised."""
    image = Image.open(path)
    image = image.resize((int(side * image.width / image.height), side), Image.Resampling.BICUBIC)
    left, top = (image.width - 32) // 2, (image.height - 32) // 2
    pixels = np.asarray(image.crop((left, top, left + 32, top + 32)), np.float64) / 255
    return torch.from_numpy(pixels.transpose(2, 0, 1))[None]


def standardised(pixels: torch.Tensor, mean: tuple, std: tuple) -> torch.Tensor:
    return ((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).float()


def test_a_picture_and_a_text_are_embedded_as_by_hand(picture, tiny_model, tmp_path):
    settings = FeatureSettings(text="a red square", dtype="float32")
    write_features(settings, picture, tmp_path / "f.safetensors", tiny_model / "clip", tiny_model / "dino")
    found = read_features(tmp_path / "f.safetensors")
    clip, dino = CLIPModel.from_pretrained(tiny_model / "clip"), Dinov2Model.from_pretrained(tiny_model / "dino")
    openai = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    tokens = AutoTokenizer.from_pretrained(tiny_model / "clip")(["a red square"], return_tensors="pt")
    with torch.no_grad():
        vision = clip.vision_model(standardised(prepared(picture, 32), *openai)).pooler_output
        image = clip.visual_projection(vision)
        text = clip.text_projection(clip.text_model(**tokens).pooler_output)
        states = dino(standardised(prepared(picture, 36), *openai)).last_hidden_state[:, 0]
    for name, expected in (("clip", image), ("clip_text", text[0]), ("dino", states)):
        expected = (expected / expected.norm(dim=-1, keepdim=True)).numpy()
        assert found[name] == pytest.approx(expected, abs=2e-5), name


def test_only_what_is_asked_is_computed(picture, tiny_model, tmp_path):
    write_features(FeatureSettings(), picture, tmp_path / "f.safetensors", dino=tiny_model / "dino")
    assert read_features(tmp_path / "f.safetensors").keys() == {"dino"}


def test_published_weights_with_numbers_of_places_can_be_loaded_and_a_folder_without_a_preprocessor_not(
    tiny_model, tmp_path
):
    import shutil

    import yaml
    from safetensors.torch import load_file, save_file

    from bico.settings.model_file import load_model

    folder = tmp_path / "clip"
    shutil.copytree(tiny_model / "clip", folder)
    weights = load_file(folder / "model.safetensors")
    weights["text_model.embeddings.position_ids"] = torch.arange(77)[None]  # as the published file of 2021 has it
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    content = yaml.safe_load((ROOT / "config" / "models" / "tiny.yaml").read_text("utf-8"))
    content["components"]["clip"] = {"path": str(folder)}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content))
    model = load_model(tmp_path / "model.yaml", "weights")
    check(model, model.components["clip"])
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="preprocessor cannot be loaded"):
        check(model, model.components["clip"])
