"""Tables: encodings, separators, headers, ids, numbers, links."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bico.plan.plan import Plan
from tests.corpus.project import COMPOSITIONS, CONCEPTS, plan
from tests.corpus.verdicts import Input

LONG = "9" * 400
PLAIN = "composition,prompt\none,plain words\n"


def _send(folder: Path, **tables: str | bytes) -> Plan:
    return plan(**tables)


def _send_braces(folder: Path) -> Plan:
    (folder / "{run}").mkdir()
    (folder / "{run}" / "b.safetensors").touch()
    return plan(concepts="concept,binder\nstar,{run}/b.safetensors\n", compositions=PLAIN)


def takes(proves: str, right: Callable[[Plan], bool], **tables: str | bytes) -> Input:
    return Input("tables", proves, partial(_send, **tables), right)


def concepts_refused(proves: str, content: str | bytes, names: str) -> Input:
    return Input("tables", proves, partial(_send, concepts=content, compositions=PLAIN), names=names)


def compositions_refused(proves: str, content: str | bytes, names: str) -> Input:
    return Input("tables", proves, partial(_send, compositions=content), names=names)


def concept(name: str) -> Callable[[Plan], object]:
    return lambda pipeline: pipeline.tables.concepts[name]


def composition(pipeline: Plan) -> object:
    (row,) = pipeline.tables.compositions.values()
    return row


def as_usual(pipeline: Plan) -> bool:
    return list(pipeline.tables.concepts) == ["star", "boat"] and composition(pipeline).concepts == ("star", "boat")


def cell(column: str, value: str) -> str:
    """The concepts with a clip's column set."""
    return f'concept,source,{column}\nstar,star.png,\nboat,boat.mp4,"{value}"\n'


def setting(column: str, value: str) -> str:
    """A composition with a column set."""
    return f'composition,prompt,{column}\none,plain words,"{value}"\n'


ENCODINGS = [
    takes("a byte order mark in UTF-8 does not matter", as_usual, concepts="﻿" + CONCEPTS),
    takes("lines that end as on Windows are read", as_usual, concepts=CONCEPTS.replace("\n", "\r\n")),
    takes("lines that end as on an old Macintosh are read", as_usual, concepts=CONCEPTS.replace("\n", "\r")),
    takes("a last line without its end is read", as_usual, concepts=CONCEPTS.rstrip("\n")),
    takes("empty lines are passed over", as_usual, concepts=CONCEPTS.replace("\n", "\n\n\n")),
    takes("lines of commas alone are passed over", as_usual, concepts=CONCEPTS + ",\n,\n"),
    takes("spaces around column names do not matter", as_usual, concepts=CONCEPTS.replace(",source", " , source ", 1)),
    takes("spaces around fields do not matter", as_usual, concepts=CONCEPTS.replace(",", " , ")),
    takes("columns may come in any order", as_usual, concepts="source,concept\nstar.png,star\nboat.mp4,boat\n"),
    takes("every field may be quoted", as_usual, concepts='"concept","source"\n"star","star.png"\n"boat","boat.mp4"\n'),
    concepts_refused("UTF-16 is recognised", CONCEPTS.encode("utf-16"), "concepts.csv"),
    concepts_refused("UTF-16 without its mark is recognised", CONCEPTS.encode("utf-16-le"), "concepts.csv"),
    concepts_refused("UTF-32 is refused", CONCEPTS.encode("utf-32"), "concepts.csv"),
    compositions_refused(
        "Latin-1 is recognised", "composition,prompt\na,Ein Bär im Café\n".encode("latin-1"), "compositions.csv"
    ),
    compositions_refused(
        "Windows' quotation marks are recognised",
        "composition,prompt\na,A “star”\n".encode("cp1252"),
        "compositions.csv",
    ),
    compositions_refused(
        "Shift JIS is refused", "composition,prompt\na,星が光る\n".encode("shift_jis"), "compositions.csv"
    ),
    concepts_refused("a NUL byte is refused", CONCEPTS + "x\0y,star.png\n", "concepts.csv"),
    concepts_refused(
        "a spreadsheet under a table's name is refused",
        b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xff\xfe" * 20,
        "concepts.csv",
    ),
    concepts_refused(
        "a picture under a table's name is refused", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" * 9, "concepts.csv"
    ),
    concepts_refused("an HTML page under a table's name is refused", "<!doctype html>\n<p>404</p>\n", "concepts.csv"),
    concepts_refused("an empty file is refused", "", "concepts.csv"),
    concepts_refused("a file of white space is refused", " \n\n", "concepts.csv"),
    concepts_refused(
        "a quotation mark that is not closed is refused", 'concept,source\n"star,star.png\n', "concepts.csv"
    ),
    concepts_refused(
        "text behind a closed quotation mark is refused", 'concept,source\n"star"x,star.png\n', "concepts.csv"
    ),
    concepts_refused(
        "a field of a megabyte is refused", f"concept,source\n{'a' * 1_000_000},star.png\n", "concepts.csv"
    ),
]

