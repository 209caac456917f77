import pytest

from tests.corpus.inputs import INPUTS
from tests.corpus.table import DOCUMENT, in_document, rows
from tests.corpus.verdicts import Input, judge


@pytest.mark.parametrize("one", INPUTS, ids=lambda one: f"{one.category}: {one.proves}")
def test_a_hostile_input_is_taken_right_or_refused_by_name(tmp_path, one: Input):
    verdict, said = judge(one, tmp_path)
    assert verdict == one.due, said


def test_the_corpus_is_large_and_says_of_each_input_what_it_proves():
    assert len(INPUTS) >= 300
    sentences = [(one.category, one.proves) for one in INPUTS]
    assert len(set(sentences)) == len(sentences)


def test_the_table_in_the_document_is_what_the_corpus_gives():
    """Every input's own test holds it to the verdict that is due, so these are the counts of a run."""
    assert in_document() == rows([(one.category, one.due) for one in INPUTS]), (
        f"python -m tests.corpus writes {DOCUMENT}"
    )
