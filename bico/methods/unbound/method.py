"""The twin that a bound composition is compared with: the same prompt, token for token, through no binder."""

from typing import TYPE_CHECKING

from bico.methods import Method

if TYPE_CHECKING:
    from bico.plan.plan import Plan


class Unbound(Method):
    kind = "unbound"
    binds_prompts = True

    def compose_settings(self, plan: "Plan", composition: str) -> dict:
        return {**plan.prompt_settings(composition), "bound": False}
