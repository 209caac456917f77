rule bind_stage1:
    input:
        latents=f"{CONCEPT}/latents.safetensors",
        prompts=training_prompts(1),
        transformers=transformers,
        start_from=[],
    output:
        binder=f"{BINDERS}/stage1.safetensors",
        log=f"{BINDERS}/stage1.jsonl",
    log:
        f"{RESULTS}/logs/bind_stage1/{{method}}.{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/bind_stage1/{{method}}.{{concept}}.tsv"
    wildcard_constraints:
        method=of_kind("bico"),
    conda:
        "../../../environment.yml"
    resources:
        gpu=plan.gpus(training=True),
        mem_mb=scaled_by_attempt(
            lambda: plan.memory("transformer", more_gb=12, training=True)
        ),
        runtime=scaled_by_attempt(720),
    params:
        depends_on=depends_on(
            "bind",
            lambda wildcards: method(wildcards).train_settings(
                plan, wildcards.concept, 1
            ),
        ),
    shell:
        'python -m bico.runtime.launch {resources.gpu} "$BICO_SCRIPTS"/bind.py'
        " --latents {input.latents:q} --prompts {input.prompts:q}"
        " --transformers {input.transformers:q} --start-from {input.start_from:q}"
        " --output {output.binder:q} --log {output.log:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


use rule bind_stage1 as bind_stage2 with:
    input:
        latents=f"{CONCEPT}/latents.safetensors",
        prompts=training_prompts(2),
        transformers=transformers,
        start_from=f"{BINDERS}/stage1.safetensors",
    output:
        binder=f"{BINDERS}/stage2.safetensors",
        log=f"{BINDERS}/stage2.jsonl",
    log:
        f"{RESULTS}/logs/bind_stage2/{{method}}.{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/bind_stage2/{{method}}.{{concept}}.tsv"
    resources:
        gpu=plan.gpus(training=True),
        mem_mb=scaled_by_attempt(
            lambda: plan.memory("transformer", more_gb=16, training=True)
        ),
        runtime=scaled_by_attempt(1440),
    params:
        depends_on=depends_on(
            "bind",
            lambda wildcards: method(wildcards).train_settings(
                plan, wildcards.concept, 2
            ),
        ),


rule plot_training:
    input:
        log=f"{BINDERS}/stage{{stage}}.jsonl",
    output:
        plot=report(
            f"{BINDERS}/stage{{stage}}.png",
            category="Training",
            labels={"method": "{method}", "concept": "{concept}", "stage": "{stage}"},
        ),
    log:
        f"{RESULTS}/logs/plot_training/{{method}}.{{concept}}.stage{{stage}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/plot_training/{{method}}.{{concept}}.stage{{stage}}.tsv"
    wildcard_constraints:
        method=of_kind("bico"),
    conda:
        "../../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(2000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on(
            "plot_training",
            lambda wildcards: {
                "title": f"{wildcards.concept}, stage {wildcards.stage}, method {wildcards.method}"
            },
        ),
    shell:
        'python "$BICO_SCRIPTS"/plot_training.py --log {input.log:q} --output {output.plot:q}'
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule export:
    # On demand: a binder in the released code's layout, `snakemake results/bico/binders/akita/released.safetensors`.
    input:
        binder=lambda wildcards: binder(wildcards, wildcards.concept),
    output:
        released=f"{BINDERS}/released.safetensors",
    log:
        f"{RESULTS}/logs/export/{{method}}.{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export/{{method}}.{{concept}}.tsv"
    wildcard_constraints:
        method=of_kind("bico"),
    conda:
        "../../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(8000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on(
            "export",
            lambda wildcards: method(wildcards).export_settings(
                plan, wildcards.concept
            ),
        ),
    shell:
        'python "$BICO_SCRIPTS"/export.py --binders {input.binder:q} --output {output.released:q}'
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule compose:
    input:
        binders=lambda wildcards: [
            binder(wildcards, concept) for concept in linked(wildcards)
        ],
        tokenizer=weights("tokenizer"),
        text_encoder=weights("text_encoder"),
        transformers=transformers,
    output:
        bound=f"{COMPOSITION}/bound.safetensors",
    log:
        f"{RESULTS}/logs/compose/{{method}}.{{composition}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compose/{{method}}.{{composition}}.tsv"
    wildcard_constraints:
        method=of_kind("bico"),
    conda:
        "../../../environment.yml"
    resources:
        gpu=plan.gpus(),
        mem_mb=scaled_by_attempt(lambda: plan.memory("text_encoder")),
        runtime=scaled_by_attempt(60),
    params:
        depends_on=depends_on(
            "compose",
            lambda wildcards: method(wildcards).compose_settings(
                plan, wildcards.composition
            ),
        ),
    shell:
        'python -m bico.runtime.launch {resources.gpu} "$BICO_SCRIPTS"/compose.py'
        " --binders {input.binders:q} --tokenizer {input.tokenizer:q}"
        " --text-encoder {input.text_encoder:q} --transformers {input.transformers:q} --output {output.bound:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"
