rule page:
    input:
        shown=lambda wildcards: shown(wildcards.method),
    output:
        page=f"{RESULTS}/{{method}}/index.html",
    log:
        f"{RESULTS}/logs/page/{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/page/{{method}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        stage=stage("page", lambda wildcards: pipeline.page_settings(wildcards.method)),
    shell:
        'python "$BICO_SCRIPTS"/page.py --output {output.page:q} --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}'


rule ablations:
    # The manifest under every overlay of the ablations folder, each with its page, and one table of them all.
    input:
        table=f"{RESULTS}/ablations.md",


rule ablation_table:
    input:
        pages=[pipeline.page(method) for method in pipeline.ablations()],
        logs=[
            log
            for method in pipeline.ablations()
            for log in pipeline.last_logs(method)
        ],
    output:
        table=report(f"{RESULTS}/ablations.md", category="Ablations"),
        csv=f"{RESULTS}/ablations.csv",
    log:
        f"{RESULTS}/logs/ablation_table.log",
    benchmark:
        f"{RESULTS}/benchmarks/ablation_table.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grows(1000),
        runtime=grows(10),
    params:
        stage=stage("ablations", lambda wildcards: pipeline.ablations_settings()),
    shell:
        'python "$BICO_SCRIPTS"/ablations.py --logs {input.logs:q} --output {output.table:q} --csv {output.csv:q}'
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"
