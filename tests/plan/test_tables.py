import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bico import InputError
from bico.media.video import write_video
from bico.plan.tables import COMPOSITION_COLUMNS, CONCEPT_COLUMNS, load_tables, media_problems, model_problems
from bico.settings.model_file import load_model
from bico.text.grammar import ID
from tests import ROOT

GOOD_CONCEPTS = "concept,source\nakita,akita.png\ngaming,gaming.mp4\n"
GOOD_COMPOSITIONS = "composition,prompt\nboth,[A dog](akita) [plays](gaming).\n"


@pytest.fixture
def model(tiny_model):
    found = load_model(ROOT / "config" / "models" / "tiny.yaml", "weights")
    components = {
        name: dataclasses.replace(component, folder=tiny_model / name) for name, component in found.components.items()
    }
    return dataclasses.replace(found, components=components)


@pytest.fixture(autouse=True)
def media(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32), "red").save("akita.png")
    write_video("gaming.mp4", np.zeros((90, 32, 48, 3), np.uint8), 30)


def load(model, concepts=GOOD_CONCEPTS, compositions=GOOD_COMPOSITIONS):
    Path("concepts.csv").write_text(concepts, "utf-8")
    Path("compositions.csv").write_text(compositions, "utf-8")
    return load_tables("concepts.csv", "compositions.csv", model)


def problems(model, concepts=GOOD_CONCEPTS, compositions=GOOD_COMPOSITIONS) -> list[str]:
    with pytest.raises(InputError) as error:
        load(model, concepts, compositions)
    return error.value.problems


def test_rows_have_the_defaults_of_the_columns_and_of_the_model(model):
    manifest = load(model)
    gaming, both = manifest.concepts["gaming"], manifest.compositions["both"]
    assert (gaming.kind, gaming.start, gaming.fps, gaming.short, gaming.spatial) == ("video", "0", None, "error", ())
    assert (both.seeds, both.steps, both.guidance_scale, both.frames) == ((0,), 50, 5.0, 81)
    assert both.negative_prompt == model.negative_prompt
    assert both.concepts == ("akita", "gaming")


def test_every_column_is_read(model):
    manifest = load(
        model,
        "concept,source,start,fps,short,spatial,temporal\n"
        "gaming,gaming.mp4,1.5s,15,loop,a man; red shirt ;,waves\nakita,akita.png,,,,,\n",
        "composition,prompt,seeds,negative_prompt,guidance_scale,steps,frames\n"
        'both,"[A dog,](akita*0.5) runs",1 2 3,blurry,2.5,8,1\n',
    )
    gaming, both = manifest.concepts["gaming"], manifest.compositions["both"]
    assert (gaming.start, gaming.fps, gaming.short) == ("1.5s", 15.0, "loop")
    assert (gaming.spatial, gaming.temporal) == (("a man", "red shirt"), ("waves",))
    assert (both.seeds, both.negative_prompt, both.guidance_scale) == ((1, 2, 3), "blurry", 2.5)
    assert (both.steps, both.frames) == (8, 1)


