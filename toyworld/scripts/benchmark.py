"""python toyworld/scripts/benchmark.py --prepare results/world-benchmark
python toyworld/scripts/benchmark.py --judge results/world-benchmark/bico --output results/world-benchmark/table.md

The benchmark of binding on held-out scenes of the procedural world: draws the sources and writes the tables, then, when
the pipeline has run them, judges the results by the oracle; of several methods it makes one table. Beside the table, a
CSV has every composition's measures. `make world-benchmark` and `make world-ablations` do it all.
"""

from pathlib import Path

from bico.runtime.command import parser, run


def main() -> None:
    arguments = parser(__doc__)
    what = arguments.add_mutually_exclusive_group(required=True)
    what.add_argument("--prepare", help="the folder of the sources, concepts.csv and compositions.csv, to write")
    what.add_argument("--judge", nargs="+", help="a method's folder of results, or several; the cases lie beside them")
    arguments.add_argument("--kinds", nargs="+", default=(), help="of the compositions to write; all")
    arguments.add_argument("--output", help="the table to write (.md)")
    given = arguments.parse_args()
    if given.judge and not given.output:
        arguments.error("--output is missing")

    from bico.runtime.files import write_text
    from toyworld.benchmark import by_motion, comparison, judge, markdown, table, to_csv, write_cases

    if given.prepare:
        write_cases(given.prepare, given.kinds)
        return
    found = {Path(folder).name: judge(Path(folder).parent, folder) for folder in given.judge}
    tables = {name: table(trials) for name, trials in found.items()}
    alone = len(found) == 1
    text = f"{markdown(*tables.values())}\n{by_motion(*found.values())}" if alone else comparison(tables)
    write_text(given.output, text)
    write_text(Path(given.output).with_suffix(".csv"), to_csv(found))


if __name__ == "__main__":
    run(main)
