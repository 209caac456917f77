rule external:
    input:
        video=lambda wildcards: local(
            method(wildcards).video(
                wildcards.composition, int(wildcards.seed), wildcards.suffix
            )
        ),
    output:
        result=f"{COMPOSITION}/seed{{seed}}.{{suffix}}",
        made=f"{COMPOSITION}/seed{{seed}}.{{suffix}}.json",
    log:
        f"{RESULTS}/logs/external/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/external/{{method}}.{{composition}}.seed{{seed}}.{{suffix}}.tsv"
    wildcard_constraints:
        method=of_kind("external"),
        suffix="mp4|png",
    conda:
        "../../../environment.yml"
    resources:
        mem_mb=scaled_by_attempt(2000),
        runtime=scaled_by_attempt(10),
    params:
        depends_on=depends_on(
            "external",
            lambda wildcards: {
                "frames": plan.composition(wildcards.composition).frames
            },
        ),
    shell:
        'python "$BICO_SCRIPTS"/external.py --video {input.video:q} --output {output.result:q} --made {output.made:q}'
        " --settings {params.depends_on[settings]:q} 2>&1 | keep_log {log:q}"