@pytest.mark.parametrize(
    ("concepts", "says"),
    [
        ("concept,source,colour\nakita,akita.png,red\n", "concepts.csv, column 'colour': unknown, allowed: concept,"),
        ("concept\nakita\n", "concepts.csv, row 2, source: empty"),
        ("concept,source\na,akita.png\na,akita.png\n", "concepts.csv, row 3, concept: 'a' is already the id of row 2"),
        ("concept,source\na b,akita.png\n", "concepts.csv, row 2, concept: found 'a b', allowed: letters"),
        ("concept,source\n../x,akita.png\n", "concepts.csv, row 2, concept: found '../x', allowed: letters"),
        ("concept,source\na,none.png\n", "concepts.csv, row 2, source: no such file: none.png"),
        ("concept,source\na,\n", "concepts.csv, row 2, source: empty"),
        ("concept,source\na,x.txt\n", "concepts.csv, row 2, source: "),
        ("concept,source,start\na,gaming.mp4,-3\n", "concepts.csv, row 2, start: found '-3', allowed: a frame number"),
        ("concept,source,start\na,akita.png,3\n", "row 2, start: found '3', but akita.png is an image"),
        ("concept,source,fps\na,gaming.mp4,0\n", "row 2, fps: found '0', allowed: above 0"),
        ("concept,source,short\na,gaming.mp4,trim\n", "row 2, short: found 'trim', allowed: error, loop, hold"),
        ("concept,source,spatial\na,gaming.mp4,x\n", "row 2, temporal: empty, but spatial is given"),
        ("concept,source,spatial\na,akita.png,a dog; ...\n", "row 2, spatial: '...' is not one line with a word in it"),
        ("concept,source\na,akita.png,x\n", "3 fields in a table of 2 columns; quote text with commas"),
        ("", "concepts.csv, column 'concept': missing"),
    ],
)
def test_a_bad_concept_is_named_by_file_row_and_field(model, concepts, says):
    assert any(says in problem for problem in problems(model, concepts, "composition,prompt\nx,plain words\n"))


@pytest.mark.parametrize(
    ("compositions", "says"),
    [
        ("composition,prompt,seed\na,b,1\n", "column 'seed': unknown, allowed: composition, prompt, seeds"),
        (
            "composition,prompt\nx,[A cat](felix)\n",
            "row 2, prompt: a link to 'felix', which is no concept; there are: a",
        ),
        ("composition,prompt\nx,[](akita)\n", "row 2, prompt: the link '[](akita)' is empty"),
        ("composition,prompt\nx,[A cat(akita)\n", "row 2, prompt: unbalanced '['"),
        ("composition,prompt\nx,# # | [A](akita)\n", "row 2, prompt: 2 '#' slots but 1 texts"),
        ("composition,prompt,seeds\nx,y,1 1\n", "row 2, seeds: found '1 1', allowed: whole numbers"),
        ("composition,prompt,seeds\nx,y,one\n", "row 2, seeds: found 'one'"),
        ("composition,prompt,steps\nx,y,0\n", "row 2, steps: found '0'"),
        ("composition,prompt,frames\nx,y,1.5\n", "row 2, frames: found '1.5'"),
        ("composition,prompt,guidance_scale\nx,y,-1\n", "row 2, guidance_scale: found '-1'"),
    ],
)
def test_a_bad_composition_is_named_by_file_row_and_field(model, compositions, says):
    assert any(f"compositions.csv, {says}" in problem for problem in problems(model, compositions=compositions))


def test_all_problems_of_both_files_are_listed_at_once(model):
    found = problems(model, "concept,source\na b,none.png\n", "composition,prompt,seeds\nx,[A](zoe) [,x\n")
    assert len(found) == 4


def test_an_unreadable_and_a_too_short_video_are_named(model):
    Path("text.mp4").write_text("no video")
    write_video("short.mp4", np.zeros((50, 32, 48, 3), np.uint8), 30)
    manifest = load(
        model,
        "concept,source,short,start\na,text.mp4,,\nb,short.mp4,,\nc,short.mp4,loop,\nd,gaming.mp4,,10\ne,gaming.mp4,,9\n"
        "f,short.mp4,hold,60\n",
        "composition,prompt\nx,plain words\n",
    )
    unreadable, short, late, beyond = media_problems(manifest, "concepts.csv", model)
    assert unreadable.startswith("concepts.csv, row 2, source: ")
    assert "row 3, source: short.mp4 has 50 frames from start 0, the model needs 81" in short
    assert "row 5, source: gaming.mp4 has 80 frames from start 10" in late
    assert "row 7, start: found '60', but short.mp4 has 50 frames" in beyond


def test_a_prompt_longer_than_the_text_encoder_reads_is_named_with_its_count(model):
    manifest = load(model, compositions=f"composition,prompt\nlong,{'dog ' * 600}\nfine,{'dog ' * 100}\n")
    (problem,) = model_problems(manifest, "compositions.csv", model)
    count = int(problem.split("prompt: ")[1].split()[0])
    assert problem.startswith("compositions.csv, row 2, prompt: ") and count > 600
    assert "allowed: at most 512" in problem


