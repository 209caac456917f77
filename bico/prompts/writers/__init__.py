"""Who writes the training prompts: `prompts.writer` of the configuration, by name.

A writer that asks no model is a function; one that does is a `Writer` of `bico.prompts.dialogue`, which asks again,
checks and keeps what is written, whoever the writer is; `bico.prompts.diversify` opens it. Free of torch: Snakemake
plans with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bico.prompts.writers.template import template_prompts

if TYPE_CHECKING:
    from bico.text.phrases import Phrases


@dataclass(frozen=True)
class Kind:
    """prompts: of a writer that asks no model, from the phrases, the kind of media (`image` or `video`), how many, and
    the seed of the first. component: of the model file, whose weights a writer needs."""

    prompts: "Callable[[Phrases, str, int, int], list[str]] | None" = None
    component: str | None = None

    @property
    def asks(self) -> bool:
        """Whether it asks a model."""
        return self.prompts is None


WRITERS = {
    "vlm": Kind(component="vlm"),
    "template": Kind(prompts=template_prompts),
}
