# What becomes prompts goes first: the text encoder is then loaded once for all that are there.
rule concepts:
    input:
        clip=clip,
        vlm=names_phrases,
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
        gpu=lambda wildcards: plan.gpus() if asks_for_phrases(wildcards) else 0,
        mem_mb=scaled_by_attempt(lambda: plan.memory("vlm")),
        runtime=scaled_by_attempt(60),
    params:
        depends_on=depends_on(
            "concepts",
            lambda wildcards: plan.concepts_settings(wildcards.concept),
            still=of_image,
            asks=asks_for_phrases,
        ),
    shell:
        'python -m bico.runtime.launch {resources.gpu} "$BICO_SCRIPTS"/concepts.py'
        " --clip {input.clip:q} --output {output.phrases:q} --vlm {input.vlm:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule prompts:
    input:
        media=clip,
        phrases=f"{CONCEPT}/{{concept}}.json",
        vlm=writes_prompts,
        tokenizer=measures_prompts,
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
        gpu=lambda wildcards: plan.gpus() if asks_for_prompts(wildcards) else 0,
        mem_mb=scaled_by_attempt(lambda: plan.memory("vlm")),
        runtime=scaled_by_attempt(120),
    params:
        depends_on=depends_on(
            "prompts",
            lambda wildcards: plan.prompts_settings(),
            still=of_image,
            asks=asks_for_prompts,
        ),
    shell:
        'python -m bico.runtime.launch {resources.gpu} "$BICO_SCRIPTS"/prompts.py'
        " --media {input.media:q} --concept {wildcards.concept:q} --phrases {input.phrases:q}"
        " --output {output.prompts:q} --report {output.report:q} --vlm {input.vlm:q}"
        " --tokenizer {input.tokenizer:q} --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


use rule prompts as spatial_prompts with:
    input:
        media=f"{CONCEPT}/{{concept}}.frames.zip",
        phrases=f"{CONCEPT}/{{concept}}.json",
        vlm=writes_prompts,
        tokenizer=measures_prompts,
    output:
        prompts=f"{CONCEPT}/{{concept}}_spatial_prompts.csv",
        report=f"{CONCEPT}/{{concept}}_spatial_prompts.report.json",
    log:
        f"{RESULTS}/logs/spatial_prompts/{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/spatial_prompts/{{concept}}.tsv"
    params:
        depends_on=depends_on(
            "prompts",
            lambda wildcards: plan.prompts_settings(of_frames=True),
            asks=asks_for_prompts,
        ),
