"""python scripts/export.py --binders akita/stage1.safetensors gaming/stage2.safetensors --output both.safetensors

Writes binders in the released code's layout: one without suffix, several as sources 0, 1, ... Settings: sources, which
one of a released file of several each binder is (from 0); null of other files.
"""

from bico.runtime.command import parser, run, settings_argument


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--binders", nargs="+", required=True, help="binder files, native or released")
    arguments.add_argument("--output", required=True)
    arguments.add_argument("--settings", type=settings_argument, default={})
    given = arguments.parse_args()

    from bico.methods.bico.checkpoint import ExportSettings, export_released, load_binder
    from bico.settings.stage import stage_settings

    sources = stage_settings(ExportSettings, given.settings).sources or [None] * len(given.binders)
    binders = [load_binder(path, source=source)[0] for path, source in zip(given.binders, sources, strict=True)]
    export_released(given.output, binders)


if __name__ == "__main__":
    run(main)
