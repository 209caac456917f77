"""The rooms: who may import whom."""

import ast
from collections import defaultdict
from pathlib import Path

from tests import ROOT


def imported(path: Path) -> set[str]:
    """The dotted names that a file imports, but for those that only a type checker sees."""
    module, names = ast.parse(path.read_text("utf-8")), set()
    module.body = [node for node in module.body if getattr(getattr(node, "test", None), "id", "") != "TYPE_CHECKING"]
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    names = {path.name for path in (ROOT / "bico").iterdir() if path.is_dir() and path.name != "__pycache__"}
    found = defaultdict(set)
    for path in (ROOT / "bico").rglob("*.py"):
        room = path.relative_to(ROOT / "bico").parts[0]
        of = {name.split(".")[1] for name in imported(path) if name.startswith("bico.")}
        if room in names:
            found[room] |= of & names - {room}
    return found


def test_nothing_in_bico_imports_the_toy_world():
    for folder in ("bico", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not {name for name in imported(path) if name.split(".")[0] == "toyworld"}, path


def test_no_room_is_above_and_below_another():
    left = dict(rooms())
    while left:
        lowest = {room for room, others in left.items() if not others & left.keys()}
        assert lowest, f"a circle among {sorted(left)}"
        left = {room: others for room, others in left.items() if room not in lowest}


def test_no_two_modules_of_the_package_share_a_name():
    names = [path.stem for path in (ROOT / "bico").rglob("*.py") if path.stem != "__init__"]
    twice = {name for name in names if names.count(name) > 1}
    assert twice == {"method"}  # each method's own


def test_no_two_modules_of_the_toy_world_share_a_name():
    """Scripts and tests are named after the modules that they are for."""
    paths = [path.relative_to(ROOT / "toyworld") for path in (ROOT / "toyworld").rglob("*.py")]
    names = [path.stem for path in paths if path.stem != "__init__" and path.parts[0] not in ("scripts", "tests")]
    assert sorted(names) == sorted(set(names))


def test_the_library_never_names_its_callers():
    for path in (ROOT / "bico").rglob("*.py"):
        code = ast.parse(path.read_text("utf-8"))
        texts = [node.value for node in ast.walk(code) if isinstance(node, ast.Constant)]
        assert not [text for text in texts if isinstance(text, str) and "scripts/" in text], path


def test_each_kind_of_method_has_its_module_its_schema_and_its_rules():
    for folder in (ROOT / "bico" / "methods").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            rules = ROOT / "workflow" / "rules" / "methods" / f"{folder.name}.smk"
            assert all(path.is_file() for path in (folder / "method.py", folder / "schema.yaml", rules))
