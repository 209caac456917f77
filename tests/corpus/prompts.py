"""Prompts: the grammar's two syntaxes, by way of the compositions' table."""

import csv
import io
from functools import partial
from pathlib import Path

from bico.text.grammar import Piece
from tests.corpus.project import plan
from tests.corpus.verdicts import Input


def _send(folder: Path, prompt: str) -> list[Piece]:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([["composition", "prompt"], ["one", prompt]])
    return list(plan(compositions=table.getvalue()).tables.compositions["one"].pieces)


def refused(proves: str, prompt: str) -> Input:
    return Input("prompts", proves, partial(_send, prompt=prompt), names="compositions.csv, row 2, prompt")


def takes(proves: str, prompt: str, *pieces: Piece) -> Input:
    return Input("prompts", proves, partial(_send, prompt=prompt), right=lambda found: found == list(pieces))


def star(text: str, scale: float = 1.0) -> Piece:
    return Piece(text, "star", scale)


BRACKETS = [
    refused(proves, prompt)
    for proves, prompt in {
        "a bracket that is not closed is refused": "[A star(star)",
        "a bracket that was not opened is refused": "A star](star)",
        "a link inside a link is refused": "[A [red](boat) star](star)",
        "a link without a concept is refused": "[A star] shines",
        "a link with an empty concept is refused": "[A star]()",
        "a link without words is refused": "[](star) shines",
        "a link of spaces is refused": "[   ](star) shines",
        "a link of a zero-width space is refused": "[\u200b](star) shines",
        "a link of an HTML space is refused": "[&nbsp;](star) shines",
        "a link to two words is refused": "[A star](star boat)",
        "a link to no concept is refused": "[A moon](moon)",
        "a link to a concept in other letters is refused": "[A star](Star)",
        "a link that climbs folders is refused": "[A star](../star)",
        "a link to an address is refused": "[A star](https://example.org/)",
        "a link with a title is refused": '[A star](star "title")',
        "a picture's link in Markdown is refused": "![](star)",
        "a link by reference is refused": "[A star][star]",
        "a link with a space before its concept is refused": "[A star] (star)",
        "a link with full-width parentheses is refused": "[A star]（star）",
        "a link's parenthesis that is not closed is refused": "[A star](star",
        "parentheses in a link's concept are refused": "[A star]((star))",
        "an escaped bracket does not close a link": r"[A star\](star)",
        "a backslash at the end of a link does not hide its end": "[A star\\",
    }.items()
]
SCALES = [
    refused(f"a scale {what} is refused", f"[A star](star*{scale})")
    for what, scale in {
        "in words": "strong",
        "below 0": "-1",
        "that is no number": "nan",
        "without end": "inf",
        "of 400 digits": "9" * 400,
        "with an exponent": "1e400",
        "with a comma": "0,8",
        "that is empty": "",
        "twice": "0.5*2",
        "in per cent": "80%",
        "in Arabic digits": "١",
        "in superscript": "²",
        "of a lone dot": ".",
    }.items()
]
SLOTS = [
    refused(proves, prompt)
    for proves, prompt in {
        "a slot without a text is refused": "# shines",
        "more slots than texts are refused": "# # shine | [A star](star)",
        "more texts than slots are refused": "# shines | [A star](star) | [A boat](boat)",
        "a text without a slot is refused": "shines | [A star](star)",
        "a text that is no link is refused": "# shines | A star",
        "two links in a text are refused": "# shines | [A star](star) [A boat](boat)",
        "an empty text is refused": "# shines | ",
        "links and slots in one template are refused": "# [a boat](boat) | [A star](star)",
        "slots behind the template are refused": "# | [A star](star) | #",
        "a lone bar is refused": "|",
        "a lone slot is refused": "#",
        "bars alone are refused": "|" * 2000,
    }.items()
]
EMPTY = [
    refused(f"a prompt {what} is refused", prompt)
    for what, prompt in {
        "that is empty": "",
        "of spaces": "   ",
        "of a line break": "\n",
        "of zero-width spaces": "\u200b\u200b",
        "of HTML spaces": "&nbsp;&nbsp;",
        "of a byte order mark": "\ufeff",
    }.items()
]
LARGE = [
    refused(f"{what} are refused in linear time", prompt)
    for what, prompt in {
        "10,000 spaces in a link's parenthesis": "[a](" + " " * 10_000,
        "10,000 spaces behind a scale": "[a](star*" + " " * 10_000,
        "10,000 spaces on either side of a star": "[a](" + " " * 10_000 + "*" + " " * 10_000,
        "10,000 stars in a link": "[a](" + "*" * 10_000 + ")",
        "10,000 letters in a concept that is not closed": "[a](" + "s" * 10_000,
        "100,000 brackets": "[" * 100_000,
        "50,000 brackets that open and close": "[]" * 50_000,
        "100,000 backslashes in a link": "[" + "\\" * 100_001,
        "20,000 slots": "#" * 20_000,
        "20,000 words": "dog " * 20_000,
        "10,000 digits of a scale": "[a](star*" + "1" * 10_000 + "x)",
        "20,000 nested HTML entities": "&amp;" * 20_000,
        "20,000 ampersands that resolve to themselves": "[&" + "amp;" * 20_000 + "](moon)",
        "5,000 links": "[a](star)" * 5_000,
        "20,000 letters of mojibake": "Ã©â‚¬" * 4_000,
        "50,000 combining marks": "a" + "\u0301" * 50_000,
        "3,000 parentheses": "[a]" + "(" * 3_000,
    }.items()
]
TAKEN = [
    takes("a scale is a number behind a star", "[A star](star*0.8)", star("A star", 0.8)),
    takes("a scale of 0 is a number too", "[A star](star*0)", star("A star", 0.0)),
    takes("spaces in a link's parenthesis do not matter", "[A star](  star  *  0.5  )", star("A star", 0.5)),
    takes("parentheses in free words are words", "A (red) [star](star)", Piece("A (red)"), star("star")),
    takes("parentheses in a link's words are words", "[A (red) star](star)", star("A (red) star")),
    takes("escaped brackets are words", r"\[x\] [a\]b](star)", Piece("[x]"), star("a]b")),
    takes("an escaped slot is a word", r"\#1 [star](star)", Piece("#1"), star("star")),
    takes("an escaped backslash is a word", "a\\\\b", Piece("a\\b")),
    takes("a backslash before a letter is a word", r"C:\new", Piece(r"C:\new")),
    takes("a backslash at the end is a word", "a \\", Piece("a \\")),
    takes("two links side by side stay two", "[A](star)[B](star)", star("A"), star("B")),
    takes("a line break is a space", "A\n[red\r\nstar](star)", Piece("A"), star("red star")),
    takes("tabs and hard spaces are spaces", "A\t\u00a0b", Piece("A b")),
    takes("HTML entities are resolved twice", "a &amp;amp; b &lt;i&gt;", Piece("a & b <i>")),
    takes("mojibake is mended", "cafÃ© [star](star)", Piece("café"), star("star")),
    takes("full-width forms are mended", "Ａ ｓｔａｒ", Piece("A star")),
    takes("right-to-left words stay as they are", "نجمة [star](star)", Piece("نجمة"), star("star")),
    takes("emoji of several characters stay whole", "👩‍🚀 [star](star)", Piece("👩‍🚀"), star("star")),
    takes("braces are words", "{concept} [star](star)", Piece("{concept}"), star("star")),
    takes("a command is words", "$(touch x); `ls` [star](star)", Piece("$(touch x); `ls`"), star("star")),
    takes("a percent sign is a word", "100% %s", Piece("100% %s")),
    takes("quotation marks are words", "a \"b\" 'c'", Piece("a \"b\" 'c'")),
    takes("words that look like a CSV's row are words", "x,y\n1,2", Piece("x,y 1,2")),
    takes(
        "the released syntax gives the same pieces",
        "# over # | [A star](star) | [a boat](boat)",
        star("A star"),
        Piece("over"),
        Piece("a boat", "boat"),
    ),
    takes("a slot's text may be scaled", "# | [A star](star*2)", star("A star", 2.0)),
    takes("an escaped bar is a word", r"a \| b", Piece("a | b")),
    takes("a scale of many digits is the number that it is", "[A](star*0.30000000000000000001)", star("A", 0.3)),
]

INPUTS = BRACKETS + SCALES + SLOTS + EMPTY + LARGE + TAKEN
