"""python scripts/licences.py

Lists the licences of everything that pyproject.toml asks for, and of what that asks for in turn, as the packages state
them, in docs/licences.md; and what the bundled libraries of ffmpeg say of themselves.
"""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import imageio_ffmpeg
from av._core import library_meta
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "licences.md"


def declared() -> dict[str, list[str]]:
    """The requirements of pyproject.toml by what they are for: running, or an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {"running": project["dependencies"], **project["optional-dependencies"]}


def with_theirs(requirements: list[str]) -> dict[str, Distribution | None]:
    """The packages that the requirements need on this machine, by name; None for one that is not installed."""
    found, left = {}, [Requirement(text) for text in requirements]
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        if name in found or not _applies(wanted):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            found[name] = None
            continue
        left += [Requirement(text) for text in found[name].requires or []]
    return found


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def licence(package: Distribution | None) -> str:
    """As the package states it: an SPDX expression, classifiers, a short name; else its licence file's first line."""
    if package is None:
        return "not installed here"
    stated = package.metadata
    classifiers = [c.rsplit(" :: ", 1)[1] for c in stated.get_all("Classifier") or [] if c.startswith("License :: ")]
    classifiers = [name for name in classifiers if name != "OSI Approved"]
    named = stated.get("License-Expression") or "; ".join(classifiers) or (stated.get("License") or "").split("\n")[0]
    return named or next(_first_lines(package), "not stated")


def _first_lines(package: Distribution) -> Iterator[str]:
    for file in package.files or []:
        if re.match(r"(?i)(licen[cs]e|copying)", file.name):
            lines = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
            yield f"{lines[0]} ({file.name})"


def dependency_rows() -> list[str]:
    """A row a package: those that are asked for by name first, with what for."""
    wanted_for, packages = {}, {}
    for purpose, requirements in declared().items():
        packages |= with_theirs(requirements)
        for text in requirements:
            wanted_for.setdefault(canonicalize_name(Requirement(text).name), purpose)
    names = sorted(packages, key=lambda name: (name not in wanted_for, name))
    return [f"| {name} | {wanted_for.get(name, '')} | {licence(packages[name])} |" for name in names]


def ffmpeg_rows() -> list[str]:
    """What the ffmpeg of imageio-ffmpeg and the libraries of av are built with and under."""
    said = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-L"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"GNU (?:Lesser )?General Public License.*?version (\S+)", said, re.DOTALL)
    built = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-buildconf"], capture_output=True, text=True).stdout
    theirs = library_meta["libavcodec"]
    bundled = [file.name for file in distribution("av").files or [] if re.match(r"libx26[45]", file.name)]
    stated = f"GPL version {version[1].rstrip(';,')} or later" if "Lesser" not in said else "LGPL"
    rows = [f"| imageio-ffmpeg's ffmpeg | {stated} | {_options(built)} |"]
    shipped = f"; ships {', '.join(name.partition('-')[0] for name in sorted(bundled))}" if bundled else ""
    return [*rows, f"| av's libraries | {theirs['license']} | {_options(theirs['configuration'])}{shipped} |"]


def _options(configuration: str) -> str:
    kept = re.findall(r"--enable-(?:gpl|version3|nonfree|libx264|libx265)\b", configuration)
    return " ".join(f"`{option}`" for option in dict.fromkeys(kept))


def replaced(text: str, mark: str, lines: list[str]) -> str:
    begin, end = f"<!-- {mark}: make licences writes this -->\n", f"<!-- end of {mark} -->\n"
    before, _, rest = text.partition(begin)
    return before + begin + "".join(f"{line}\n" for line in lines) + end + rest.partition(end)[2]


def main() -> None:
    text = DOCUMENT.read_text("utf-8")
    text = replaced(text, "ffmpeg", ["| binaries | state | built with |", "| --- | --- | --- |", *ffmpeg_rows()])
    rows = ["| package | asked for by | licence, as it states it |", "| --- | --- | --- |", *dependency_rows()]
    DOCUMENT.write_text(replaced(text, "packages", rows), "utf-8")


if __name__ == "__main__":
    main()