SEPARATORS = [
    concepts_refused("semicolons for commas are named", CONCEPTS.replace(",", ";"), "concepts.csv"),
    concepts_refused("tabs for commas are named", CONCEPTS.replace(",", "\t"), "concepts.csv"),
    concepts_refused("bars for commas are named", CONCEPTS.replace(",", "|"), "concepts.csv"),
    compositions_refused(
        "semicolons in the compositions are named", COMPOSITIONS.replace(",", ";"), "compositions.csv"
    ),
    concepts_refused("a line with Excel's `sep=` is refused", "sep=,\n" + CONCEPTS, "concepts.csv"),
    concepts_refused("a comment above the header is refused", "# mine\n" + CONCEPTS, "concepts.csv"),
]

HEADERS = [
    takes(
        "an empty column behind the last, as spreadsheets write it, does not matter",
        as_usual,
        concepts=CONCEPTS.replace("\n", ",\n"),
    ),
    concepts_refused("an unknown column is named", "concept,source,colour\nstar,star.png,red\n", "column 'colour'"),
    concepts_refused("a column in capitals is named", "Concept,source\nstar,star.png\n", "column 'Concept'"),
    concepts_refused("a duplicate column is named", "concept,source,source\nstar,star.png,\n", "'source'"),
    concepts_refused("a duplicate id column is named", "concept,source,concept\nstar,star.png,b\n", "'concept'"),
    compositions_refused(
        "a duplicate column of seeds is named, whichever is empty",
        "composition,prompt,seeds,seeds\na,A [star](star),1 2 3,\n",
        "'seeds'",
    ),
    compositions_refused(
        "a duplicate column that differs in spaces is named", "composition,prompt,steps, steps\na,b,1,2\n", "'steps'"
    ),
    concepts_refused("a field under no name is refused", "concept,source,\nstar,star.png,x\n", "concepts.csv"),
    concepts_refused("a missing column is named", "source\nstar.png\n", "column 'concept': missing"),
    compositions_refused("a missing prompt column is named", "composition\none\n", "column 'prompt': missing"),
    concepts_refused("a row with too many fields is named", "concept,source\nstar,star.png,x\n", "concepts.csv, row 2"),
    compositions_refused(
        "a prompt with a comma that is not quoted is named",
        "composition,prompt\none,A star, red\n",
        "compositions.csv, row 2",
    ),
    takes(
        "a row with too few fields has the defaults",
        lambda p: concept("boat")(p).start == "0" and concept("boat")(p).fps is None,
        concepts="concept,source,start,fps\nstar,star.png\nboat,boat.mp4\n",
    ),
]

