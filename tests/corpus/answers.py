"""What a language model may answer when it is asked for the concepts of a picture or a clip."""

import json
import re
from functools import partial
from pathlib import Path

from bico.prompts.answers import parse_phrases
from bico.text.phrases import Phrases, read_phrases
from tests.corpus.project import write
from tests.corpus.verdicts import Input

BOTH = '{"spatial": ["a red boat", "a lake"], "temporal": ["sails away"]}'
ONE = '{"spatial": ["a red boat", "a lake"]}'
CLIP, STILL = Phrases(("a red boat", "a lake"), ("sails away",)), Phrases(("a red boat", "a lake"))


def _send(folder: Path, text: str, kind: str) -> Phrases:
    return parse_phrases(text, kind)


def _send_file(folder: Path, content: str | bytes) -> Phrases:
    write("phrases.json", content)
    return read_phrases("phrases.json")


def takes(proves: str, text: str, kind: str = "video", phrases: Phrases | None = None) -> Input:
    expected = phrases or (CLIP if kind == "video" else STILL)
    return Input("answers", proves, partial(_send, text=text, kind=kind), lambda found: found == expected)


def refused(proves: str, text: str, kind: str = "video") -> Input:
    return Input(
        "answers", f"{proves} is refused", partial(_send, text=text, kind=kind), names="the raw text", lines=25
    )


def file_refused(proves: str, content: str | bytes) -> Input:
    return Input(
        "answers", f"a concept file {proves} is refused", partial(_send_file, content=content), names="phrases.json"
    )


