rule bind_stage1:
    input:
        latents=f"{CONCEPT}/latents.safetensors",
        prompts=training_prompts(1),
        transformer=weights("transformer"),
    output:
        binder=f"{BINDERS}/stage1.safetensors",
        log=f"{BINDERS}/stage1.jsonl",
    log:
        f"{RESULTS}/logs/bind_stage1/{{method}}.{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/bind_stage1/{{method}}.{{concept}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=pipeline.gpus(training=True),
        mem_mb=grows(lambda: pipeline.memory("transformer", more_gb=12, training=True)),
        runtime=grows(720),
    params:
        stage=stage(
            "train",
            lambda wildcards: pipeline.train_settings(
                wildcards.method, wildcards.concept, 1
            ),
        ),
    shell:
        'python -m bico.launch {resources.gpu} "$BICO_SCRIPTS"/train.py'
        " --latents {input.latents:q} --prompts {input.prompts:q}"
        " --transformer {input.transformer:q} --output {output.binder:q} --log {output.log:q}"
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"


rule bind_stage2:
    input:
        latents=f"{CONCEPT}/latents.safetensors",
        prompts=training_prompts(2),
        transformer=weights("transformer"),
        stage1=f"{BINDERS}/stage1.safetensors",
    output:
        binder=f"{BINDERS}/stage2.safetensors",
        log=f"{BINDERS}/stage2.jsonl",
    log:
        f"{RESULTS}/logs/bind_stage2/{{method}}.{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/bind_stage2/{{method}}.{{concept}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=pipeline.gpus(training=True),
        mem_mb=grows(lambda: pipeline.memory("transformer", more_gb=16, training=True)),
        runtime=grows(1440),
    params:
        stage=stage(
            "train",
            lambda wildcards: pipeline.train_settings(
                wildcards.method, wildcards.concept, 2
            ),
        ),
    shell:
        'python -m bico.launch {resources.gpu} "$BICO_SCRIPTS"/train.py'
        " --latents {input.latents:q} --prompts {input.prompts:q}"
        " --transformer {input.transformer:q} --start-from {input.stage1:q}"
        " --output {output.binder:q} --log {output.log:q}"
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"


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
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grows(2000),
        runtime=grows(10),
    params:
        stage=stage(
            "plot_training",
            lambda wildcards: {
                "title": f"{wildcards.concept}, stage {wildcards.stage}, method {wildcards.method}"
            },
        ),
    shell:
        'python "$BICO_SCRIPTS"/plot_training.py --log {input.log:q} --output {output.plot:q}'
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"


rule export:
    # On demand: a binder in the released code's layout, `snakemake results/bico/binders/akita/released.safetensors`.
    input:
        binder=lambda wildcards: binder(wildcards.method, wildcards.concept),
    output:
        released=f"{BINDERS}/released.safetensors",
    log:
        f"{RESULTS}/logs/export/{{method}}.{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/export/{{method}}.{{concept}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=grows(8000),
        runtime=grows(10),
    params:
        stage=stage(
            "export", lambda wildcards: pipeline.export_settings(wildcards.concept)
        ),
    shell:
        'python "$BICO_SCRIPTS"/export.py --binders {input.binder:q} --output {output.released:q}'
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"
