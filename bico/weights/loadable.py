"""Whether a component can be loaded, asked of its files and of the very libraries that will load them.

No weights are held in memory: the models stand on torch's meta device, which keeps shapes and no numbers. Nothing here
opens a pickle.
"""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import diffusers
import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from bico import InputError
from bico.settings.model_file import Component, ModelFile
from bico.text.tokens import PromptTokenizer
from bico.weights.manifests import needed_files

log = logging.getLogger(__name__)
KINDS = {
    "transformer": diffusers.WanTransformer3DModel,
    "transformer_2": diffusers.WanTransformer3DModel,
    "vae": diffusers.AutoencoderKLWan,
    "text_encoder": transformers.UMT5EncoderModel,
    "vlm": transformers.Qwen2_5_VLForConditionalGeneration,
    "clip": transformers.CLIPModel,
    "dino": transformers.Dinov2Model,
}
PROCESSORS = {"clip": CLIPImageProcessorPil, "dino": BitImageProcessorPil}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Fields of two components' configs that must be equal.
PAIRS = (
    ("transformer", "in_channels", "vae", "z_dim"),
    ("transformer", "text_dim", "text_encoder", "d_model"),
    *(
        ("transformer", field, "transformer_2", field)
        for field in ("in_channels", "text_dim", "num_layers", "num_attention_heads", "attention_head_dim")
    ),
)


def check(model: ModelFile, component: Component) -> None:
    """Raises InputError, a line for each file with what is wrong with it, where a component cannot be loaded: what
    stands for a file that was not fetched, files cut off or missing, pickles alone, weights that the config does not
    ask for in these shapes or that it asks for in vain, a tokenizer without a vocabulary, components of two models."""
    folder = component.folder
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    _refuse(problem for path in needed_files(folder) for problem in _damage(path))
    if component.name == "tokenizer":
        _check_tokenizer(folder)
        return
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(f"{config}: missing; it says what the weights are of")
    kind = KINDS[component.name]
    where, files = _weight_files(kind, folder)
    _refuse(problem for path in files for problem in _unfit_dtypes(path))
    _check_on_meta(kind, folder, where, files)
    _refuse(_misfits(model, component.name))
    if component.name == "vlm":
        _check_vlm(folder)
    if component.name in PROCESSORS:
        _check_judge(component.name, folder)


def not_finite(path: Path) -> Iterator[str]:
    """What of a safetensors file holds NaN or infinite values; nothing of other files."""
    if path.suffix != ".safetensors":
        return
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            tensor = file.get_tensor(name)
            if not _is_finite(tensor):
                yield f"{path}: {name} holds NaN or infinite values; get or make this file anew"


def _is_finite(tensor: torch.Tensor) -> bool:
    """By its extremes, which NaN takes over: one pass without a copy."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    tensor = tensor.float() if tensor.itemsize == 1 else tensor
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _refuse(problems) -> None:
    if problems := list(problems):
        raise InputError(*problems)


def _damage(path: Path) -> Iterator[str]:
    """What is wrong with a file, whatever it is for."""
    with open(path, "rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            yield f"{path}: a pointer of git-LFS, not the file itself; fetch it, for instance with `git lfs pull`"
            return
    try:
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                pass
    except ValueError as problem:
        yield f"{path}: not JSON: {problem}"
    except SafetensorError as problem:
        yield f"{path}: not a whole safetensors file ({path.stat().st_size:,} bytes): {problem}"


def _weight_files(kind: type, folder: Path) -> tuple[Path, list[Path]]:
    """The file that the library opens, weights or an index of them, and all files of weights."""
    of_diffusers = issubclass(kind, diffusers.ModelMixin)
    single = folder / f"{'diffusion_pytorch_model' if of_diffusers else 'model'}.safetensors"
    index = folder / f"{single.name}.index.json"
    if index.is_file() and (of_diffusers or not single.is_file()):
        return index, _shards(index)
    if single.is_file():
        return single, [single]
    if pickles := sorted(path for pattern in PICKLES for path in folder.glob(pattern)):
        raise InputError(
            f"{pickles[0]}: a pickle, which can run code and is never opened; convert the weights to {single.name}"
        )
    others = ", ".join(path.name for path in sorted(folder.glob("*.safetensors"))) or "no weights"
    raise InputError(f"{single}: missing, and no {index.name} either; the folder holds {others}")


def _shards(index: Path) -> list[Path]:
    content = json.loads(index.read_text("utf-8"))
    shard_of = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shard_of, dict) or not all(isinstance(name, str) for name in shard_of.values()) or not shard_of:
        raise InputError(f"{index}: has no weight_map, which says in which file each weight is")
    shards = sorted(set(shard_of.values()))
    _refuse(f"{index}: names {name}, which is outside its folder" for name in shards if Path(name).name != name)
    paths = [index.with_name(name) for name in shards]
    _refuse(f"{path}: missing, and {index.name} names it" for path in paths if not path.is_file())
    names = {path.name: set(_header(path)) for path in paths}
    _refuse(
        f"{index.with_name(shard)}: {name} is not in it, and {index.name} says so"
        for name, shard in shard_of.items()
        if name not in names[shard]
    )
    return paths


def _header(path: Path) -> dict[str, tuple[str, list[int]]]:
    """Each tensor's type and shape."""
    with safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (piece.get_dtype(), piece.get_shape()) for name, piece in slices.items()}


