"""What results are judged by: features of each media file, computed once; metrics of each result; tables of methods."""

import importlib.util
import os
import sys
from pathlib import Path

from bico import InputError

BUILT_IN = ("clip", "dino", "motion")  # of `evaluation.metrics`; any other name is a module
# What each metric says, and whether more of it is better (None: neither).
MEANINGS = {
    "clip_t": ("CLIP-T: how well the result fits its prompt, the cosine of CLIP's embeddings", True),
    "dino_i": ("DINO-I: how well it keeps all its sources, the harmonic mean of `dino`", True),
    "dino": ("how like a source it looks, the cosine of DINOv2's mean embeddings", True),
    "motion": ("motion fidelity: how like a source video it moves, the correlation of tracks", True),
    "dynamic_degree": ("how fast its fastest pixels move, % of the diagonal per frame", None),
    "smoothness": ("1 where all that moves keeps its velocity, 0 where it turns back in every frame", True),
    "flicker": ("% by which frames differ from the next ones moved back along the flow", False),
}


def module_file(name: str) -> Path:
    """The file of a module that measures (see `bico.evaluate.measure.module_rows`): one that is installed, of this
    checkout, or in the working directory. Raises InputError where there is none."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.has_location:
        known = ", ".join(BUILT_IN)
        raise InputError(f"evaluation.metrics: found '{name}', allowed: {known}, or a module that Python finds")
    return Path(found.origin)
