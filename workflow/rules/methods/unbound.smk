use rule compose as compose_unbound with:
    input:
        binders=[],
        tokenizer=weights("tokenizer"),
        text_encoder=weights("text_encoder"),
        transformers=transformers,
    wildcard_constraints:
        method=of_kind("unbound"),
    params:
        depends_on=depends_on(
            "compose",
            lambda wildcards: method(wildcards).compose_settings(
                plan, wildcards.composition
            ),
        ),
