rule track:
    input:
        media=f"{RESULTS}/{{media}}",
    output:
        tracks=f"{RESULTS}/{{media}}.tracks.safetensors",
    log:
        f"{RESULTS}/logs/track/{{media}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/track/{{media}}.tsv"
    wildcard_constraints:
        media=r".+\.mp4",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(4000),
        runtime=scaled_by_attempt(30),
    params:
        depends_on=depends_on("track", lambda wildcards: {}),
    shell:
        'python "$BICO_SCRIPTS"/track.py --media {input.media:q} --output {output.tracks:q} 2>&1 | keep_log {log:q}'


rule features:
    input:
        media=f"{RESULTS}/{{media}}",
        clip=judge("clip"),
        dino=judge("dino"),
    output:
        features=f"{RESULTS}/{{media}}.features.safetensors",
    log:
        f"{RESULTS}/logs/features/{{media}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/features/{{media}}.tsv"
    wildcard_constraints:
        media=r".+\.(mp4|png)",
    conda:
        "../../environment.yml"
    resources:
        gpu=plan.gpus(),
        mem_mb=scaled_by_attempt(lambda: plan.memory("clip", "dino")),
        runtime=scaled_by_attempt(60),
    params:
        depends_on=depends_on(
            "features", lambda wildcards: plan.features_settings(wildcards.media)
        ),
    shell:
        'python -m bico.runtime.launch {resources.gpu} "$BICO_SCRIPTS"/features.py --media {input.media:q}'
        " --clip {input.clip:q} --dino {input.dino:q} --output {output.features:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule measure:
    input:
        result=f"{COMPOSITION}/seed{{seed}}.{{suffix}}",
        sources=source_clips,
        features=lambda wildcards: plan.features_of(*result_of(wildcards)),
        tracks=lambda wildcards: plan.tracks_of(*result_of(wildcards)),
    output:
        metrics=f"{COMPOSITION}/seed{{seed}}.{{suffix}}.metrics.json",
    log:
        f"{RESULTS}/logs/measure/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.tsv"
    wildcard_constraints:
        suffix="mp4|png",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(4000),
        runtime=scaled_by_attempt(30),
    params:
        depends_on=depends_on(
            "measure", lambda wildcards: plan.measure_settings(wildcards.composition)
        ),
    shell:
        'python "$BICO_SCRIPTS"/measure.py --result {input.result:q} --sources {input.sources:q}'
        " --features {input.features:q} --tracks {input.tracks:q} --output {output.metrics:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule metrics:
    input:
        measured=lambda wildcards: plan.measured(wildcards.method),
    output:
        table=f"{RESULTS}/{{method}}/metrics.csv",
    log:
        f"{RESULTS}/logs/metrics/{{method}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/metrics/{{method}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(1000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on(
            "metrics", lambda wildcards: plan.metrics_settings(wildcards.method)
        ),
    shell:
        'python "$BICO_SCRIPTS"/metrics.py --measured {input.measured:q} --output {output.table:q}'
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule compare:
    # All compositions by every method, what each is worth and costs, in one table.
    input:
        table=f"{RESULTS}/compare.md",
        pages=[plan.page(name) for name in plan.compared],


rule comparison:
    input:
        metrics=[plan.method_file(name, "metrics.csv") for name in plan.compared],
        trained=[
            file
            for name in plan.compared
            for file in plan.methods[name].trained_files(plan)
        ],
    output:
        table=report(f"{RESULTS}/compare.md", category="Comparison"),
        csv=f"{RESULTS}/compare.csv",
        html=report(f"{RESULTS}/compare.html", category="Comparison"),
    log:
        f"{RESULTS}/logs/comparison.log",
    benchmark:
        f"{RESULTS}/benchmarks/comparison.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(2000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on("compare", lambda wildcards: plan.comparison_settings()),
    shell:
        'python "$BICO_SCRIPTS"/compare.py --metrics {input.metrics:q} --output {output.table:q}'
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule rating:
    # A page on which people rate the results of all methods, without knowing which made what.
    input:
        results=[plan.result(*of) for of in plan.rated()],
        sources=[plan.clip(concept) for concept in plan.rated_sources()],
    output:
        folder=directory(f"{RESULTS}/rating"),
        key=f"{RESULTS}/rating_key.csv",
    log:
        f"{RESULTS}/logs/rating.log",
    benchmark:
        f"{RESULTS}/benchmarks/rating.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(1000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on("rating", lambda wildcards: plan.rating_settings()),
        concepts=plan.rated_sources(),
    shell:
        'python "$BICO_SCRIPTS"/rating.py --results {input.results:q} --concepts {params.concepts:q}'
        " --sources {input.sources:q} --page {output.folder:q}/index.html --key {output.key:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"
