# Parsed again by every job: nothing here may import torch.
import sys
from functools import cache

from bico import InputError
from bico.command import hand_over
from bico.interrupt import Interrupt
from bico.pipeline import MAIN, Pipeline
from bico.records import keep_with_results
from bico.runs import forget
from snakemake.logging import logger

try:
    pipeline = Pipeline.load(
        config,
        thorough=workflow.is_main_process,
        runs_here=workflow.local_exec,
        files=workflow.configfiles,
    )
except InputError as problem:
    sys.exit(f"error: {problem}")  # a WorkflowError would name lines of this file

RESULTS = pipeline.config["results"]
CONCEPT = f"{RESULTS}/concepts/{{concept}}"
BINDERS = f"{RESULTS}/{{method}}/binders/{{concept}}"
COMPOSITION = f"{RESULTS}/{{method}}/compositions/{{composition}}"


def check_targets(targets):
    """An error that an input function raises would come with lines of this file."""
    try:
        for target in targets:
            pipeline.check_target(target)
    except InputError as problem:
        sys.exit(f"error: {problem}")


keep_with_results(RESULTS, check_targets)

# No cause to re-run, so in the environment and not in any params.
hand_over(pipeline.compute(), ROOT)

interrupt = Interrupt(logger)

# Signals go to a job's whole process group. Its script saves and leaves; the shell waits for that, and the log stays
# open until the last word.
shell.prefix(
    "set -euo pipefail; trap : INT TERM; keep_log() {{ trap '' INT TERM; exec tee \"$1\"; }}; "
)


wildcard_constraints:
    concept="[A-Za-z0-9_-]+",
    composition="[A-Za-z0-9_-]+",
    method="[A-Za-z0-9_-]+",
    seed=r"\d+",
    stage="[12]",


def stage(script, settings, still=lambda wildcards: False):
    """The params of a rule: a function of the wildcards alone, whose value is all that the stage depends on besides
    its inputs. still: whether it is about an image alone."""

    def parameters(wildcards):
        return pipeline.parameters(script, settings(wildcards), still(wildcards))

    return parameters


def grows(amount):
    """A resource that a retry asks more of: `amount`, or what it returns, times the attempt. For memory and time."""

    def resource(wildcards, attempt):
        return attempt * (amount() if callable(amount) else amount)

    return resource


@cache
def require_weights():
    """Missing weights stop the workflow before any job starts."""
    try:
        pipeline.require_weights()
    except InputError as problem:
        sys.exit(f"error: {problem}")


def weights(component):
    """The manifest of a component's weights, as an input."""

    def manifest(wildcards):
        require_weights()
        return local(pipeline.model.manifest(component).as_posix())

    return manifest


def everything(wildcards):
    """The page and all that it shows, so that what is deleted is made again. Asks for the weights again: where results
    exist, Snakemake takes them for sources if their inputs raise."""
    require_weights()
    return [pipeline.page(), *shown(MAIN)]


def shown(method):
    """What the page of a method shows."""
    results = pipeline.results(method)
    return [
        *results,
        *(f"{path}.sheet.jpg" for path in results),
        *pipeline.plots(method),
    ]


def of_image(wildcards):
    return pipeline.is_image(wildcards.concept)


def clip(wildcards):
    return pipeline.clip(wildcards.concept)


def binder(method, concept):
    """The binder with which a concept is composed; a file that the user gave lies here, whatever the storage."""
    path = pipeline.binder(method, concept)
    return local(path) if pipeline.manifest.concepts[concept].binder else path


def linked(wildcards):
    """The concepts that a composition links, in the order of its prompt."""
    return pipeline.manifest.compositions[wildcards.composition].concepts


def source_clips(wildcards):
    return [
        pipeline.clip(concept) for concept in pipeline.sources(wildcards.composition)
    ]


def training_prompts(stage_number):
    def embeds(wildcards):
        return pipeline.training_prompts(
            wildcards.method, wildcards.concept, stage_number
        )

    return embeds


def vlm_if(asked, component="vlm"):
    """The vision-language model, or what it needs besides, as an input where it is asked, nothing elsewhere."""

    def manifest(wildcards):
        return weights(component)(wildcards) if asked(wildcards) else []

    return manifest


def asks_for_phrases(wildcards):
    return not pipeline.manifest.concepts[wildcards.concept].spatial


def asks_for_prompts(wildcards):
    return pipeline.config["prompts"]["writer"] == "vlm"
