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
        gpu=plan.gpus(),
        mem_mb=scaled_by_attempt(lambda: plan.memory("vae")),
        runtime=scaled_by_attempt(60),
    params:
        depends_on=depends_on(
            "encode_latents",
            lambda wildcards: plan.encode_latents_settings(),
            still=of_image,
        ),
    shell:
        'python -m bico.runtime.launch {resources.gpu} "$BICO_SCRIPTS"/encode_latents.py'
        " --clip {input.clip:q} --vae {input.vae:q} --output {output.latents:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


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
        gpu=plan.gpus(),
        mem_mb=scaled_by_attempt(lambda: plan.memory("text_encoder")),
        runtime=scaled_by_attempt(60),
    params:
        depends_on=depends_on(
            "encode_prompts", lambda wildcards: plan.encode_prompts_settings()
        ),
    shell:
        'python -m bico.runtime.launch {resources.gpu} "$BICO_SCRIPTS"/encode_prompts.py'
        " --prompts {input.prompts:q} --tokenizer {input.tokenizer:q}"
        " --text-encoder {input.text_encoder:q} --output {output.embeds:q}"
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"
