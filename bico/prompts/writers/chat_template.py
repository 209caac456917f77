"""Which chat template of a model's folder shows it pictures.

A folder may hold several: the published Qwen2.5-VL-7B-Instruct has one for text and tools with its tokenizer, and the
one for pictures with its processor. Their file names do not tell, so each is tried on a conversation.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from bico import InputError

PADS = {"image": "<|image_pad|>", "video": "<|video_pad|>"}  # a picture's mark in a rendered conversation
_WORDS = ("Be brief.", "What is this?", "A boat.", "Are you sure?")


def picture_template(folder: str | Path, tokenizer) -> str:
    """The first of a folder's chat templates, the processor's before the tokenizer's, that renders a conversation with
    a picture: its words in their order, and one mark for the picture. InputError says why none can."""
    refused = []
    for name, template in _templates(Path(folder), tokenizer):
        if not (problem := _problem(tokenizer, template)):
            return template
        refused.append(f"  {name}: {problem}")
    raise InputError(
        f"{folder}: no chat template that shows the model a picture; its chat_template.jinja or chat_template.json"
        f" is missing or another model's. Found:",
        *(refused or ["  none at all"]),
    )


def _templates(folder: Path, tokenizer) -> Iterator[tuple[str, str]]:
    """Each template with where it was found. transformers has read chat_template.jinja, and the folder of additional
    ones, into the tokenizer already."""
    for name in ("chat_template.json", "processor_config.json"):
        if (folder / name).is_file():
            yield from _named(name, read_json(folder / name).get("chat_template"))
    yield from _named("the tokenizer's own", tokenizer.chat_template)


def _named(where: str, found) -> Iterator[tuple[str, str]]:
    """A template alone, or several by their names, or a list of such: {"name": ..., "template": ...}."""
    if isinstance(found, list):
        found = {str(one.get("name")): one.get("template") for one in found if isinstance(one, dict)}
    if isinstance(found, dict):
        for name, template in found.items():
            yield from _named(f"{where}, '{name}'", template)
    elif isinstance(found, str):
        yield where, found


def _problem(tokenizer, template: str) -> str:
    """Why the template cannot be used; empty if it can."""
    for kind, pad in PADS.items():
        system, asked, answer, reply = _WORDS
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": [{"type": kind}, {"type": "text", "text": asked}]},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": reply},
        ]
        try:
            text = tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True, tokenize=False
            )
        except Exception as problem:  # a template is a program of its own, and may fail in any way
            return f"fails where it is given {kind} and text: {type(problem).__name__}: {problem}"
        if (marks := text.count(pad)) != 1:
            return f"marks {marks} pictures where one {kind} is shown"
        places = [text.find(words) for words in _WORDS]
        if -1 in places or places != sorted(places):
            return f"leaves out words where one {kind} is shown"
    return ""


def read_json(path: Path) -> dict:
    """A JSON object of a model's folder. InputError names the file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"{path}: cannot be read: {problem}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: cannot be read: it holds a {type(value).__name__}, not an object")
    return value