def _unfit_dtypes(path: Path) -> Iterator[str]:
    # Of CLIP's published weights the numbers of places are a part.
    kinds = {name: dtype for name, (dtype, _) in _header(path).items() if not name.endswith("position_ids")}
    whole = [f"{name} ({dtype})" for name, dtype in kinds.items() if not dtype.startswith(("F", "BF"))]
    if whole:
        yield f"{path}: {len(whole)} weights are whole numbers, such as {whole[0]}; quantized weights are not read"


def _check_on_meta(kind: type, folder: Path, where: Path, files: list[Path]) -> None:
    """Lets the library load the folder itself, so that every layout that it reads and renames is accepted."""
    options = {"device_map": "meta", "local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    if not issubclass(kind, diffusers.ModelMixin):
        options["ignore_mismatched_sizes"] = True  # so that they are listed, each with both shapes
    try:
        with _quiet():
            _, info = kind.from_pretrained(folder, **options)
    except Exception as problem:  # whatever a config may lead a library to
        said = str(problem).split(". ")[0].splitlines() or [type(problem).__name__]
        raise InputError(f"{where}: does not fit {folder}/config.json: {said[0]}") from None
    _refuse(
        f"{_holder(files, name) or where}: {name} is {list(found)}, {folder}/config.json asks for {list(asked)}"
        for name, found, asked in sorted(info["mismatched_keys"])[:1]
    )
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"{where}: {len(missing)} weights that config.json asks for are missing, such as {missing[0]}")
    if unused := sorted(info["unexpected_keys"]):
        log.warning("%s: %d weights are not used, such as %s", where, len(unused), unused[0])


def _holder(files: list[Path], name: str) -> Path | None:
    return next((path for path in files if name in _header(path)), None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' own reports and bars."""
    logs = (transformers.utils.logging, diffusers.utils.logging)
    levels = [log.get_verbosity() for log in logs]
    try:
        for log in logs:
            log.set_verbosity(log.CRITICAL)
            log.disable_progress_bar()
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)
            log.enable_progress_bar()


def _misfits(model: ModelFile, name: str) -> Iterator[str]:
    """What two components' configs say against each other, of those that are there."""
    for one, field, other, other_field in PAIRS:
        configs = model.config(one), model.config(other)
        if name not in (one, other) or None in configs:
            continue
        mine, theirs = configs[0].get(field), configs[1].get(other_field)
        if None not in (mine, theirs) and mine != theirs:
            folders = model.components[one].folder, model.components[other].folder
            yield f"{folders[0]}/config.json: {field} is {mine}, but {other_field} in {folders[1]}/config.json {theirs}"


def _check_tokenizer(folder: Path) -> None:
    tokens = PromptTokenizer(folder).tokenise_text("a word")
    if len(tokens) < 2:
        raise InputError(f"{folder / 'tokenizer.json'}: its vocabulary has no tokens for a word")


def _check_vlm(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if config.get("model_type") != "qwen2_5_vl":
        found = config.get("model_type")
        raise InputError(f"{folder}/config.json: model_type is {found!r}; it must be 'qwen2_5_vl'")
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except Exception as problem:  # whatever files may lead a library to
        raise InputError(f"{folder}: its tokenizer or preprocessor cannot be loaded: {problem}") from None
    # transformers makes an empty tokenizer, without a word, of a folder that lacks the vocabulary.
    marks = {"<|image_pad|>": config.get("image_token_id"), "<|video_pad|>": config.get("video_token_id")}
    if tokenizer.convert_tokens_to_ids(list(marks)) != list(marks.values()):
        raise InputError(f"{folder}/tokenizer.json: its vocabulary does not have {marks}, as the model's config does")


def _check_judge(name: str, folder: Path) -> None:
    try:
        with _quiet():
            PROCESSORS[name].from_pretrained(folder, local_files_only=True)
            tokenizer = (
                transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True) if name == "clip" else None
            )
    except Exception as problem:  # whatever files may lead a library to
        raise InputError(f"{folder}: its tokenizer or preprocessor cannot be loaded: {problem}") from None
    if tokenizer is not None and len(tokenizer.tokenize("a word")) == 0:
        raise InputError(f"{folder}/tokenizer.json: its vocabulary has no tokens for a word")
