"""The command `bico`."""

import argparse
import contextlib
from pathlib import Path

from bico.runtime.command import run


def main() -> None:
    arguments = argparse.ArgumentParser(prog="bico", description="BiCo's command line, beside Snakemake's.")
    commands = arguments.add_subparsers(required=True, dest="command", metavar="COMMAND")
    explains = commands.add_parser("explain", help="what made a result, and why it would or would not be made again")
    explains.add_argument("result", help="a file under the results folder")
    explains.add_argument("snakemake", nargs="*", help="further arguments for Snakemake, behind --")
    watches = commands.add_parser("watch", help="how far a run is, and what it is training; it only reads")
    watches.add_argument("--configfile", nargs="*", default=[], help="as Snakemake is given them")
    watches.add_argument("--once", action="store_true", help="show it once instead of again and again")
    zips = commands.add_parser("zip", help="a results page and all that it shows, as one file to be sent")
    zips.add_argument("page", help="such as results/bico/index.html")
    zips.add_argument("output", nargs="?", help="(default: the page's folder's name and .zip)")
    given = arguments.parse_args()
    if given.command == "explain":
        from bico.plan.explain import explain

        for line in explain(given.result, tuple(given.snakemake)):
            print(line)
        return
    if given.command == "zip":
        from bico.report.archive import zip_page

        output = given.output or f"{Path(given.page).absolute().parent.name}.zip"
        print(f"{output}: {zip_page(given.page, output)} files")
        return
    from bico.plan.watch import load_plan, watch

    with contextlib.suppress(KeyboardInterrupt):
        watch(load_plan(given.configfile), given.once)


def entry() -> None:
    run(main)