def test_sizes_that_the_model_cannot_take_are_named(model):
    manifest = load(model, compositions="composition,prompt,frames\nx,y,80\nz,y,1\n")
    odd = dataclasses.replace(model, height=60, width=100, frames=80)
    text = "\n".join(model_problems(manifest, "compositions.csv", odd))
    for said in ("height: 60 is not a multiple of 16", "width: 100", "frames: 80 is not a multiple of 4 plus one"):
        assert said in text
    (problem,) = model_problems(manifest, "compositions.csv", model)
    assert "compositions.csv, row 2, frames: 80" in problem


def test_text_media_and_model_problems_are_listed_at_once(model):
    Path("text.mp4").write_text("no video")
    Path("concepts.csv").write_text("concept,source\na,text.mp4\nb,none.png\nc d,akita.png\n", "utf-8")
    Path("compositions.csv").write_text(f"composition,prompt,frames\nx,{'dog ' * 600},80\n", "utf-8")
    with pytest.raises(InputError) as error:
        load_tables("concepts.csv", "compositions.csv", model, thorough=True)
    assert len(error.value.problems) == 5


def test_an_id_may_not_begin_with_a_dash_nor_differ_in_the_size_of_letters_alone(model):
    found = problems(model, "concept,source\n-dog,akita.png\nDog,akita.png\ndog,akita.png\n")
    assert "row 2, concept: found '-dog'" in found[0] and "row 4, concept: 'dog' is already the id of row 3" in found[1]


def test_a_finished_binder_may_stand_in_for_a_source(model):
    Path("a.safetensors").write_bytes(b"")
    manifest = load(
        model,
        "concept,source,binder\nakita,,a.safetensors\ngaming,gaming.mp4,a.safetensors#1\n",
    )
    akita, gaming = manifest.concepts.values()
    assert (akita.kind, akita.binder, akita.binder_source) == (None, "a.safetensors", None)
    assert (gaming.kind, gaming.binder, gaming.binder_source) == ("video", "a.safetensors", 1)
    found = problems(model, "concept,binder\nakita,b.safetensors\ngaming,a.safetensors#x\n")
    assert "row 2, binder: no such file: b.safetensors" in found[0]
    assert "row 3, binder: found 'a.safetensors#x', allowed: a binder file" in found[1]


CONCEPT_TABLE, COMPOSITION_TABLE = "concept,source\nakita,akita.png\n", "composition,prompt\nx,plain words\n"
DIGITS = "9" * 400


@pytest.fixture
def plain():
    """A model file whose weights are not there: tables are then checked as text."""
    return load_model(ROOT / "config" / "models" / "world.yaml", "weights")


