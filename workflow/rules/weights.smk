rule weights:
    log:
        f"{RESULTS}/logs/weights.log",
    benchmark:
        f"{RESULTS}/benchmarks/weights.tsv"
    # Without declared outputs, so that no other target ever starts a download by itself.
    localrule: True
    conda:
        "../../environment.yml"
    params:
        model=pipeline.model.path.as_posix(),
        folder=pipeline.model.weights.as_posix(),
    shell:
        "python scripts/weights.py --model {params.model:q} --weights {params.folder:q} 2>&1 | keep_log {log:q}"
