"""BiCo as the plan sees it: its stages of training, and which files they make."""

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING

from bico import InputError
from bico.methods import Method
from bico.methods.bico.switches import PRESETS

if TYPE_CHECKING:
    from bico.plan.plan import Plan
    from bico.plan.tables import Concept


class BiCo(Method):
    """Binds each concept's words by binders of its own: stage 1 on an image or a clip's frames, stage 2 on a clip."""

    kind = "bico"
    binds_prompts = True

    @classmethod
    def complete(cls, settings: dict) -> dict:
        """Every switch: those of the preset, unless they are given."""
        preset = PRESETS[settings.get("preset", "paper")]
        given = {name: value for name, value in settings.items() if name != "preset"}
        return dataclasses.asdict(dataclasses.replace(preset, **given))

    @property
    def switches(self) -> dict:
        return {name: value for name, value in self.settings.items() if name != "kind"}

    def binder(self, plan: "Plan", concept: str) -> str:
        """The binder with which a concept is composed: the one that was given, or that of its last stage."""
        row = plan.concept(concept)
        return row.binder or self.binder_file(plan, concept, f"stage{self.last_stage(row)}.safetensors")

    def binder_file(self, plan: "Plan", concept: str, name: str) -> str:
        return plan.method_file(self.name, f"binders/{concept}/{name}")

    def last_stage(self, concept: "Concept") -> int:
        """2 for a video if there is a temporal stage, else 1."""
        return 2 if self.settings["temporal_stage"] and concept.kind == "video" else 1

    def stages(self, plan: "Plan") -> list[tuple[str, int]]:
        """Every concept that is trained here, with each of its stages."""
        return [(row.id, stage) for row in plan.trained() for stage in range(1, self.last_stage(row) + 1)]

    def trains_on_frames(self, concept: "Concept", stage: int) -> bool:
        """Stage 1 of a video with a temporal stage sees single frames; everything else the whole clip."""
        return stage < self.last_stage(concept)

    def prompts_of(self, plan: "Plan", concept: str, stage: int) -> str:
        """The embeds of the prompts that a stage is trained on. InputError if the concept has no such stage."""
        row = plan.concept(concept)
        last = 0 if row.binder else self.last_stage(row)
        if stage > last:
            has = ("a finished binder and no stages", "stage 1 alone")[last]
            raise InputError(f"under method '{self.name}', concept '{concept}' has {has}")
        which = "spatial_prompts" if self.trains_on_frames(row, stage) else "prompts"
        return plan.concept_file(concept, f"{{concept}}_{which}.safetensors")

    def training_prompts(self, plan: "Plan") -> list[str]:
        return [self.prompts_of(plan, concept, stage) for concept, stage in self.stages(plan)]

    def trained_files(self, plan: "Plan") -> list[str]:
        """The binder of every concept that is trained here."""
        return [self.binder(plan, row.id) for row in plan.trained()]

    def plots(self, plan: "Plan", concepts: Collection[str] | None = None) -> list[str]:
        """The plot of every stage of training."""
        stages = (stage for stage in self.stages(plan) if concepts is None or stage[0] in concepts)
        return [self.binder_file(plan, concept, f"stage{stage}.png") for concept, stage in stages]

    def last_logs(self, plan: "Plan", kind: str | None = None) -> list[str]:
        """The log of each concept's last stage, of all concepts or of one kind."""
        return [
            self.binder_file(plan, row.id, f"stage{self.last_stage(row)}.jsonl")
            for row in plan.trained()
            if kind in (None, row.kind)
        ]

    def train_settings(self, plan: "Plan", concept: str, stage: int) -> dict:
        """What a stage reads, and nothing that only the other stage does."""
        row, training = plan.concept(concept), plan.config["training"]
        frames, image = self.trains_on_frames(row, stage), row.kind == "image"
        names = ("learning_rate", "weight_decay", "validations", "seed")
        own = "iterations_images" if image else "iterations_frames" if frames else "iterations"
        batch = "batch_size_frames" if image or frames else "batch_size_clips"
        elsewhere = ("temporal_stage", *(("gate", "gate_weighs", "temporal_start") if stage == 1 else ()))
        return {
            "concept": concept,
            "stage": stage,
            "data": "frames" if frames else "clip",
            "training": {name: training[name] for name in names}
            | {"iterations": training[own] or training["iterations"], "batch_size": training[batch]},
            "method": {name: value for name, value in self.switches.items() if name not in elsewhere},
            "shift": plan.model.shift,
            "text_length": plan.model.text_length,
            "dtype": plan.config["compute"]["dtype"],
            **plan.of_experts(),
        }

    def export_settings(self, plan: "Plan", concept: str) -> dict:
        return {"sources": [plan.concept(concept).binder_source]}

    def compose_settings(self, plan: "Plan", composition: str) -> dict:
        concepts = plan.composition(composition).concepts
        sources = [plan.concept(concept).binder_source for concept in concepts]
        return {**plan.prompt_settings(composition), "sources": sources}
