"""The prompt writer that needs no model: diversified sentences from the key phrases."""

import random
from collections.abc import Sequence

from bico.runtime.command import default_settings
from bico.text.phrases import Phrases, required_phrases

SEED = default_settings("prompts")["seed"]

IMAGE_LEADS = (
    *("A photo of", "A picture of", "An image of", "A snapshot of", "A still of", "A view of", "A shot of"),
    *("A photo showing", "A picture showing", "An image showing", "A shot showing", "A frame showing"),
    *("This photo shows", "This picture shows", "This image shows", "The frame shows", "The camera shows"),
    *("Here is a photo of", "Here is a picture of", "Here is an image of"),
)
IMAGE_FRAMES = (
    *("{spatial}", "{spatial} in one frame", "{spatial} in full view", "{spatial} in plain sight"),
    *("{spatial}, shown clearly", "{spatial}, captured by the camera", "{spatial}, as the subject"),
)
VIDEO_LEADS = (
    *("A video of", "A clip of", "A recording of", "A short video of", "A short clip of", "Footage of"),
    *("A video showing", "A clip showing", "A recording showing", "A short video showing", "Footage showing"),
    *("This video shows", "This clip shows", "This footage shows", "The camera records", "Here is a video of"),
)
VIDEO_FRAMES = (
    *("{spatial}, {temporal}", "{spatial}: {temporal}", "{spatial}, in motion: {temporal}"),
    *("{spatial} with this motion: {temporal}", "{spatial}, and the motion is: {temporal}"),
    *("{spatial}; what happens: {temporal}", "{temporal}, featuring {spatial}"),
    *("this motion: {temporal}, with {spatial}", "the motion '{temporal}' with {spatial}"),
)
SPATIAL_JOINTS = (" and ", " with ", ", together with ", ", ")
TEMPORAL_JOINTS = (" and ", " while ", ", ")
TRIES = 200  # draws for a sentence not yet written, before a repetition is taken for unavoidable


def template_prompts(phrases: Phrases, kind: str, count: int, seed: int = SEED) -> list[str]:
    """`count` short English sentences that each hold every phrase verbatim; no model is needed.

    Prompt i is drawn with seed + i (drawn again from the same stream while it repeats an earlier one), so asking for
    more prompts never changes the first ones. All are distinct for at least 100 prompts, even of one phrase. An
    image's prompts, and those of a clip without temporal phrases, hold the spatial phrases only.
    """
    required_phrases(phrases, kind)
    written: list[str] = []
    for index in range(count):
        written.append(_new_sentence(phrases, kind, random.Random(seed + index), set(written)))
    return written


def _new_sentence(phrases: Phrases, kind: str, rng: random.Random, taken: set[str]) -> str:
    for _ in range(TRIES):
        sentence = _sentence(phrases, kind, rng)
        if sentence not in taken:
            break
    return sentence


def _sentence(phrases: Phrases, kind: str, rng: random.Random) -> str:
    lead = rng.choice(VIDEO_LEADS if kind == "video" else IMAGE_LEADS)
    frame = rng.choice(VIDEO_FRAMES if kind == "video" and phrases.temporal else IMAGE_FRAMES)
    spatial = _listed(phrases.spatial, SPATIAL_JOINTS, rng)
    temporal = _listed(phrases.temporal, TEMPORAL_JOINTS, rng)
    return f"{lead} {frame.format(spatial=spatial, temporal=temporal)}."


def _listed(phrases: Sequence[str], joints: Sequence[str], rng: random.Random) -> str:
    """The phrases in a random order as one enumeration: "a, b and c"."""
    *first, last = rng.sample(phrases, len(phrases)) or [""]
    return f"{', '.join(first)}{rng.choice(joints)}{last}" if first else last
