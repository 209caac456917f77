import pytest
from transformers import AutoTokenizer

from bico import InputError
from bico.text.grammar import Piece, parse
from bico.text.tokens import PromptTokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return PromptTokenizer(tiny_model / "tokenizer")


def test_a_plain_text_has_the_ids_that_transformers_gives_it(tokenizer, tiny_model):
    reference = AutoTokenizer.from_pretrained(tiny_model / "tokenizer", local_files_only=True)
    for text in ("A happy Akita dog, in a kitchen.", "柴犬 rôle naïve Ünïcödé 🎮", "色调艳丽，过曝", ""):
        cleaned = tokenizer.tokenise_text(text)
        assert list(cleaned.ids) == reference(text.replace("，", ",")).input_ids


def test_the_two_syntaxes_give_identical_tokens(tokenizer):
    inline = parse("[A happy 柴犬,](akita) [raises its paws](gaming) in a cosy kitchen.")
    released = parse("# # in a cosy kitchen. | [A happy 柴犬,](akita) | [raises its paws](gaming)")
    assert tokenizer.tokenise(inline) == tokenizer.tokenise(released)


def test_owners_follow_words_of_several_tokens_and_other_scripts(tokenizer):
    pieces = [Piece("Extraordinarily fluffy"), Piece("柴犬🎮", "akita", 0.5), Piece("naïveté", "b"), Piece("ok")]
    tokens = tokenizer.tokenise(pieces)
    lengths = [len(tokenizer.tokenise([piece])) - 1 for piece in pieces]
    assert max(lengths) > 5
    expected = [owner for owner, n in zip((0, 1, 2, 0), lengths, strict=True) for _ in range(n)]
    assert list(tokens.owner) == [*expected, 0]
    assert list(tokens.scale) == [0.5 if owner == 1 else 1.0 for owner in tokens.owner]
    assert tokens.concepts == ("akita", "b")


def test_one_end_of_text_token_ends_the_prompt_and_belongs_to_nobody(tokenizer):
    tokens = tokenizer.tokenise(parse("[a dog](akita)"))
    assert tokens.ids.count(tokenizer.end) == 1
    assert (tokens.ids[-1], tokens.owner[-1]) == (tokenizer.end, 0)


def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.json' is missing"):
        PromptTokenizer(tmp_path)
