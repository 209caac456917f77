"""The card of the world's models: what they are, how they were trained, how well they do on held-out scenes."""

import json
import math
import shutil
from pathlib import Path

from jinja2 import Environment
from safetensors import safe_open

from bico.runtime.files import write_text
from toyworld.training.loop import replace_folder

# Where each component comes from, under the folder of the trained models.
COMPONENTS = {
    "vae": "vae",
    "vlm": "vlm",
    "transformer": "transformer/transformer",
    "text_encoder": "transformer/text_encoder",
    "tokenizer": "transformer/tokenizer",
}
CARD = """# The models of the toy world

Small models of the classes that Wan2.1 and Qwen2.5-VL are made of, trained by this repository on the procedural world
of `toyworld`, and on nothing else. `make world` makes them anew; nothing here was edited by hand. They know the
world's words only: six shapes, eight colours, fourteen motions and the like (`toyworld/scene.py`).

| component | class | parameters | on disk |
| --- | --- | --- | --- |
{%- for c in components %}
| `{{ c.name }}/` | {{ c.kind }} | {{ "%.2f"|format(c.parameters / 1e6) }} M | {{ "%.1f"|format(c.bytes / 1e6) }} MB |
{%- endfor %}

Together {{ "%.1f"|format(total / 1e6) }} MB.

## Training

| model | steps | hours | last loss |
| --- | --- | --- | --- |
{%- for t in trainings %}
| {{ t.model }} | {{ t.steps }} | {{ "%.2f"|format(t.hours) }} | {{ "%.4f"|format(t.loss) }} |
{%- endfor %}

Hours are the training's, by the clock of the machine that it ran on; the losses are means over the last twentieth of
the steps.{{ " " ~ notes if notes }}

## Figures, on scenes that were never trained on
{% if vae %}
**VAE**, {{ vae.scenes }} clips of 81 frames: {{ "%.1f"|format(vae.psnr.mean) }} dB (the worst clip
{{ "%.1f"|format(vae.psnr.lowest) }} dB). A frame's mean colour is off by
{{ "%.2f"|format(vae.colour_by_frame[:9]|sum / 9) }} of 255 levels in the first nine frames and by
{{ "%.2f"|format(vae.colour_by_frame[-9:]|sum / 9) }} in the last nine.
{%- if vae.shade is not none %} The subjects' shades move by a CIEDE2000 of
{{ "%.1f"|format(vae.shade) }} (median).{% endif %} What the oracle still reads rightly from the reconstructions:

{{ table(vae.oracle) }}
{% endif %}{% if vlm %}
**Language model**, {{ vlm.scenes }} clips and as many images:

| | valid JSON | just the right phrases | prompts that keep all phrases, at first | after asking again |
| --- | --- | --- | --- | --- |
{%- for kind in ("image", "video") %}
| {{ kind }} | {{ share(vlm[kind].valid) }} | {{ share(vlm[kind].right) }} | {{ share(vlm[kind].kept_first_try) }} |
{{- " " }}{{ share(vlm[kind].kept) }} |
{%- endfor %}

By attribute, of the clips:

{{ table(vlm.video.words) }}
{% endif %}{% if transformer %}
**Text to video**, {{ transformer.captions }} captions{{ " of single frames" if transformer.frames == 1 }}:
the share in which the oracle sees what the caption says:

{{ table(transformer.agreement) }}

Of the captions of one subject:

{{ table(transformer.alone) }}
{% endif %}"""


def publish(folder: str | Path, output: str | Path, notes: str = "") -> None:
    """Copies the trained components from `folder` into `output`, in place of what lies there, and writes its README.md
    from their logs and reports, and `notes` on the training. Models that are not trained yet are left out."""
    folder, output = Path(folder), Path(output)
    there = [name for name, source in COMPONENTS.items() if (folder / source).is_dir()]
    for name in there:
        source = folder / COMPONENTS[name]
        replace_folder(output / name, lambda part, source=source: shutil.copytree(source, part))
    components = [_component(output / name) for name in there]
    trained = [model for model in _MODELS if model in there]
    found = {
        "notes": notes,
        "components": components,
        "total": sum(component["bytes"] for component in components),
        "trainings": [_training(model, folder / f"{model}.jsonl") for model in trained],
        **{model: json.loads((folder / f"{model}.json").read_text()) for model in trained},
    }
    environment = Environment(keep_trailing_newline=True)
    environment.globals |= {"table": _table, "share": _share}
    write_text(output / "README.md", environment.from_string(CARD).render(found))


_MODELS = ("vae", "vlm", "transformer")


def _component(folder: Path) -> dict:
    parameters = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            parameters += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    config = folder / "config.json"
    read = json.loads(config.read_text()) if config.is_file() else {}
    kind = read.get("_class_name") or ", ".join(read.get("architectures", ["byte-fallback BPE"]))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"name": folder.name, "kind": kind, "parameters": parameters, "bytes": size}


def _training(model: str, log: Path) -> dict:
    """Of a log, or of several one after the other: of a training and of those that began with what it had written."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    ends = [
        entry for entry, following in zip(entries, [*entries[1:], {"step": 0}], strict=True) if not following["step"]
    ]
    last = entries[-max(len(entries) // 20, 1) :]
    return {
        "model": model,
        "steps": sum(entry["step"] + 1 for entry in ends),
        "hours": sum(entry["seconds"] for entry in ends) / 3600,
        "loss": sum(entry["loss"] for entry in last) / len(last),
    }


def _table(shares: dict[str, float]) -> str:
    head = " | ".join(shares)
    return f"| {head} |\n|{' --- |' * len(shares)}\n| {' | '.join(_share(share) for share in shares.values())} |"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
