# The models of the embedded world: trained, evaluated, published under results/world/published with a card of their
# figures. To ship them: python scripts/world_publish.py --folder results/world --output resources/world
#
#   make world                              all of it: hours on two cores, minutes on a GPU
#   make world MINUTES=150                  in pieces: each ends after so many minutes and the same command goes on
#   --configfile config/world-gpu.yaml      on one GPU, in minutes
#   snakemake --snakefile workflow/world.smk --configfile config/world-short.yaml --cores 2     the short form
import json
import shutil
import sys
from pathlib import Path

ROOT = Path(workflow.basedir).resolve().parent
sys.path.insert(0, str(ROOT))
from bico.command import hand_over
from bico.pipeline import has_accelerator
from bico.provenance import code_digest

FOLDER = config.get("folder", "results/world")
PLACE = f"{FOLDER}/published"
SETTINGS = {
    model: json.dumps(what) for model, what in config.get("settings", {}).items()
}
MINUTES = config.get("minutes", "inf")
COMPILE = "--compile" if config.get("compile", shutil.which("g++") is not None) else ""
WORKERS = config.get("workers", {})
START = {
    model: f"--start-from {folder}"
    for model, folder in config.get("start_from", {}).items()
}
COUNT = config.get("count", 200)
# On a machine without an accelerator the models share the cores.
GPU = int(has_accelerator())
# How the machine is used is no cause to run again: so minutes and compile are in no params, and workers is a resource.
hand_over({"device": config.get("device", "auto")}, ROOT)


def code(name):
    return code_digest(ROOT / "bico" / "world" / f"{name}.py")


localrules:
    publish,


rule publish:
    input:
        models=[f"{FOLDER}/{model}" for model in ("vae", "vlm", "transformer")],
        reports=[f"{FOLDER}/{model}.json" for model in ("vae", "vlm", "transformer")],
        logs=[f"{FOLDER}/{model}.jsonl" for model in ("vae", "vlm", "transformer")],
    output:
        f"{PLACE}/README.md",
    params:
        code=code("card"),
    shell:
        "python scripts/world_publish.py --folder {FOLDER:q} --output {PLACE:q}"


rule vae_or_vlm:
    output:
        model=directory(f"{FOLDER}/{{model}}"),
        log=f"{FOLDER}/{{model}}.jsonl",
    wildcard_constraints:
        model="vae|vlm",
    threads: 1
    resources:
        gpu=GPU,
        workers=lambda wildcards: WORKERS.get(wildcards.model, 0),
    params:
        settings=lambda wildcards: SETTINGS.get(wildcards.model, "{}"),
        start=lambda wildcards: START.get(wildcards.model, ""),
        code=lambda wildcards: code(wildcards.model),
    shell:
        "OMP_NUM_THREADS={threads} python scripts/world_train.py {wildcards.model} --output {output.model:q}"
        " --log {output.log:q} --settings {params.settings:q} --minutes {MINUTES} --workers {resources.workers}"
        " {params.start}"


rule transformer:
    input:
        f"{FOLDER}/vae",
    output:
        model=directory(f"{FOLDER}/transformer"),
        log=f"{FOLDER}/transformer.jsonl",
    threads: 2
    resources:
        gpu=GPU,
        workers=WORKERS.get("transformer", 0),
    params:
        settings=SETTINGS.get("transformer", "{}"),
        start=START.get("transformer", ""),
        code=code("transformer"),
    shell:
        "OMP_NUM_THREADS={threads} python scripts/world_train.py transformer --vae {input:q} --output {output.model:q}"
        " --log {output.log:q} --settings {params.settings:q} --minutes {MINUTES} --workers {resources.workers}"
        " {COMPILE} {params.start}"


rule evaluate:
    input:
        model=f"{FOLDER}/{{model}}",
        vae=f"{FOLDER}/vae",
    output:
        f"{FOLDER}/{{model}}.json",
    wildcard_constraints:
        model="vae|vlm|transformer",
    threads: 2
    resources:
        gpu=GPU,
    params:
        scenes=COUNT,
        code=code("evaluation"),
    shell:
        "python scripts/world_evaluate.py {wildcards.model} --folder {input.model:q} --vae {input.vae:q}"
        " --report {output:q} --count {params.scenes}"
