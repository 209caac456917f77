"""Videos that were made elsewhere: they are taken as they are."""

import os
from typing import TYPE_CHECKING

from bico.methods import Method

if TYPE_CHECKING:
    from bico.plan.plan import Plan
    from bico.plan.tables import Composition


class External(Method):
    kind = "external"
    components = ()

    def video(self, composition: str, seed: int, suffix: str) -> str:
        """Where the video lies that was made elsewhere."""
        return f"{self.settings['videos']}/{composition}/seed{seed}.{suffix}"

    def refusal(self, plan: "Plan", composition: "Composition") -> str | None:
        videos = [self.video(composition.id, seed, plan.suffix(composition.id)) for seed in composition.seeds]
        missing = [video for video in videos if not os.path.isfile(video)]
        return f"{', '.join(missing)}: not there" if missing else None
