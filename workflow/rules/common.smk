# Parsed again by every job: nothing here may import torch.
import sys
from functools import cache

from bico import InputError
from bico.runtime.compute import export_compute
from bico.runtime.interrupt import Interrupt
from bico.methods import kinds
from bico.plan.plan import Plan
from bico.plan.records import keep_with_results
from bico.runtime.runs import forget
from snakemake.logging import logger

try:
    plan = Plan.load(
        config,
        thorough=workflow.is_main_process,
        runs_here=workflow.local_exec,
        files=workflow.configfiles,
    )
except InputError as problem:
    sys.exit(f"error: {problem}")  # a WorkflowError would name lines of this file

if workflow.is_main_process:
    for warning in plan.warnings():
        logger.warning(f"warning: {warning}")

RESULTS = plan.config["results"]
CONCEPT = f"{RESULTS}/concepts/{{concept}}"
BINDERS = f"{RESULTS}/{{method}}/binders/{{concept}}"
COMPOSITION = f"{RESULTS}/{{method}}/compositions/{{composition}}"


def check_targets(targets):
    """An error that an input function raises would come with lines of this file."""
    try:
        for target in targets:
            plan.check_target(target)
    except InputError as problem:
        sys.exit(f"error: {problem}")


keep_with_results(RESULTS, check_targets)

# Not a cause to run again, so in the environment and not in any params.
export_compute(plan.compute(), ROOT)

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


def depends_on(
    script, settings, still=lambda wildcards: False, asks=lambda wildcards: True
):
    """The params of a rule: a function of the wildcards alone, whose value is all that the job depends on besides its
    inputs. still: whether it is about an image alone; asks: whether a language model is asked, where one may be.
    """

    def parameters(wildcards):
        return plan.parameters(
            script, settings(wildcards), still(wildcards), asks(wildcards)
        )

    return parameters


def scaled_by_attempt(amount):
    """A resource that a retry asks more of: `amount`, or what it returns, times the attempt. For memory and time."""

    def resource(wildcards, attempt):
        return attempt * (amount() if callable(amount) else amount)

    return resource


@cache
def require_weights(*components):
    """Missing weights stop the workflow before any job starts."""
    try:
        plan.require_weights(*components)
    except InputError as problem:
        sys.exit(f"error: {problem}")


def weights(component):
    """The manifest of a component's weights, as an input."""

    def manifest(wildcards):
        require_weights(component)
        return local(plan.model.manifest(component).as_posix())

    return manifest


def transformers(wildcards):
    """The manifests of all experts of the model."""
    return [weights(name)(wildcards) for name in plan.model.experts]


def all_results(wildcards):
    """The page and all that it shows, so that what is deleted is made again. Asks for the weights again: where results
    exist, Snakemake takes them for sources if their inputs raise."""
    require_weights()
    return [plan.page(plan.main.name), *shown(plan.main.name)]


def shown(name):
    """What the page of a method shows."""
    results = plan.results(name)
    return [
        *results,
        *plan.twins(name),
        *(f"{path}.sheet.jpg" for path in results),
        *plan.measured(name),
        *plan.metrics_of(name),
        *plan.strength_plots(name),
        *plan.methods[name].plots(plan),
    ]


def method(wildcards):
    return plan.methods[wildcards.method]


def methods_of(asked):
    """A wildcard's constraint: the methods of which something is true."""
    names = [name for name, each in plan.methods.items() if asked(each)]
    return "|".join(names) or "(?!)"  # which nothing matches


def of_kind(kind):
    return methods_of(lambda each: each.kind == kind)


def of_image(wildcards):
    return plan.is_image(wildcards.concept)


def clip(wildcards):
    return plan.clip(wildcards.concept)


def training_prompts(stage):
    def embeds(wildcards):
        return method(wildcards).prompts_of(plan, wildcards.concept, stage)

    return embeds


def binder(wildcards, concept):
    """The binder with which a concept is composed; a file that the user gave lies here, whatever the storage."""
    path = method(wildcards).binder(plan, concept)
    return local(path) if plan.tables.concepts[concept].binder else path


def linked(wildcards):
    """The concepts that a composition links, in the order of its prompt."""
    return plan.tables.compositions[wildcards.composition].concepts


def twin(wildcards):
    """The result that no word is bound in, of the same prompt and seed; nothing where there is none."""
    of = (wildcards.method, wildcards.composition, int(wildcards.seed))
    return plan.twin(*of) or []


def result_of(wildcards):
    return wildcards.method, wildcards.composition, int(wildcards.seed)


def judge(component):
    """The weights of a model that embeds what results show, where it is asked."""

    def manifest(wildcards):
        return weights(component)(wildcards) if component in plan.judges else []

    return manifest


def source_clips(wildcards):
    return [plan.clip(concept) for concept in plan.sources(wildcards.composition)]


def asks_for_phrases(wildcards):
    return not plan.tables.concepts[wildcards.concept].spatial


def asks_for_prompts(wildcards):
    return plan.writer.asks


def names_phrases(wildcards):
    """The weights of the language model, where it has to name a concept's phrases."""
    return weights("vlm")(wildcards) if asks_for_phrases(wildcards) else []


def writes_prompts(wildcards):
    """The weights of the model that writes prompts, where there is one."""
    return weights(plan.writer.component)(wildcards) if plan.writer.component else []


def measures_prompts(wildcards):
    """The text encoder's tokenizer, by which what a model writes is measured."""
    return weights("tokenizer")(wildcards) if plan.writer.asks else []
