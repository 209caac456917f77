rule weights:
    log:
        f"{RESULTS}/logs/weights.log",
    # Without declared outputs, so that no other target ever starts a download by itself, and so that it looks every
    # time: a benchmark would count as an output.
    localrule: True
    conda:
        "../../environment.yml"
    params:
        model=plan.model.path.as_posix(),
        folder=plan.model.weights.as_posix(),
        components=plan.needed_components(),
    shell:
        'python "$BICO_SCRIPTS"/weights.py --model {params.model:q} --weights {params.folder:q}'
        " --components {params.components:q} 2>&1 | keep_log {log:q}"
