"""Methods: ways from concepts and a prompt to a video. BiCo is one of them.

A method is a folder here, named as its `kind`. Its `method.py` holds a subclass of Method, and its `schema.yaml` the
settings that it takes. The rule file of the same name in workflow/rules/methods ends in

    results/<method>/compositions/<composition>/seed<k>.mp4 (.png of one frame), and beside it .mp4.json, what made it.

All that comes before (media, phrases, prompts, latents, embeds) and after (sheets, pages) is shared. Free of torch:
Snakemake plans with it.
"""

import importlib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bico import InputError
from bico.settings.schema import checked

if TYPE_CHECKING:
    from bico.plan.plan import Plan
    from bico.plan.tables import Composition

DEFAULT = "bico"


@dataclass(frozen=True)
class Method:
    """One method of a run. name: of its folder under the results; settings: complete, `kind` among them."""

    name: str
    settings: dict

    kind: ClassVar[str]
    # Whether it ends in bound prompts, which the shared rule `render` makes into videos.
    binds_prompts: ClassVar[bool] = False
    # The components of the model that it needs, but for the language model.
    components: ClassVar[tuple[str, ...]] = ("transformer", "vae", "text_encoder", "tokenizer")

    @classmethod
    def complete(cls, settings: dict) -> dict:
        """Settings that the schema allows, with what it cannot say filled in."""
        return settings

    def refusal(self, plan: "Plan", composition: "Composition") -> str | None:
        """Why it cannot make a composition; None if it can."""
        return None

    def training_prompts(self, plan: "Plan") -> list[str]:
        """The embeds of all prompts that it trains on."""
        return []

    def trained_files(self, plan: "Plan") -> list[str]:
        """The files that it trains and composes with, one for each concept."""
        return []

    def plots(self, plan: "Plan", concepts: Collection[str] | None = None) -> list[str]:
        """What its page shows besides the compositions: of some concepts, or of all."""
        return []


@cache
def kinds() -> dict[str, type[Method]]:
    """The methods that there are, by their `kind`."""
    names = sorted(path.parent.name for path in Path(__path__[0]).glob("*/method.py"))
    modules = {name: importlib.import_module(f"{__name__}.{name}.method") for name in names}
    return {name: next(_methods_of(module)) for name, module in modules.items()}


def schema_of(kind: str) -> Path:
    return Path(__path__[0]) / kind / "schema.yaml"


def resolve(method: dict, base: dict | None = None) -> dict:
    """A method's settings, complete. base: complete settings that those given stand on, if they are of the same kind
    and no preset is asked for. Raises InputError."""
    kind = method.get("kind", DEFAULT)
    if not isinstance(kind, str) or kind not in kinds():
        raise InputError(f"method.kind: found '{kind}', allowed: {', '.join(kinds())}")
    given = {name: value for name, value in method.items() if name != "kind"}
    if base and base["kind"] == kind and "preset" not in given:
        given = {name: value for name, value in base.items() if name != "kind"} | given
    settings, problems = checked(given, schema_of(kind), "method")
    if problems:
        raise InputError(*problems)
    return {"kind": kind, **kinds()[kind].complete(settings)}


def make(name: str, settings: dict) -> Method:
    """The method of complete settings."""
    return kinds()[settings["kind"]](name, settings)


def _methods_of(module):
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__:
            yield value
