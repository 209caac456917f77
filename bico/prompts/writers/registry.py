"""Who writes prompts: `prompts.writer` of the configuration, by its name. `template` needs no model."""

from pathlib import Path

from bico.prompts.dialogue import Writer


def open_writer(name: str, folder: Path, device, dtype, offload: str) -> Writer:
    """The model that writes, of a local folder. Raises InputError."""
    match name:
        case "vlm":
            from bico.prompts.writers import qwen

            return qwen.load(folder, device, dtype, offload)
    raise ValueError(f"no writer with a model is called {name!r}")
