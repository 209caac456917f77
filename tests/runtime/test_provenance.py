import pytest

from bico.runtime import provenance
from bico.runtime.provenance import code_digest, digest, file_digest
from tests import ROOT


def test_the_order_of_keys_does_not_count_but_swapped_values_do():
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": 1, "b": 2}) != digest({"a": 2, "b": 1})


def test_a_files_digest_is_its_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small package of the same shape, whose files a test may edit."""
    files = {
        "scripts/s.py": "from bico import deep\nfrom bico.a import f\nprint(f(), deep)\n",
        "bico/__init__.py": "",
        "bico/a.py": '"""Doc."""\n\ndef f():\n    """Doc."""\n    from bico.b import g\n    return g()\n',
        "bico/b.py": "def g():\n    return 1  # one\n",
        "bico/deep.py": "X = 1\n",
        "bico/unused.py": "Y = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def digest_after(project, name: str, text: str) -> str:
    (project / name).write_text(text)
    for cached in (code_digest, provenance._tree, provenance._code, provenance._imports):
        cached.cache_clear()
    return code_digest(project / "scripts" / "s.py")


def test_comments_docstrings_and_modules_that_are_not_imported_do_not_change_the_code(project):
    before = code_digest(project / "scripts" / "s.py")
    assert digest_after(project, "bico/b.py", "def g():\n    # a comment\n    return 1\n") == before
    bare, body = "def f():\n", "    from bico.b import g\n\n    return g()\n"
    assert digest_after(project, "bico/a.py", bare + body) == before
    assert digest_after(project, "bico/a.py", '"""New."""\n\n' + bare + '    "New."\n' + body) == before
    assert digest_after(project, "bico/unused.py", "Y = 2\n") == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bico/b.py", "def g():\n    return 2\n"),
        ("bico/deep.py", "X = 2\n"),
        ("scripts/s.py", "from bico import deep\nfrom bico.a import f\nprint(f())\n"),
    ],
)
def test_a_change_of_logic_anywhere_in_the_import_closure_changes_the_code(project, name, text):
    before = code_digest(project / "scripts" / "s.py")
    assert digest_after(project, name, text) != before


def test_the_training_script_depends_on_the_binder_but_not_on_the_prompts_or_the_media():
    names = {path.name for path in provenance._imports(ROOT / "scripts" / "bind.py")}
    assert {"train.py", "binder.py", "binding.py", "noise.py", "wan.py"} <= names
    others = {"qwen.py", "table.py", "video.py", "sheets.py", "render.py", "plots.py", "manifests.py", "schema.py"}
    assert not (others | {"grammar.py", "tokens.py", "tables.py", "config.py", "method.py", "command.py"}) & names


@pytest.mark.parametrize(
    "text",
    [
        'def g():\n    log.info("one is %d", 1)\n    return 1\n',
        'def g():\n    if log.level:\n        log.warning(f"{log}")\n    return 1\n',
    ],
)
def test_log_lines_do_not_change_the_code(project, text):
    (project / "bico" / "b.py").write_text(text.replace("one is", "two are").replace("{log}", "the {log}"))
    before = digest_after(project, "bico/a.py", (project / "bico" / "a.py").read_text())
    assert digest_after(project, "bico/b.py", text) == before
    assert digest_after(project, "bico/b.py", text.replace("return 1", "return 2")) != before


def test_texts_of_errors_and_of_help_and_the_version_do_not_change_the_code_but_when_an_error_comes_does(project):
    text = 'X = 1\n__version__ = "1"\ndef f(a, b):\n    if a > {limit}:\n        raise InputError(f"{words} {{a}}")\n'
    text += '    b.add_argument("--a", default={limit}, help="{words}")\n'
    before = digest_after(project, "bico/deep.py", text.format(limit=3, words="too much:"))
    after = text.format(limit=3, words="more than can be:").replace('"1"', '"2"')
    assert digest_after(project, "bico/deep.py", after) == before
    assert digest_after(project, "bico/deep.py", text.format(limit=4, words="too much:")) != before
