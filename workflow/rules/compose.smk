rule compose:
    input:
        binders=lambda wildcards: [
            binder(wildcards.method, concept) for concept in linked(wildcards)
        ],
        tokenizer=weights("tokenizer"),
        text_encoder=weights("text_encoder"),
        transformer=weights("transformer"),
    output:
        bound=f"{COMPOSITION}/bound.safetensors",
    log:
        f"{RESULTS}/logs/compose/{{method}}.{{composition}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/compose/{{method}}.{{composition}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=pipeline.gpus(),
        mem_mb=grows(lambda: pipeline.memory("text_encoder")),
        runtime=grows(60),
    params:
        stage=stage(
            "compose",
            lambda wildcards: pipeline.compose_settings(wildcards.composition),
        ),
    shell:
        'python -m bico.launch {resources.gpu} "$BICO_SCRIPTS"/compose.py'
        " --binders {input.binders:q} --tokenizer {input.tokenizer:q}"
        " --text-encoder {input.text_encoder:q} --transformer {input.transformer:q} --output {output.bound:q}"
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"


rule render:
    input:
        bound=f"{COMPOSITION}/bound.safetensors",
        transformer=weights("transformer"),
        vae=weights("vae"),
    output:
        result=f"{COMPOSITION}/seed{{seed}}.{{suffix}}",
        made=f"{COMPOSITION}/seed{{seed}}.{{suffix}}.json",
    log:
        f"{RESULTS}/logs/render/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.tsv"
    wildcard_constraints:
        suffix="mp4|png",
    conda:
        "../../environment.yml"
    resources:
        gpu=pipeline.gpus(),
        mem_mb=grows(lambda: pipeline.memory("transformer", "vae")),
        runtime=grows(240),
    params:
        stage=stage(
            "render",
            lambda wildcards: pipeline.render_settings(
                wildcards.composition, int(wildcards.seed)
            ),
            still=lambda wildcards: pipeline.is_still(wildcards.composition),
        ),
    shell:
        'python -m bico.launch {resources.gpu} "$BICO_SCRIPTS"/render.py'
        " --bound {input.bound:q} --transformer {input.transformer:q} --vae {input.vae:q}"
        " --output {output.result:q} --made {output.made:q} --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"


rule sheet:
    input:
        result=f"{COMPOSITION}/seed{{seed}}.{{suffix}}",
        sources=source_clips,
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
        mem_mb=grows(4000),
        runtime=grows(10),
    params:
        stage=stage(
            "sheet",
            lambda wildcards: pipeline.sheet_settings(
                wildcards.composition, int(wildcards.seed)
            ),
        ),
    shell:
        'python "$BICO_SCRIPTS"/sheet.py --result {input.result:q} --sources {input.sources:q} --output {output.sheet:q}'
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"
