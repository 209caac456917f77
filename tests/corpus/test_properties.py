"""Whatever comes, it is taken or refused: nothing else is raised."""

import contextlib
import csv
import io
import json

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from bico import InputError
from bico.plan.config import load_config
from bico.prompts.answers import parse_phrases
from bico.settings.schema import SCHEMAS
from bico.text.grammar import GrammarError, parse
from bico.text.phrases import Phrases
from tests.corpus.fuzz import binder, grammar
from tests.corpus.project import CONCEPTS, plan

TEXT = st.text(max_size=60)
SYMBOLS = st.text("[](){}*#|\\ab1.5- &;<\u200b\ufeff\n'\"", max_size=60)
NUMBER = st.floats() | st.integers() | st.integers(10**300, 10**400)
SCALAR = st.none() | st.booleans() | NUMBER | TEXT | st.dates() | st.binary(max_size=5)
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)
PROSE = st.text("Here are the concepts, I think!\n.", max_size=40)
SCHEMA = yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text("utf-8"))["properties"]
SECTIONS = {name: list(field["properties"]) for name, field in SCHEMA.items() if "properties" in field}
SPEC = ("dim", "blocks", "dual", "absorbent", "per_block", "gate", "gate_weighs")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@given(SYMBOLS | TEXT)
def test_any_text_is_a_prompt_or_a_grammar_error(text):
    grammar(text.encode("utf-8", "surrogatepass"))


@given(SYMBOLS)
def test_escaped_symbols_are_the_words_that_they_were(text):
    """In a bound word that no cleaning changes."""
    escaped = "".join(f"\\{character}" if character in "[]#|\\" else character for character in text)
    with contextlib.suppress(GrammarError):
        plain = parse(f"[x{escaped}](a)")
        assert [piece.concept for piece in plain] == ["a"]
        assert len(plain[0].text) <= len(text) + 1


@given(st.binary(max_size=200) | TEXT.map(str.encode))
@example(b"concept,source\n\xff")
def test_any_bytes_are_a_table_or_refused(content):
    with contextlib.suppress(InputError):
        plan(concepts=content, compositions="composition,prompt\na,b\n")


@given(
    st.lists(st.sampled_from(["start", "fps", "short", "spatial", "temporal", "binder", "source"]), max_size=4),
    st.lists(SYMBOLS | NUMBER.map(str) | TEXT, min_size=4, max_size=4),
)
@example(["binder"], ["1" * 256, "", "", ""])
def test_any_fields_of_a_concept_are_taken_or_refused(columns, fields):
    table = io.StringIO()
    row = ["boat", "boat.mp4", *fields[: len(columns)]]
    csv.writer(table).writerows([["concept", "source", *columns], row])
    with contextlib.suppress(InputError, UnicodeEncodeError):
        plan(concepts=table.getvalue(), compositions="composition,prompt\na,b\n")


@given(st.sampled_from(["seeds", "guidance_scale", "steps", "frames", "negative_prompt"]), NUMBER.map(str) | SYMBOLS)
def test_any_setting_of_a_composition_is_taken_or_refused(column, field):
    table = io.StringIO()
    csv.writer(table).writerows([["composition", "prompt", column], ["one", "[A star](star)", field]])
    with contextlib.suppress(InputError):
        (row,) = plan(concepts=CONCEPTS, compositions=table.getvalue()).tables.compositions.values()
        assert 0 <= row.guidance_scale < float("inf") and row.steps >= 1 and min(row.seeds) >= 0


@given(
    st.dictionaries(st.sampled_from(list(SCHEMA)) | TEXT, VALUE, max_size=3)
    | st.sampled_from(list(SECTIONS)).flatmap(
        lambda section: st.fixed_dictionaries(
            {section: st.dictionaries(st.sampled_from(SECTIONS[section]) | TEXT, VALUE, max_size=3)}
        )
    )
)
def test_any_configuration_is_complete_and_finite_or_refused(content):
    with contextlib.suppress(InputError):
        json.dumps(load_config(content), allow_nan=False)


@given(st.dictionaries(st.sampled_from(SPEC) | TEXT, JSON, max_size=7) | JSON, st.sampled_from([b"h", b"s"]))
def test_any_header_of_a_binder_is_read_or_refused(value, kind):
    binder(kind + json.dumps(value).encode())


@given(TEXT | SYMBOLS | JSON.map(json.dumps), st.sampled_from(["image", "video"]))
def test_any_answer_of_the_language_model_gives_phrases_or_is_refused(answer, kind):
    with contextlib.suppress(InputError):
        found = parse_phrases(answer, kind)
        assert found.spatial and all(phrase.encode("utf-8") for phrase in found.all)


@given(PROSE, PROSE, st.booleans())
def test_prose_around_an_answer_changes_nothing(before, behind, fenced):
    answer = '{"spatial": ["a red boat"], "temporal": ["sails away"]}'
    answer = f"```json\n{answer}\n```" if fenced else answer
    assert parse_phrases(f"{before}\n{answer}\n{behind}", "video") == Phrases(("a red boat",), ("sails away",))
