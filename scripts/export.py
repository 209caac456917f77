"""python scripts/export.py --binders akita/stage1.safetensors gaming/stage2.safetensors --output both.safetensors

Writes binders in the released code's layout: one without suffix, several as sources 0, 1, ...
"""

from bico.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--binders", nargs="+", required=True, help="binder files, native or released")
    arguments.add_argument("--output", required=True)
    given = arguments.parse_args()

    from bico.checkpoint import export_released, load_binder

    export_released(given.output, [load_binder(path)[0] for path in given.binders])


if __name__ == "__main__":
    run(main)
