# What becomes prompts goes first: the text encoder is then loaded once for all that are there.
rule concepts:
    input:
        clip=clip,
        vlm=vlm_if(asks_for_phrases),
    output:
        phrases=f"{CONCEPT}/{{concept}}.json",
    log:
        f"{RESULTS}/logs/concepts/{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/concepts/{{concept}}.tsv"
    priority: 1
    conda:
        "../../environment.yml"
    resources:
        gpu=lambda wildcards: pipeline.gpus() * asks_for_phrases(wildcards),
        mem_mb=grows(lambda: pipeline.memory("vlm")),
        runtime=grows(60),
    params:
        stage=stage(
            "concepts",
            lambda wildcards: pipeline.concepts_settings(wildcards.concept),
            still=of_image,
        ),
    shell:
        'python -m bico.launch {resources.gpu} "$BICO_SCRIPTS"/concepts.py'
        " --clip {input.clip:q} --output {output.phrases:q} --vlm {input.vlm:q}"
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"


rule prompts:
    input:
        media=clip,
        phrases=f"{CONCEPT}/{{concept}}.json",
        vlm=vlm_if(asks_for_prompts),
        tokenizer=vlm_if(asks_for_prompts, "tokenizer"),
    output:
        prompts=f"{CONCEPT}/{{concept}}_prompts.csv",
        report=f"{CONCEPT}/{{concept}}_prompts.report.json",
    log:
        f"{RESULTS}/logs/prompts/{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prompts/{{concept}}.tsv"
    priority: 1
    conda:
        "../../environment.yml"
    resources:
        gpu=lambda wildcards: pipeline.gpus() * asks_for_prompts(wildcards),
        mem_mb=grows(lambda: pipeline.memory("vlm")),
        runtime=grows(120),
    params:
        stage=stage(
            "prompts", lambda wildcards: pipeline.prompts_settings(), still=of_image
        ),
    shell:
        'python -m bico.launch {resources.gpu} "$BICO_SCRIPTS"/prompts.py'
        " --media {input.media:q} --concept {wildcards.concept:q} --phrases {input.phrases:q}"
        " --output {output.prompts:q} --report {output.report:q} --vlm {input.vlm:q}"
        " --tokenizer {input.tokenizer:q} --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"


use rule prompts as spatial_prompts with:
    input:
        media=f"{CONCEPT}/{{concept}}.frames.zip",
        phrases=f"{CONCEPT}/{{concept}}.json",
        vlm=vlm_if(asks_for_prompts),
        tokenizer=vlm_if(asks_for_prompts, "tokenizer"),
    output:
        prompts=f"{CONCEPT}/{{concept}}_spatial_prompts.csv",
        report=f"{CONCEPT}/{{concept}}_spatial_prompts.report.json",
    log:
        f"{RESULTS}/logs/spatial_prompts/{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/spatial_prompts/{{concept}}.tsv"
    params:
        stage=stage(
            "prompts", lambda wildcards: pipeline.prompts_settings(of_frames=True)
        ),
