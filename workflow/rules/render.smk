rule render:
    input:
        bound=f"{COMPOSITION}/bound.safetensors",
        transformers=transformers,
        vae=weights("vae"),
    output:
        result=f"{COMPOSITION}/seed{{seed}}.{{suffix}}",
        made=f"{COMPOSITION}/seed{{seed}}.{{suffix}}.json",
    log:
        f"{RESULTS}/logs/render/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/render/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.tsv"
    wildcard_constraints:
        method=methods_of(lambda each: each.binds_prompts),
        suffix="mp4|png",
    conda:
        "../../environment.yml"
    resources:
        gpu=plan.gpus(),
        mem_mb=scaled_by_attempt(lambda: plan.memory("transformer", "vae")),
        runtime=scaled_by_attempt(240),
    params:
        depends_on=depends_on(
            "render",
            lambda wildcards: plan.render_settings(
                wildcards.composition, int(wildcards.seed)
            ),
            still=lambda wildcards: plan.is_still(wildcards.composition),
        ),
    shell:
        'python -m bico.runtime.launch {resources.gpu} "$BICO_SCRIPTS"/render.py'
        " --bound {input.bound:q} --transformers {input.transformers:q} --vae {input.vae:q}"
        " --output {output.result:q} --made {output.made:q} --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"