IDS = [
    concepts_refused(f"an id {what} is named", f'concept,source\n"{name}",star.png\n', "concepts.csv, row 2, concept")
    for what, name in {
        "with a space": "a star",
        "that climbs folders": "../star",
        "with a slash": "a/b",
        "with a backslash": "a\\b",
        "of an absolute path": "/etc/passwd",
        "with a leading dash": "-rf",
        "of dots": "..",
        "with a wildcard": "{x}",
        "of a glob": "st*r",
        "with an umlaut": "bär",
        "in Chinese": "柴犬",
        "with a command": "$(touch x)",
        "with a line break": "a\nb",
        "with a zero-width space": "a\u200bb",
        "in Cyrillic that looks Latin": "stаr",
        "in full-width letters": "ｓｔａｒ",
        "that is empty": "",
        "of 300 characters": "a" * 300,
        "of 100,000 characters": "a" * 100_000,
    }.items()
]
IDS += [
    concepts_refused("an id that comes twice is named", CONCEPTS + "star,star.png\n", "concepts.csv, row 4, concept"),
    concepts_refused(
        "ids that differ in capitals are named", CONCEPTS + "Star,star.png\n", "concepts.csv, row 4, concept"
    ),
    compositions_refused(
        "a composition of 300 characters is named",
        f"composition,prompt\n{'b' * 300},x\n",
        "compositions.csv, row 2, composition",
    ),
    compositions_refused(
        "a composition that comes twice is named", PLAIN + "one,more\n", "compositions.csv, row 3, composition"
    ),
    takes("an id of digits stays text", lambda p: "007" in p.tables.concepts, concepts=CONCEPTS + "007,star.png\n"),
    takes(
        "an id that YAML takes for false stays text",
        lambda p: "no" in p.tables.concepts,
        concepts=CONCEPTS + "no,star.png\n",
    ),
    takes(
        "an id that pandas takes for missing stays text",
        lambda p: "NA" in p.tables.concepts,
        concepts=CONCEPTS + "NA,star.png\n",
    ),
]

NUMBERS = [
    concepts_refused(f"{column} {what} is named", cell(column, value), f"concepts.csv, row 3, {column}")
    for column, what, value in (
        ("fps", "of 400 digits", LONG),
        ("fps", "of 0", "0"),
        ("fps", "of 0.0", "0.0"),
        ("fps", "below 0", "-15"),
        ("fps", "that is no number", "nan"),
        ("fps", "without end", "inf"),
        ("fps", "with a comma", "29,97"),
        ("fps", "in words", "fast"),
        ("fps", "of a fraction below all floats", f"0.{'0' * 400}1"),
        ("fps", "in Arabic digits", "١٥"),
        ("start", "below 0", "-1"),
        ("start", "of a minus with seconds", "-1s"),
        ("start", "as a clock shows it", "00:01"),
        ("start", "that is no number", "nan"),
        ("start", "of 400 digits", LONG),
        ("start", "of 5,000 digits of seconds", "9" * 5000 + "s"),
        ("start", "behind the end", "12"),
        ("start", "with seconds in capitals", "1S"),
        ("short", "of an unknown word", "trim"),
        ("short", "in capitals", "LOOP"),
    )
]
NUMBERS += [
    compositions_refused(f"{column} {what} is named", setting(column, value), f"compositions.csv, row 2, {column}")
    for column, what, value in (
        ("guidance_scale", "of 400 digits", LONG),
        ("guidance_scale", "that is no number", "nan"),
        ("guidance_scale", "without end", "inf"),
        ("guidance_scale", "below 0", "-1"),
        ("guidance_scale", "with a comma", "2,5"),
        ("guidance_scale", "in hexadecimal", "0x10"),
        ("steps", "of 0", "0"),
        ("steps", "of a fraction", "2.5"),
        ("steps", "of 400 digits", LONG),
        ("steps", "of 5,000 digits", "9" * 5000),
        ("steps", "in superscript", "²"),
        ("frames", "of 0", "0"),
        ("frames", "that the VAE cannot take", "8"),
        ("frames", "of 400 digits", LONG + "1"),
        ("frames", "that is no number", "nan"),
        ("seeds", "that come twice", "1 1"),
        ("seeds", "that are the same number", "1 01"),
        ("seeds", "below 0", "-1"),
        ("seeds", "with commas", "1,2"),
        ("seeds", "of 400 digits", LONG),
        ("seeds", "as a range", "1-5"),
        ("seeds", "of a fraction", "1.0"),
    )
]
NUMBERS += [
    takes("fps of a film is read", lambda p: concept("boat")(p).fps == 14.985, concepts=cell("fps", "14.985")),
    takes(
        "a guidance scale without its zero is read",
        lambda p: composition(p).guidance_scale == 0.5,
        compositions=setting("guidance_scale", ".5"),
    ),
    takes("leading zeros of steps are read", lambda p: composition(p).steps == 7, compositions=setting("steps", "007")),
    takes(
        "the largest seed is read exactly",
        lambda p: composition(p).seeds == (10**18 - 1,),
        compositions=setting("seeds", "9" * 18),
    ),
    takes(
        "seeds may be apart by several spaces",
        lambda p: composition(p).seeds == (3, 1),
        compositions=setting("seeds", " 3   1 "),
    ),
    takes(
        "a negative prompt of `none` is empty",
        lambda p: composition(p).negative_prompt == "",
        compositions=setting("negative_prompt", "none"),
    ),
]

