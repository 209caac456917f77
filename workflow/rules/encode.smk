rule encode_latents:
    input:
        clip=clip,
        vae=weights("vae"),
    output:
        latents=f"{CONCEPT}/latents.safetensors",
    log:
        f"{RESULTS}/logs/encode_latents/{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/encode_latents/{{concept}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        gpu=pipeline.gpus(),
        mem_mb=grows(lambda: pipeline.memory("vae")),
        runtime=grows(60),
    params:
        stage=stage(
            "encode_latents",
            lambda wildcards: pipeline.encode_latents_settings(),
            still=of_image,
        ),
    shell:
        'python -m bico.launch {resources.gpu} "$BICO_SCRIPTS"/encode_latents.py'
        " --clip {input.clip:q} --vae {input.vae:q} --output {output.latents:q}"
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"


rule encode_prompts:
    input:
        prompts=f"{CONCEPT}/{{concept}}_{{prompts}}.csv",
        tokenizer=weights("tokenizer"),
        text_encoder=weights("text_encoder"),
    output:
        embeds=f"{CONCEPT}/{{concept}}_{{prompts}}.safetensors",
    log:
        f"{RESULTS}/logs/encode_prompts/{{concept}}_{{prompts}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/encode_prompts/{{concept}}_{{prompts}}.tsv"
    wildcard_constraints:
        prompts="prompts|spatial_prompts",
    conda:
        "../../environment.yml"
    resources:
        gpu=pipeline.gpus(),
        mem_mb=grows(lambda: pipeline.memory("text_encoder")),
        runtime=grows(60),
    params:
        stage=stage(
            "encode_prompts", lambda wildcards: pipeline.encode_prompts_settings()
        ),
    shell:
        'python -m bico.launch {resources.gpu} "$BICO_SCRIPTS"/encode_prompts.py'
        " --prompts {input.prompts:q} --tokenizer {input.tokenizer:q}"
        " --text-encoder {input.text_encoder:q} --output {output.embeds:q}"
        " --settings {params.stage[settings]:q} 2>&1 | keep_log {log:q}"
