"""The lock file and the list of licences keep up with pyproject.toml."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
LICENCES = (ROOT / "docs" / "licences.md").read_text("utf-8")
PINS = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", LOCK))
requirements = pytest.mark.parametrize("text", [*PROJECT["dependencies"], *EXTRAS["dev"]])


@requirements
def test_every_requirement_but_torch_is_locked_within_its_range(text):
    requirement = Requirement(text)
    if requirement.name == "torch":
        assert "torch" not in PINS
    else:
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_every_pin_has_hashes_and_nothing_else_stands_in_the_lock_file():
    pins = re.split(r"(?m)^(?=[a-z0-9-]+==)", LOCK)[1:]
    assert len(pins) == len(PINS) > 80
    for pin in pins:
        assert re.fullmatch(r"[a-z0-9-]+==\S+( ; [^\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n", pin), pin[:200]


def test_no_place_of_a_machine_or_registry_stands_in_the_lock_file():
    assert not re.search(r"://|file:|index-url|find-links", LOCK)


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)])
def test_the_licence_of_every_requirement_is_listed(text):
    row = re.search(rf"(?m)^\| {canonicalize_name(Requirement(text).name)} \| \w+ \| (.+) \|$", LICENCES)
    assert row and row[1] not in ("not stated", "not installed here")


def test_the_licence_of_every_folder_of_data_is_listed():
    folders = [path for parent in ("resources", "tests/data") for path in (ROOT / parent).iterdir()]
    tracked = [path.relative_to(ROOT).as_posix() for path in folders if path.name != "weights"]
    assert len(tracked) > 3
    for name in tracked:
        assert f"| `{name}`" in LICENCES, name
