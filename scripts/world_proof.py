"""python scripts/world_proof.py --prepare results/world-proof
python scripts/world_proof.py --judge results/world-proof/bico --output results/world-proof/table.md

The proof of binding on held-out scenes of the procedural world: draws the sources and writes the manifest, then, when
the pipeline has run it, judges the results by the oracle. `make world-proof` does it all.
"""

from pathlib import Path

from bico.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    what = arguments.add_mutually_exclusive_group(required=True)
    what.add_argument("--prepare", help="the folder of the sources, concepts.csv and compositions.csv, to write")
    what.add_argument("--judge", help="a method's folder of results")
    arguments.add_argument("--output", help="the table to write (.md)")
    given = arguments.parse_args()
    if given.judge and not given.output:
        arguments.error("--output is missing")

    from bico import InputError
    from bico.files import write_text
    from bico.world.proof import Trial, judge, markdown, write_cases

    if given.prepare:
        write_cases(given.prepare)
        return

    def result(trial: Trial) -> Path:
        path = Path(given.judge) / "compositions" / trial.name / f"seed0{'.png' if trial.frames == 1 else '.mp4'}"
        if not path.is_file():
            raise InputError(f"{path}: is not there; run the pipeline on the cases first")
        return path

    write_text(given.output, markdown(judge(result)))


if __name__ == "__main__":
    run(main)
