rule sheet:
    input:
        result=f"{COMPOSITION}/seed{{seed}}.{{suffix}}",
        sources=source_clips,
        twin=twin,
    output:
        sheet=report(
            f"{COMPOSITION}/seed{{seed}}.{{suffix}}.sheet.jpg",
            category="Compositions",
            labels={
                "method": "{method}",
                "composition": "{composition}",
                "seed": "{seed}",
            },
        ),
    log:
        f"{RESULTS}/logs/sheet/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sheet/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.tsv"
    wildcard_constraints:
        suffix="mp4|png",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(4000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on(
            "sheet",
            lambda wildcards: plan.sheet_settings(
                wildcards.composition, int(wildcards.seed)
            ),
        ),
    shell:
        'python "$BICO_SCRIPTS"/sheet.py --result {input.result:q} --sources {input.sources:q} --twin {input.twin:q}'
        " --output {output.sheet:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule plot_strength:
    input:
        bound=f"{COMPOSITION}/bound.safetensors",
    output:
        plot=f"{COMPOSITION}/bound.png",
    log:
        f"{RESULTS}/logs/plot_strength/{{method}}.{{composition}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_strength/{{method}}.{{composition}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(4000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on("plot_strength", lambda wildcards: {}),
    shell:
        'python "$BICO_SCRIPTS"/plot_strength.py --bound {input.bound:q} --output {output.plot:q} 2>&1 | keep_log {log:q}'


rule page:
    input:
        shown=lambda wildcards: shown(wildcards.method),
        phrases=lambda wildcards: plan.phrase_files(wildcards.method),
        metrics=lambda wildcards: plan.metrics_of(wildcards.method),
    output:
        page=f"{RESULTS}/{{method}}/index.html",
    log:
        f"{RESULTS}/logs/page/{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/page/{{method}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(1000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on(
            "page", lambda wildcards: plan.page_settings(wildcards.method)
        ),
    shell:
        'python "$BICO_SCRIPTS"/page.py --phrases {input.phrases:q} --metrics {input.metrics:q} --output {output.page:q}'
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule methods:
    # All compositions by every method of the methods folder, each with its page.
    input:
        pages=[plan.page(name) for name in (plan.main.name, *plan.others)],


rule ablations:
    # All compositions under every overlay of the ablations folder, each with its page, and one table of them all.
    input:
        table=f"{RESULTS}/ablations.md",


rule ablation_table:
    input:
        pages=[plan.page(name) for name in plan.ablations],
        logs=plan.ablation_logs(),
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
        mem_mb=scaled_by_attempt(1000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on("ablations", lambda wildcards: plan.ablations_settings()),
    shell:
        'python "$BICO_SCRIPTS"/ablations.py --logs {input.logs:q} --output {output.table:q} --csv {output.csv:q}'
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"
