"""python -m tests.real.published .real/weights --tokenizers .real/tokenizers

Random weights in the layout in which the hub has Wan2.1-T2V-1.3B-Diffusers, Qwen2.5-VL-7B-Instruct and the two models
that judge results, clip-vit-large-patch14 and dinov2-base, under the folder names that the pipeline gives their pinned
revisions: configurations, file names, shards and the weights' own names as published (tests/real/hub). Widths are the
real ones, the transformer has all its blocks; of the text encoder and of the language model only LAYERS are built.
About 16 GB on disk, 11 GB of memory, some minutes.

Random weights name no concepts, so the language model's first and last weights are rigged (`say`): it writes SAID.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    UMT5Config,
    UMT5EncoderModel,
)

from bico.settings.model_file import load_model
from tests import ROOT

HUB = Path(__file__).parent / "hub"
MODEL = ROOT / "config" / "models" / "wan2.1-t2v-1.3b.yaml"
TEXT_ENCODER = {"num_layers": 2, "num_decoder_layers": 2}
LAYERS = {"num_hidden_layers": 2, "vision_config": {"depth": 4, "fullatt_block_indexes": [1, 3]}}
FEWER = {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 2}}
# No token occurs twice in it, nor does the line break that the model's turn begins after.
SAID = '{"spatial":["a young man"],"temporal": ["raises both arms"]}'
LOUD = 1500


def build_wan(folder: Path, tokenizer: Path, transformer: dict, text_encoder: dict, vae: dict, shard: str = "5GB"):
    """A WanPipeline's folder, random from a seed, in float32. Each dictionary replaces settings of a component's
    published configuration. shard: the most that one file holds."""
    shutil.copytree(HUB / "wan2.1-t2v-1.3b", folder, dirs_exist_ok=True)
    shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    torch.manual_seed(0)
    config = _replace(folder / "transformer" / "config.json", transformer)
    _save(WanTransformer3DModel.from_config(config), folder / "transformer", "diffusion_pytorch_model", shard)
    config = _replace(folder / "vae" / "config.json", vae)
    _save(AutoencoderKLWan.from_config(config), folder / "vae", "diffusion_pytorch_model", shard)
    config = _replace(folder / "text_encoder" / "config.json", text_encoder)
    encoder = UMT5EncoderModel(UMT5Config(**config))
    _save(encoder, folder / "text_encoder", "model", shard, without="encoder.embed_tokens.weight")


def build_qwen(folder: Path, tokenizer, smaller: dict, said: str, new_names: bool = False, shard: str = "2GB"):
    """A Qwen2_5_VLForConditionalGeneration's folder, random from a seed but for what it says, in bfloat16, beside the
    files of `tokenizer`, which lie there already and have a text-only chat template.

    smaller: replaces settings of the published configuration. new_names: the weights' names since transformers 4.52.
    shard: the most that one file holds.
    """
    shutil.copytree(HUB / "qwen2.5-vl-7b", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.jinja"))
    config = _replace(folder / "config.json", smaller)
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration._from_config(Qwen2_5_VLConfig(**config), dtype=torch.bfloat16)
    say(model, tokenizer, said)
    weights = model.state_dict()
    if not new_names:
        weights = {old_name(name): weight for name, weight in weights.items()}
    save_torch_state_dict(weights, folder, filename_pattern="model{suffix}.safetensors", max_shard_size=shard)


def build_judges(clip: Path, dino: Path, tokenizer: Path, smaller: dict) -> None:
    """Folders of a CLIPModel, whose published weights of 2021 hold the numbers of places too, and of a Dinov2Model,
    random from a seed, in float32. smaller: replaces settings of CLIP's published configuration."""
    for folder in (clip, dino):
        shutil.copytree(HUB / folder.name.partition("--")[2].partition("@")[0], folder, dirs_exist_ok=True)
    shutil.copytree(tokenizer, clip, dirs_exist_ok=True)
    torch.manual_seed(0)
    weights = CLIPModel(CLIPConfig(**_replace(clip / "config.json", smaller))).state_dict()
    weights |= {
        f"{part}_model.embeddings.position_ids": torch.arange(n)[None] for part, n in (("text", 77), ("vision", 257))
    }
    save_file(weights, clip / "model.safetensors", {"format": "pt"})
    config = Dinov2Config(**json.loads((dino / "config.json").read_text("utf-8")))
    save_file(Dinov2Model(config).state_dict(), dino / "model.safetensors", {"format": "pt"})


def old_name(name: str) -> str:
    """A weight's name in the published files, which are older than transformers' own."""
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


@torch.no_grad()
def say(model: Qwen2_5_VLForConditionalGeneration, tokenizer, text: str) -> None:
    """Lets the model answer with `text` whatever it is asked: each of its tokens is so loud that it drowns what the
    layers add, and the head gives each the next."""
    chain = tokenizer.encode("<|im_start|>assistant\n")[-1:] + tokenizer.encode(text)
    if len(set(chain)) != len(chain):
        raise ValueError(f"a token occurs twice in {text!r}: what follows it would not be clear")
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    embeddings, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    head[[*chain[1:], ends]] = embeddings[chain]
    embeddings[chain] *= LOUD


def _replace(path: Path, settings: dict) -> dict:
    """A configuration file's content, with some of its settings replaced, there too."""
    content = json.loads(path.read_text("utf-8"))
    for name, value in settings.items():
        content[name] = content[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return content


def _save(model: nn.Module, folder: Path, name: str, shard: str, without: str = "") -> None:
    weights = {key: weight for key, weight in model.state_dict().items() if key != without}
    save_torch_state_dict(weights, folder, filename_pattern=name + "{suffix}.safetensors", max_shard_size=shard)


def main() -> None:
    from transformers import AutoTokenizer

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("weights", type=Path, help="where to")
    arguments.add_argument("--tokenizers", type=Path, required=True, help="holds umt5-xxl, qwen and clip")
    given = arguments.parse_args()
    components = load_model(MODEL, given.weights).components
    build_wan(components["transformer"].folder.parent, given.tokenizers / "umt5-xxl", {}, TEXT_ENCODER, {})
    folder = components["vlm"].folder
    shutil.copytree(given.tokenizers / "qwen", folder, dirs_exist_ok=True)
    build_qwen(folder, AutoTokenizer.from_pretrained(folder), LAYERS, SAID)
    judges = (components[name].folder for name in ("clip", "dino"))
    build_judges(*judges, given.tokenizers / "clip", FEWER)


if __name__ == "__main__":
    main()
