import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bico.text.grammar import LONGEST, GrammarError, Piece, bad_id, link, parse

WORD = st.text("abcäßéñ柴犬🎮.,!'", min_size=1, max_size=6)
TEXT = st.lists(WORD, min_size=1, max_size=3).map(" ".join)
PIECE = st.one_of(
    st.builds(Piece, TEXT),
    st.builds(Piece, TEXT, st.sampled_from(["akita", "g-1", "x_2"]), st.sampled_from([1.0, 0.5])),
)


def inline(piece: Piece) -> str:
    scale = "" if piece.scale == 1 else f"*{piece.scale}"
    return f"[{piece.text}]({piece.concept}{scale})" if piece.concept else piece.text


def test_links_are_bound_and_words_outside_are_free():
    pieces = parse("[A happy Akita dog,](akita) [raises its paws](gaming*0.8) in a cosy kitchen.")
    assert pieces == [
        Piece("A happy Akita dog,", "akita"),
        Piece("raises its paws", "gaming", 0.8),
        Piece("in a cosy kitchen."),
    ]


@given(st.lists(PIECE, min_size=1, max_size=5))
def test_the_two_syntaxes_give_the_same_pieces(pieces):
    template = " ".join("#" if piece.concept else piece.text for piece in pieces)
    texts = "".join(f" | {inline(piece)}" for piece in pieces if piece.concept)
    assert parse(template + texts) == parse(" ".join(map(inline, pieces)))


def test_the_same_concept_may_be_linked_several_times():
    assert [piece.concept for piece in parse("[A dog](a) and [its tail](a)")] == ["a", None, "a"]


def test_a_backslash_makes_a_special_character_ordinary():
    assert parse(r"\[a\] \#1 \| \\ [x\]y](a)") == [Piece("[a] #1 | \\"), Piece("x]y", "a")]


def test_parentheses_in_free_text_are_ordinary():
    assert parse("a dog (brown) and [cats](a) (two)")[0] == Piece("a dog (brown) and")


def test_white_space_and_html_entities_are_cleaned():
    assert parse("  a &amp;amp; b \n c [ d  e ](x)") == [Piece("a & b c"), Piece("d e", "x")]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("[A dog(akita)", r"unbalanced '\['"),
        ("A dog](akita)", r"unbalanced '\]' at character 6"),
        ("[A [dog](akita)](x)", r"unbalanced '\[' at character 4"),
        ("[A dog] runs", "not followed by"),
        ("[A dog](a b)", "names 'a b'"),
        ("[A dog]()", "names ''"),
        ("[](akita) runs", "empty"),
        ("[  ](akita) runs", "empty"),
        ("[A dog](akita*x)", "scaled by 'x'"),
        ("[A dog](akita*-1)", "scaled by '-1'"),
        ("# # runs | [A dog](akita)", "2 '#' slots but 1 texts"),
        ("# runs | [A dog](akita) | [x](b)", "1 '#' slots but 2 texts"),
        ("# runs", "1 '#' slots but 0 texts"),
        ("runs | [A dog](akita)", "0 '#' slots but 1 texts"),
        ("# runs | A dog", "each text behind a '|' is one link"),
        ("# [runs](b) | [A dog](akita)", "one of the two syntaxes"),
        ("", "no words"),
        ("   ", "no words"),
    ],
)
def test_a_prompt_that_does_not_parse_says_what_is_wrong(prompt, says):
    with pytest.raises(GrammarError, match=says):
        parse(prompt)


@given(st.one_of(st.text(), st.text(r"[]()#|\*a0. ")))
def test_any_text_is_pieces_with_words_or_a_grammar_error(prompt):
    try:
        pieces = parse(prompt)
    except GrammarError as problem:
        assert str(problem)
        return
    assert pieces and all(piece.text.strip() and math.isfinite(piece.scale) for piece in pieces)


@pytest.mark.parametrize("unit", [*" a*()[]\\#|", "[a", "[a](", "[a](a", "[a](a*", "[a](a)", "\\[", "# |", "#|[a](a)"])
@pytest.mark.parametrize("start", ["", "[a](", "[a](a*1", "[", "# | "])
def test_the_longest_prompt_allowed_is_read_in_linear_time(start, unit):
    """A cubic expression took 16 s for 1,000 spaces: for these it would take more than a day."""
    prompt = (start + unit * LONGEST)[:LONGEST]
    with contextlib.suppress(GrammarError):
        parse(prompt)


def test_a_prompt_that_no_text_encoder_reads_is_refused_by_its_length():
    assert parse("a" * LONGEST)
    with pytest.raises(GrammarError, match=r"20,001 characters, allowed: at most 20,000"):
        parse("a" * (LONGEST + 1))


def test_a_message_about_a_long_link_stays_short():
    for prompt in (f"[{'a' * 9000}]", f"[{'a' * 9000}]({'b ' * 5000})", f"[a](b*{'9' * 400})", f"# | {'x' * 9000}"):
        with pytest.raises(GrammarError) as problem:
            parse(prompt)
        assert len(str(problem.value)) < 300


@pytest.mark.parametrize("scale", ["1001", "9" * 400, "٣", "1e3", "nan", "inf", "-0", ""])
def test_a_scale_is_a_plain_number_of_sensible_size(scale):
    with pytest.raises(GrammarError, match="a scale is a number from 0 to 1000"):
        parse(f"[A dog](akita*{scale})")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x" * 101, "101 characters, allowed: at most 100"),
        ("CON", "a device"),
        ("lpt1", "a device"),
        ("-x", "allowed: letters"),
        (".x", "allowed: letters"),
        ("a\n", "allowed: letters"),
        ("ä", "allowed: letters"),
        ("", "allowed: letters"),
    ],
)
def test_an_id_that_cannot_name_files_everywhere_is_refused(name, says):
    assert says in bad_id(name)


def test_an_id_may_be_long_and_begin_with_a_digit():
    assert bad_id("x" * 100) is bad_id("1-a_B") is bad_id("console") is None


@pytest.mark.parametrize("words", ["a red ball", "a [red] ball", "no. 5 # | of \\ these"])
def test_a_link_that_is_written_for_words_parses_to_these_words(words):
    assert parse(link(words, "ball")) == [Piece(words, "ball")]