USABLE = [
    takes("the object alone is taken", BOTH),
    takes("an image's object alone is taken", ONE, "image"),
    takes("a fence of JSON is taken", f"```json\n{BOTH}\n```"),
    takes("a fence without a language is taken", f"```\n{BOTH}\n```"),
    takes("a fence on one line is taken", f"```json {BOTH} ```"),
    takes("a fence that is not closed is taken", f"```json\n{BOTH}"),
    takes("words before a fence are passed over", f"Here are the concepts:\n\n```json\n{BOTH}\n```"),
    takes("words behind a fence are passed over", f"```json\n{BOTH}\n```\nLet me know if you need more."),
    takes("words before the object are passed over", f"Sure! {BOTH}"),
    takes("words behind the object are passed over", f"{BOTH}\nI hope this helps."),
    takes("thoughts before the object are passed over", f"<think>A boat, it seems.</think>\n{BOTH}"),
    takes("the same object twice is taken once", f"{BOTH}\n{BOTH}"),
    takes("the same object in two fences is taken once", f"```json\n{BOTH}\n```\n```json\n{BOTH}\n```"),
    takes("an extra key is passed over", BOTH[:-1] + ', "confidence": 0.9}'),
    takes("an extra key of a still picture is passed over", ONE[:-1] + ', "style": ["photo"]}', "image"),
    takes("no temporal phrases of a still picture are passed over", ONE[:-1] + ', "temporal": []}', "image"),
    takes("a byte order mark is passed over", "\ufeff" + BOTH),
    takes("a comma too many is mended", '{"spatial": ["a red boat", "a lake",], "temporal": ["sails away"],}'),
    takes("single quotation marks are mended", BOTH.replace('"', "'")),
    takes("curly quotation marks are mended", re.sub(r'"([^"]*)"', r"“\1”", BOTH)),
    takes("a comment is mended", BOTH.replace('"temporal"', '// motions\n"temporal"').replace(", //", ",\n//")),
    takes("an escaped letter is the letter", BOTH.replace("boat", "b\\u006fat")),
    takes(
        "a pair of surrogates is its character",
        BOTH.replace("a lake", "\\ud83d\\udea4"),
        phrases=Phrases(("a red boat", "🚤"), ("sails away",)),
    ),
    takes("Chinese is taken", '{"spatial": ["红色的船"]}', "image", Phrases(("红色的船",))),
    takes("a phrase that is repeated counts once", '{"spatial": ["a red boat", "A red  boat.", "a lake"]}', "image"),
    takes("spaces around phrases do not matter", '{"spatial": [" a red boat ", "a lake\\n"]}', "image"),
]
USABLE += [
    takes(f"{proves} is taken out of a phrase", f'{{"spatial": ["{phrase}"]}}', "image", Phrases((cleaned,)))
    for proves, phrase, cleaned in (
        ("a line break", "a\\nboat", "a boat"),
        ("a lone surrogate", "\\ud83d boat", "boat"),
        ("a lone low surrogate", "boat \\udea4", "boat"),
        ("a surrogate's raw half", "\ud83d boat", "boat"),
        ("a NUL", "a\\u0000boat", "a boat"),
        ("the beginning of a terminal's command", "a \\u001b[31mboat", "a [31mboat"),
        ("a separator of groups", "a\\u001dboat", "a boat"),
    )
]
USABLE += [
    takes(
        "a clip in which nothing moves has no temporal phrases",
        '{"spatial": ["a boat"], "temporal": []}',
        phrases=Phrases(("a boat",)),
    )
]
UNUSABLE = [
    refused("nothing", ""),
    refused("white space", " \n\t"),
    refused("a refusal in words", "I'm sorry, but I can't help with that."),
    refused("a list in Markdown", "- a red boat\n- a lake\n"),
    refused("a list in JSON", '["a red boat", "a lake"]'),
    refused("a number", "5"),
    refused("null", "null"),
    refused("text in JSON", '"a red boat"'),
    refused("an empty object", "{}"),
    refused("an object without phrases", '{"spatial": [], "temporal": []}'),
    refused("a clip without the temporal key", ONE),
    refused("a still picture with motion alone", '{"temporal": ["sails"]}', "image"),
    refused("phrases that are one text", '{"spatial": "a boat", "temporal": "sails"}'),
    refused("phrases that are numbers", '{"spatial": [1, 2], "temporal": [3]}'),
    refused("phrases that are null", '{"spatial": [null], "temporal": ["sails"]}'),
    refused("phrases that are objects", '{"spatial": [{"name": "boat"}], "temporal": ["sails"]}'),
    refused("phrases that are lists", '{"spatial": [["boat"]], "temporal": ["sails"]}'),
    refused("an empty phrase", '{"spatial": [""]}', "image"),
    refused("a phrase of spaces", '{"spatial": ["  "]}', "image"),
    refused("a phrase of punctuation", '{"spatial": ["..."]}', "image"),
    refused("10,000 phrases", json.dumps({"spatial": [f"boat {i}" for i in range(10_000)]}), "image"),
    refused("a phrase of 10,000 words", json.dumps({"spatial": ["boat " * 10_000]}), "image"),
    refused("a phrase of 100,000 letters", json.dumps({"spatial": ["b" * 100_000]}), "image"),
    refused("a megabyte of prose", "a boat on a lake " * 60_000),
    refused("a megabyte of brackets", "[" * 1_000_000),
    refused("a megabyte of objects that open", '{"a":' * 200_000),
    refused("a megabyte of fences", "```json\n" * 125_000),
    refused("a megabyte of quotation marks", '"' * 1_000_000),
    refused("a megabyte of spaces in a fence", "```" + " " * 1_000_000 + "x"),
    refused("a number of 10,000 digits", '{"spatial": [' + "9" * 10_000 + "]}", "image"),
    refused("two different objects", '{"spatial": ["a boat"]}\n{"spatial": ["a lake"]}', "image"),
    refused("a key twice", '{"spatial": ["a boat"], "spatial": ["a lake"]}', "image"),
    refused("an object cut off in a phrase", '{"spatial": ["a red boat", "a la'),
    refused("the request's own form", '{"spatial": ["..."], "temporal": ["..."]}'),
    refused("NaN for phrases", '{"spatial": NaN}', "image"),
]
FILES = [
    file_refused("that is empty", ""),
    file_refused("in UTF-16", BOTH.encode("utf-16")),
    file_refused("in Latin-1", '{"spatial": ["café"]}'.encode("latin-1")),
    file_refused("cut off", BOTH[:30]),
    file_refused("of a list", "[]"),
    file_refused("with prose", f"Here: {BOTH}"),
    file_refused("with a key twice", '{"spatial": ["a"], "spatial": ["b"]}'),
    file_refused("with a lone surrogate", '{"spatial": ["\\ud83d boat"]}'),
    file_refused("with an unknown key", '{"spatial": ["a"], "colour": ["red"]}'),
    file_refused("nested 100,000 deep", "[" * 100_000),
]

INPUTS = USABLE + UNUSABLE + FILES