@pytest.mark.parametrize(
    ("concepts", "says"),
    [
        ("concept;source\na;akita.png\n", "row 1: the columns stand apart by semicolons; allowed: commas"),
        ("concept\tsource\na\takita.png\n", "row 1: the columns stand apart by tabs; allowed: commas"),
        ("concept,source,source\na,akita.png,\n", "column 'source': there 2 times, allowed: once"),
        ('concept,source\na,akita.png\nb,"akita.png\n', "row 3: cannot be read as a CSV table: unexpected end of data"),
        ("concept,source,\na,akita.png,x\n", "row 2, concept: there is a field under a column without a name"),
        (
            f"concept,source\n{'x' * 300},akita.png\n",
            "has 300 characters, allowed: at most 100, since files are named by it",
        ),
        ("concept,source\nNUL,akita.png\n", "row 2, concept: found 'NUL', the name of a device where Windows"),
        ("concept,source\n.a,akita.png\n", "row 2, concept: found '.a', allowed: letters"),
        ("concept,source\na\u200bb,akita.png\n", "row 2, concept: character 2 is U+200B, which nobody sees; remove it"),
        ("concept,source\na\0b,akita.png\n", "concepts.csv, line 2: not UTF-8 text; it looks like a binary file"),
        ("concept,source\na,a\x1b.png\n", "row 2, source: character 2 is U+001B, which nobody sees; remove it"),
        (f"concept,source\na,{'x' * 300}.png\n", "row 2, source: found 'xxx"),
        (f"concept,source,fps\na,gaming.mp4,{DIGITS}\n", "row 2, fps: found '99999"),
        ("concept,source,fps\na,gaming.mp4,nan\n", "row 2, fps: found 'nan', allowed: a finite number"),
        ("concept,source,fps\na,gaming.mp4,1e-999\n", "row 2, fps: found '1e-999', allowed: above 0"),
        ("concept,source,fps\na,gaming.mp4,2000\n", "row 2, fps: found '2000', allowed: at most 1000"),
        ("concept,source,fps\na,gaming.mp4,-0\n", "row 2, fps: found '-0', allowed: above 0"),
        ("concept,source,fps\na,gaming.mp4,٣\n", "row 2, fps: found '٣', allowed: a finite number"),
        (f"concept,source,start\na,gaming.mp4,{DIGITS}\n", "row 2, start: found '99999"),
        (f"concept,source,start\na,gaming.mp4,{DIGITS}s\n", "row 2, start: found '99999"),
        (
            f"concept,source,spatial\na,akita.png,{'x' * 20_001}\n",
            "row 2, spatial: 20,001 characters, allowed: at most 20",
        ),
        (
            "concept,source\n" + "a,akita.png\n" + "x" * 140_000,
            "row 3: cannot be read as a CSV table: field larger than",
        ),
    ],
)
def test_what_a_table_of_concepts_cannot_mean_is_refused_in_one_short_line(plain, concepts, says):
    (problem,) = problems(plain, concepts, COMPOSITION_TABLE)
    assert says in problem and problem.startswith("concepts.csv") and len(problem) < 220 and "\n" not in problem


@pytest.mark.parametrize(
    ("compositions", "says"),
    [
        ("composition,prompt,seeds,seeds\na,b,1 2 3,\n", "column 'seeds': there 2 times, allowed: once"),
        ("composition;prompt\nx;y\n", "row 1: the columns stand apart by semicolons; allowed: commas"),
        ("composition,prompt\nx,safe \u202egnp.exe\n", "row 2, prompt: character 6 is U+202E, which nobody sees"),
        (
            "composition,prompt,guidance_scale\nx,y,nan\n",
            "row 2, guidance_scale: found 'nan', allowed: a finite number",
        ),
        (f"composition,prompt,guidance_scale\nx,y,{DIGITS}\n", "row 2, guidance_scale: found '99999"),
        (
            'composition,prompt,guidance_scale\nx,y,"2,5"\n',
            "row 2, guidance_scale: found '2,5', allowed: a finite number",
        ),
        (f"composition,prompt,steps\nx,y,{DIGITS}\n", "row 2, steps: found '99999"),
        ("composition,prompt,steps\nx,y,10001\n", "row 2, steps: found '10001', allowed: at most 10000"),
        (f"composition,prompt,frames\nx,y,{2**63}\n", "row 2, frames: found '9223372036854775808', allowed: a whole"),
        (f"composition,prompt,seeds\nx,y,{DIGITS}\n", "row 2, seeds: found '99999"),
        ("composition,prompt,seeds\nx,y,٣\n", "row 2, seeds: found '٣', allowed: whole numbers"),
        (f"composition,prompt,negative_prompt\nx,y,{'z' * 20_001}\n", "row 2, negative_prompt: 20,001 characters"),
        (f"composition,prompt\nx,[a](akita*{DIGITS})\n", "row 2, prompt: the link '[a]' is scaled by '99999"),
        (f"composition,prompt\nx,{'z' * 20_001}\n", "row 2, prompt: 20,001 characters, allowed: at most 20,000"),
    ],
)
def test_what_a_table_of_compositions_cannot_mean_is_refused_in_one_short_line(plain, compositions, says):
    (problem,) = problems(plain, CONCEPT_TABLE, compositions)
    assert says in problem and problem.startswith("compositions.csv") and len(problem) < 250 and "\n" not in problem


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_a_table_in_another_encoding_is_one_problem_with_what_it_looks_like(plain, encoding):
    Path("concepts.csv").write_text("concept,source\nakita,akita.png\n# café,\n", encoding)
    Path("compositions.csv").write_text("composition,prompt\nx,[A dog](akita)\n", "utf-8")
    with pytest.raises(InputError) as error:
        load_tables("concepts.csv", "compositions.csv", plain)
    (problem,) = error.value.problems
    assert f"it looks like {'UTF-16' if '16' in encoding else 'Latin-1'}" in problem and "concepts.csv, line" in problem


