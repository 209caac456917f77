import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bico import InputError
from bico.runtime.reading import read_text, read_yaml

IN_A_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
YAML_TEXT = st.text("abk01.:-_ \n\t{}[],&*!|>?#%@\"'<~é\0", max_size=60)


def refused(read, path) -> list[str]:
    with pytest.raises(InputError) as error:
        read(path)
    assert all(problem.startswith(str(path)) and "\n" not in problem for problem in error.value.problems)
    return error.value.problems


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("concept\nkäse\n".encode("latin-1"), "line 2: not UTF-8 text; it looks like Latin-1, Windows-1252 or another"),
        ("a,“b”\n".encode("cp1252"), "line 1: not UTF-8 text; it looks like Latin-1, Windows-1252 or another"),
        ("a,一只快乐的秋田犬\n".encode("gbk"), "line 1: not UTF-8 text; it looks like GBK"),
        ("concept\n".encode("utf-16"), "line 1: not UTF-8 text; it looks like UTF-16"),
        ("concept\n".encode("utf-16-le"), "line 1: not UTF-8 text; it looks like UTF-16"),
        ("concept\n".encode("utf-16-be"), "line 1: not UTF-8 text; it looks like UTF-16"),
        ("concept\n".encode("utf-32"), "line 1: not UTF-8 text; it looks like UTF-32"),
        (b"PK\x03\x04\x14\x00\x00\xff", "it looks like a zip archive, as Excel's workbooks are"),
        (b"a\nb\0cdefgh", "line 2: not UTF-8 text; it looks like a binary file"),
    ],
)
def test_text_that_is_not_utf_8_is_refused_with_what_it_looks_like(tmp_path, data, says):
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    (problem,) = refused(read_text, path)
    assert says in problem and problem.endswith("save it as UTF-8")


def test_the_mark_that_excel_puts_in_front_of_utf_8_does_not_count(tmp_path):
    (tmp_path / "a.csv").write_text("concept\n", "utf-8-sig")
    assert read_text(tmp_path / "a.csv") == "concept\n"


def test_a_file_that_is_no_file_is_named(tmp_path):
    assert "cannot be read: Is a directory" in refused(read_text, tmp_path)[0]
    assert "cannot be read: No such file" in refused(read_text, tmp_path / "none")[0]
    assert "cannot be read: File name too long" in refused(read_text, tmp_path / ("x" * 300))[0]


def test_every_key_that_is_there_twice_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: {c: 1, c: 2}\nd:\n  - e: 1\n    e: 2\na: 3\n", "utf-8")
    found = [problem.removeprefix(f"{path}, ") for problem in refused(read_yaml, path)]
    assert sorted(found) == [
        "line 2: 'c' is there already, in line 2",
        "line 5: 'e' is there already, in line 4",
        "line 6: 'a' is there already, in line 1",
    ]
    path.write_text('{"a": {"b": 1, "b": 2}}', "utf-8")
    assert refused(read_yaml, path) == [f"{path}, 'b' is there twice"]


def test_a_merged_key_may_be_overridden(tmp_path):
    (tmp_path / "a.yaml").write_text("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: *x, a: 4}\n", "utf-8")
    assert read_yaml(tmp_path / "a.yaml")["y"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "line 1: not YAML: expected ',' or ']'"),
        ("a:\n\tb: 1\n", "line 2: not YAML: found character '\\t'"),
        ("a: b: c\n", "line 1: not YAML: mapping values are not allowed here"),
        ("a: *b\n", "line 1: not YAML: found undefined alias"),
        ("a: 2025-13-45\n", "not YAML: month must be in 1..12"),
        ("a: !!timestamp x\n", "not YAML"),
        ('a: !!int ""\n', "not YAML"),
        ("a: !!bool x\n", "not YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "not YAML: could not determine a constructor for the tag"),
        ("[" * 5000, "nested too deeply"),
        ('{"a":' * 5000, "nested too deeply"),
        (f"a: {'9' * 5000}\n", "not YAML: Exceeds the limit"),
        ("a: \x1b[2J\n", "not YAML: unacceptable character"),
    ],
)
def test_what_is_not_yaml_is_refused_in_one_line(tmp_path, text, says):
    path = tmp_path / "a.yaml"
    path.write_text(text, "utf-8")
    (problem,) = refused(read_yaml, path)
    assert says in problem


@IN_A_FOLDER
@given(st.one_of(st.binary(max_size=60), YAML_TEXT.map(str.encode)))
def test_any_bytes_are_yaml_or_an_error_that_names_the_file(tmp_path, data):
    path = tmp_path / "a.yaml"
    path.write_bytes(data)
    try:
        read_yaml(path)
    except InputError as error:
        assert all(problem.startswith(str(path)) and "\n" not in problem for problem in error.problems)


@IN_A_FOLDER
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text("abc ", min_size=1)),
        lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(st.text("abc", min_size=1), inside)),
        max_leaves=10,
    )
)
def test_yaml_and_json_are_read_as_they_were_written(tmp_path, value):
    for text in (yaml.safe_dump(value), json.dumps(value, indent="\t")):
        (tmp_path / "a.yaml").write_text(text, "utf-8")
        assert read_yaml(tmp_path / "a.yaml") == value