SOURCES = [
    concepts_refused(f"a source {what} is named", f'concept,source\nstar,"{source}"\n', "concepts.csv, row 2, source")
    for what, source in {
        "that is not there": "none.png",
        "that is empty": "",
        "without a suffix": "star",
        "of another kind": "star.txt",
        "that is a folder": ".",
        "on the web": "https://example.org/star.png",
        "in a bucket": "s3://bucket/star.png",
        "of a device": "/dev/stdin",
        "with a name too long for any disk": "a" * 300 + ".png",
        "with a path too long for any system": "a/" * 5000 + "a.png",
    }.items()
]
SOURCES += [
    Input(
        "tables",
        "a binder with braces in its path is named",
        _send_braces,
        names="concepts.csv, row 2, binder",
    ),
    concepts_refused(
        "a binder that is not there is named", "concept,binder\nstar,none.safetensors\n", "concepts.csv, row 2, binder"
    ),
    concepts_refused(
        "a binder's source that is no number is named",
        "concept,binder\nstar,star.png#x\n",
        "concepts.csv, row 2, binder",
    ),
    concepts_refused(
        "a binder's source of 5,000 digits is named",
        f"concept,binder\nstar,star.png#{'1' * 5000}\n",
        "concepts.csv, row 2, binder",
    ),
    concepts_refused(
        "a start of an image is named", "concept,source,start\nstar,star.png,1\n", "concepts.csv, row 2, start"
    ),
    concepts_refused(
        "temporal phrases of an image are named",
        "concept,source,temporal\nstar,star.png,runs\n",
        "concepts.csv, row 2, temporal",
    ),
    concepts_refused(
        "a clip's spatial phrases alone are named", cell("spatial", "a boat"), "concepts.csv, row 3, temporal"
    ),
    concepts_refused(
        "a phrase without a word is named",
        "concept,source,spatial\nstar,star.png,a star; ...\n",
        "concepts.csv, row 2, spatial",
    ),
    concepts_refused(
        "a phrase of two lines is named",
        'concept,source,spatial\nstar,star.png,"a\nstar"\n',
        "concepts.csv, row 2, spatial",
    ),
    takes(
        "phrases keep their words, once each",
        lambda p: concept("star")(p).spatial == ("a star", "gold"),
        concepts=CONCEPTS.replace("source", "source,spatial,temporal")
        .replace("star.png", "star.png,a star; ;gold;a star,")
        .replace("boat.mp4", "boat.mp4,,"),
    ),
]

INPUTS = ENCODINGS + SEPARATORS + HEADERS + IDS + NUMBERS + SOURCES
