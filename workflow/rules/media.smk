rule trim:
    input:
        source=lambda wildcards: local(plan.tables.concepts[wildcards.concept].source),
    output:
        clip=f"{CONCEPT}/{{concept}}.{{suffix}}",
    log:
        f"{RESULTS}/logs/trim/{{concept}}.{{suffix}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/trim/{{concept}}.{{suffix}}.tsv"
    wildcard_constraints:
        suffix="mp4|png",
    priority: 1
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(4000),
        runtime=scaled_by_attempt(30),
    params:
        depends_on=depends_on(
            "trim",
            lambda wildcards: plan.trim_settings(wildcards.concept),
            still=of_image,
        ),
    shell:
        'python "$BICO_SCRIPTS"/trim.py --source={input.source:q} --output {output.clip:q}'
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"


rule frames:
    input:
        clip=f"{CONCEPT}/{{concept}}.mp4",
    output:
        frames=f"{CONCEPT}/{{concept}}.frames.zip",
    log:
        f"{RESULTS}/logs/frames/{{concept}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/frames/{{concept}}.tsv"
    priority: 1
    conda:
        "../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(2000),
        runtime=scaled_by_attempt(30),
    params:
        depends_on=depends_on("frames", lambda wildcards: {}),
    shell:
        'python "$BICO_SCRIPTS"/frames.py --clip {input.clip:q} --folder {wildcards.concept:q}'
        " --output {output.frames:q} 2>&1 | keep_log {log:q}"
