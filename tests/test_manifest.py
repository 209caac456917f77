import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bico import InputError
from bico.manifest import load_manifest, media_problems, model_problems
from bico.settings import load_model
from bico.video import write_video
from tests.conftest import ROOT

GOOD_CONCEPTS = "concept,source\nakita,akita.png\ngaming,gaming.mp4\n"
GOOD_COMPOSITIONS = "composition,prompt\nboth,[A dog](akita) [plays](gaming).\n"


@pytest.fixture
def model(embedded):
    found = load_model(ROOT / "config" / "models" / "embedded.yaml", "weights")
    components = {
        name: dataclasses.replace(component, folder=embedded / name) for name, component in found.components.items()
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
    return load_manifest("concepts.csv", "compositions.csv", model)


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
        load_manifest("concepts.csv", "compositions.csv", model, thorough=True)
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