def test_joiners_of_emoji_and_scripts_and_marks_of_direction_are_text(plain):
    prompt = "a family 👨\u200d👩\u200d👧 and می\u200cخواهم \u200fשלום"
    assert load(plain, CONCEPT_TABLE, f"composition,prompt\nx,{prompt}\n").compositions["x"].prompt == prompt


def test_equal_fields_are_the_same_whatever_way_they_are_written(plain):
    tables = [
        (
            "concept,source,start,fps\na,./gaming.mp4,007,15\nb,gaming.mp4,1.50s,\n",
            "composition,prompt,seeds,guidance_scale,steps,frames\nx,y,01 2,2,10,81\n",
        ),
        (
            "concept,source,start,fps\na,gaming.mp4,7,1.5e1\nb,.//gaming.mp4,01.5s,\n",
            "composition,prompt,seeds,guidance_scale,steps,frames\nx,y,1 2,2.0,10.0,081\n",
        ),
    ]
    one, other = (repr(load(plain, *each)) for each in tables)
    assert one == other and "15.0" in one and "1.5s" in one


def test_asking_for_a_name_that_there_is_not_says_which_there_are(plain):
    manifest = load(plain)
    with pytest.raises(InputError, match="no concept is called 'zoe'; there are: akita, gaming"):
        manifest.concepts["zoe"]
    with pytest.raises(InputError, match="no composition is called 'b'; there are: both"):
        manifest.compositions["b"]


FIELD = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "a", "A", "-a", "akita.png", "gaming.mp4", "1 2", "1.5s", "1e3", "nan", DIGITS, "loop", "none"]
    ),
    st.text('[]()#|\\*a0,;"\n\t', max_size=12),
)
COLUMNS = st.sampled_from(sorted({*CONCEPT_COLUMNS, *COMPOSITION_COLUMNS}))


def as_csv(rows: list[list[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


@st.composite
def tables(draw, columns: tuple[str, ...]) -> bytes:
    """A well-formed table of strange fields, or strange bytes."""
    header = draw(st.one_of(st.just(list(columns)), st.lists(st.one_of(COLUMNS, FIELD), max_size=5)))
    rows = draw(st.lists(st.lists(FIELD, min_size=len(header), max_size=len(header) + 1), max_size=3))
    text = as_csv([header, *rows])
    return draw(
        st.one_of(st.just(text.encode("utf-8", "replace")), st.binary(max_size=40), st.just(text.encode("utf-16")))
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(tables(CONCEPT_COLUMNS), tables(COMPOSITION_COLUMNS))
def test_any_tables_are_a_manifest_or_problems_that_name_their_file(plain, concepts, compositions):
    Path("concepts.csv").write_bytes(concepts)
    Path("compositions.csv").write_bytes(compositions)
    try:
        manifest = load_tables("concepts.csv", "compositions.csv", plain)
    except InputError as error:
        for problem in error.problems:
            assert problem.startswith(("concepts.csv", "compositions.csv")) and "\n" not in problem
        return
    assert all(ID.fullmatch(name) for name in [*manifest.concepts, *manifest.compositions])
