"""bico/prompts/table.py, and the two scripts where they need no model."""

import csv
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bico import InputError
from bico.prompts.answers import parse_phrases
from bico.prompts.table import read_prompts, write_prompts
from bico.prompts.writers.template import template_prompts
from bico.text.phrases import (
    Phrases,
    check_phrases,
    keeps_phrases,
    missing_phrases,
    read_phrases,
    required_phrases,
    write_phrases,
)
from tests import ROOT

SPATIAL = '{"spatial": ["red ball", "green grass"]}'
BOTH = '{"spatial": ["red ball"], "temporal": ["rolls to the left"]}'

word = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
phrase = st.lists(word, min_size=1, max_size=3).map(" ".join)
phrase_lists = st.lists(phrase, min_size=1, max_size=4).map(tuple)


# ----------------------------------------------------------------------------------------------------- the answer


def test_an_image_answer_gives_its_spatial_phrases():
    assert parse_phrases(SPATIAL, "image") == Phrases(("red ball", "green grass"))


def test_a_video_answer_gives_both_lists():
    assert parse_phrases(BOTH, "video") == Phrases(("red ball",), ("rolls to the left",))


@pytest.mark.parametrize("fence", ["```json\n{}\n```", "```\n{}\n```", "\n```json\n{}\n```\n", "``` JSON \n{}```"])
def test_a_code_fence_around_the_json_is_tolerated(fence):
    assert parse_phrases(fence.replace("{}", SPATIAL), "image").spatial == ("red ball", "green grass")


def test_phrases_are_stripped_and_repetitions_dropped_in_order():
    text = json.dumps({"spatial": [" red ball ", "Grass", "Red  ball", "grass", "red-ball", "ball"]})
    assert parse_phrases(text, "image").spatial == ("red ball", "Grass", "ball")


NONE_MOVES = '{"spatial": ["red ball"], "temporal": []}'
USABLE = {
    "words before the JSON": (f"Sure! Here it is: {SPATIAL}", "image"),
    "words after it": (f"{SPATIAL}\n\nThese are all that I can see.", "image"),
    "words before and after a fence": (f"Sure!\n```json\n{SPATIAL}\n```\nI hope this helps {{with}} it.", "image"),
    "words after a fence": (f"```json\n{SPATIAL}\n```\nDone.", "image"),
    "said twice": (f"{SPATIAL}\n{SPATIAL}", "image"),
    "said twice, in other words": (
        f"{SPATIAL}\nthat is\n```json\n{json.dumps(json.loads(SPATIAL), indent=4)}```",
        "image",
    ),
    "a key more": ('{"spatial": ["red ball", "green grass"], "style": "photo"}', "image"),
    "an image's motions": ('{"spatial": ["red ball", "green grass"], "temporal": ["rolls"]}', "image"),
    "in a list": (f"[{SPATIAL}]", "image"),
    "inside another object": (f'{{"concepts": {SPATIAL}}}', "image"),
    "single quotes": ("{'spatial': ['red ball', 'green grass']}", "image"),
    "a comma at the end": ('```json\n{"spatial": ["red ball", "green grass",],}\n```', "image"),
    "bare keys": ('{spatial: ["red ball", "green grass"]}', "image"),
    "a comment": ('{"spatial": ["red ball", // in the middle\n"green grass"]}', "image"),
    "typographic quotes": ("{“spatial”: [“red ball”, “green grass”]}", "image"),
    "no comma between": ('{"spatial": ["red ball" "green grass"]}', "image"),
    "two lines": ('{"spatial": ["red\\nball", "green\\u2028grass"]}', "image"),
    "control characters": ('{"spatial": ["\\u0000red \\u001b ball", "green grass"]}', "image"),
    "half a character": ('{"spatial": ["\\ud83d red ball", "green grass"]}', "image"),
    "braces in words": (f"{{spatial}} of {{the}} picture: {SPATIAL}", "image"),
}


@pytest.mark.parametrize("case", USABLE)
def test_what_is_usable_of_an_answer_is_taken_whatever_stands_around_it(case):
    assert parse_phrases(*USABLE[case]) == Phrases(("red ball", "green grass"))


def test_a_clip_in_which_nothing_moves_has_no_temporal_phrases_and_prompts_with_its_spatial_ones(tmp_path):
    phrases = parse_phrases(NONE_MOVES, "video")
    assert phrases == Phrases(("red ball",))
    write_phrases(tmp_path / "x.json", phrases, "model")
    assert read_phrases(tmp_path / "x.json") == phrases and required_phrases(phrases, "video") == ("red ball",)
    prompts = template_prompts(phrases, "video", 60)
    assert len(set(prompts)) == 60 and all(keeps_phrases(prompt, ["red ball"]) for prompt in prompts)
    assert not any("motion" in prompt or "happens" in prompt for prompt in prompts)


def test_half_a_character_in_a_concept_file_is_refused_by_its_name(tmp_path):
    (tmp_path / "boat.json").write_text('{"spatial": ["\\ud83d boat"]}')
    with pytest.raises(InputError, match=r"boat\.json: image concepts: '\\ud83d boat' is not one line"):
        read_phrases(tmp_path / "boat.json")


BAD = {
    "no JSON": ("I see a red ball.", "image", "not a JSON object alone"),
    "an empty answer": ("", "image", "not a JSON object alone"),
    "cut short": (SPATIAL[:-4], "image", "not clear where its phrases end"),
    "cut short in a fence": ('```json\n{"spatial": ["red ball", "green gr', "image", "not clear where its phrases end"),
    "quotes in single quotes": ("{'spatial': ['a boy's hat']}", "image", "not clear where its phrases end"),
    "a repeated key": ('{"spatial": ["a"], "spatial": ["b"]}', "image", "repeated"),
    "two answers": ('{"spatial": ["a"]} or {"spatial": ["b"]}', "image", "2 JSON objects with different concepts"),
    "nested too deep": ("[" * 4_000, "image", "not a JSON object alone"),
    "too long": ("ha " * 10_000, "image", "an answer of 30000 characters; allowed: at most 20000"),
    "too long to repair": ("ha " * 4_000, "image", "not a JSON object alone"),
    "a list": ('["red ball"]', "image", "is not of type 'object'"),
    "no spatial": ('{"objects": ["red ball"]}', "image", "'spatial' is a required property"),
    "no temporal for a video": (SPATIAL, "video", "'temporal' is a required property"),
    "a text for a list": ('{"spatial": "red ball"}', "image", "is not of type 'array'"),
    "an empty list": ('{"spatial": []}', "image", "spatial: [] "),
    "nothing at all in a clip": ('{"spatial": [], "temporal": []}', "video", "spatial: [] "),
    "a number for a phrase": ('{"spatial": [3]}', "image", "$.spatial[0]: 3 is not of type 'string'"),
    "an empty phrase": ('{"spatial": [""]}', "image", "$.spatial[0]: "),
    "a blank phrase": ('{"spatial": ["  "]}', "image", "$.spatial[0]: "),
    "a phrase of punctuation": (
        '{"spatial": ["..."]}',
        "image",
        "is not one line with a word in it",
    ),
    "a very long phrase": (f'{{"spatial": ["{"ball " * 50}"]}}', "image", "is not one line with a word in it"),
    "very many phrases": (
        json.dumps({"spatial": [f"b{i}" for i in range(1_000)]}),
        "image",
        "1000 phrases; allowed: at",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_refused_with_its_reason_and_the_raw_text(case):
    text, kind, reason = BAD[case]
    with pytest.raises(InputError) as problem:
        parse_phrases(text, kind)
    *reasons, raw = problem.value.problems
    assert reason in "\n".join(reasons)
    assert raw == f"the raw text: {text}" or (len(text) > 2_000 and raw.startswith(f"the raw text: {text[:2_000]}..."))


pieces = st.sampled_from(
    ['{"spatial": ["', '"]}', '", "', "{", "}", "[", "]", '"', "'", "```json\n", "//", "\\", "\\ud83d", ",", ":"]
)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(st.characters()), st.lists(pieces | st.text(st.characters(), max_size=5)).map("".join)),
    st.sampled_from(["image", "video"]),
)
def test_any_answer_gives_phrases_or_is_refused(text, kind):
    try:
        phrases = parse_phrases(text, kind)
    except InputError as problem:
        str(problem).encode()
        return
    assert phrases.spatial and check_phrases({"spatial": list(phrases.spatial)}, "image").spatial == phrases.spatial
    json.dumps(phrases.all, ensure_ascii=False).encode()


@settings(max_examples=60, deadline=None)
@given(
    phrase_lists,
    phrase_lists,
    st.sampled_from(["plain", "single quotes", "trailing commas", "bare keys"]),
    st.booleans(),
)
def test_an_answer_that_is_mended_has_just_the_phrases_that_were_meant(spatial, temporal, fault, fenced):
    meant = {"spatial": list(spatial), "temporal": list(temporal)}
    text = str(meant) if fault == "single quotes" else json.dumps(meant, ensure_ascii=False)
    text = text.replace("]", ",]") if fault == "trailing commas" else text
    text = text.replace('"spatial"', "spatial").replace('"temporal"', "temporal") if fault == "bare keys" else text
    found = parse_phrases(f"Sure:\n```json\n{text}\n```\nDone." if fenced else text, "video")
    assert found == check_phrases(meant, "video")


BEGINNINGS = ('{"a":', '{"spatial":[', "{'a'", '"a', '["a",', "```json\n{", "[", "{", "\\", "{{}", '{"a":{},')


@pytest.mark.parametrize("part", BEGINNINGS)
@pytest.mark.parametrize("length", [3_900, 19_900])
def test_an_answer_of_nothing_but_beginnings_is_refused_however_long(part, length):
    with pytest.raises(InputError):
        parse_phrases(part * (length // len(part)), "image")


def test_all_that_is_wrong_is_listed():
    with pytest.raises(InputError) as problem:
        check_phrases({"spatial": [1, ""], "extra": 0}, "video")
    assert len(problem.value.problems) == 4


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="kind 'audio' is unknown; allowed: image, video"):
        check_phrases({}, "audio")


# ----------------------------------------------------------------------------------------------- the concept file


@pytest.mark.parametrize("phrases", [Phrases(("a ball",)), Phrases(("une balle d'été",), ("回る", "spins"))])
def test_a_concept_file_gives_back_what_was_written(tmp_path, phrases):
    write_phrases(tmp_path / "x.json", phrases, "manifest")
    assert read_phrases(tmp_path / "x.json") == phrases


def test_a_concept_file_holds_its_source_and_no_temporal_for_an_image(tmp_path):
    write_phrases(tmp_path / "x.json", Phrases(("a ball",)), "Qwen2.5-VL-7B-Instruct")
    assert json.loads((tmp_path / "x.json").read_text()) == {"spatial": ["a ball"], "source": "Qwen2.5-VL-7B-Instruct"}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"source": "manifest"}', '{"spatial": [1]}', '{"spatial": ["a"], "x": 1}']
)
def test_a_bad_concept_file_is_refused_by_its_name(tmp_path, text):
    (tmp_path / "boat.json").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=r"boat\.json: "):
        read_phrases(tmp_path / "boat.json")


def test_a_missing_concept_file_is_refused_by_its_name(tmp_path):
    with pytest.raises(InputError, match=r"boat\.json: cannot be read"):
        read_phrases(tmp_path / "boat.json")


# ------------------------------------------------------------------------------------------- are the words there?


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("A Red  BALL on grass.", "red ball"),
        ("A red, ball", "red ball"),
        ("A long-haired dog's tail", "long haired dog’s tail"),
        ("a red\nball", "red ball"),
        ("Un CAFÉ à Paris", "cafe\u0301"),  # composed and decomposed
        ("eine STRASSE", "straße"),
        ("ﬁlm grain", "film grain"),
        ("一只红色的球在草地上", "红色的球"),
        ("小さな 赤い球。", "赤い球"),
        ("लाल गेंद", "लाल"),
        ("a “red ball”", "red ball"),
        ("red red ball", "red ball"),
        ("in C++ style", "C++"),
    ],
)
def test_a_phrase_is_kept_whatever_its_case_spacing_and_punctuation(prompt, phrase):
    assert keeps_phrases(prompt, [phrase])


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("A ball that is red", "red ball"),
        ("red big ball", "red ball"),
        ("redball", "red ball"),
        ("a dogma", "dog"),
        ("dogs", "dog"),
        ("the end is red", "red ball"),
        ("ball red", "red ball"),
        ("", "red ball"),
        ("an resume", "résumé"),
        ("红的色球", "红色的球"),
        ("लाली", "लाल"),
    ],
)
def test_a_phrase_is_missing_when_its_words_are_not_a_run_of_whole_words(prompt, phrase):
    assert missing_phrases(prompt, [phrase]) == [phrase]


def test_the_missing_phrases_come_in_their_own_order():
    assert missing_phrases("b only", ["c", "b", "a"]) == ["c", "a"]


@given(phrase, st.text(max_size=20), st.text(max_size=20))
def test_a_phrase_put_into_any_text_is_kept(phrase, before, after):
    assert keeps_phrases(f"{before} {phrase} {after}", [phrase])


# -------------------------------------------------------------------------------------------- the template writer


@settings(max_examples=40, deadline=None)
@given(phrase_lists, phrase_lists, st.sampled_from(["image", "video"]), st.integers(0, 2**31))
def test_template_prompts_are_distinct_keep_every_phrase_verbatim_and_are_one_sentence(spatial, temporal, kind, seed):
    phrases = Phrases(spatial, temporal)
    prompts = template_prompts(phrases, kind, 60, seed)
    required = required_phrases(phrases, kind)
    assert len(set(prompts)) == len(prompts) == 60
    assert all(keeps_phrases(prompt, required) for prompt in prompts)
    assert all(phrase in prompt for prompt in prompts for phrase in required)
    assert all(len(prompt.splitlines()) == 1 and prompt[0].isupper() and prompt.endswith(".") for prompt in prompts)


@settings(max_examples=25, deadline=None)
@given(phrase_lists, phrase_lists, st.sampled_from(["image", "video"]), st.integers(0, 70), st.integers(0, 70))
def test_asking_for_more_template_prompts_never_changes_the_first(spatial, temporal, kind, few, more):
    few, more = sorted((few, more))
    phrases = Phrases(spatial, temporal)
    assert template_prompts(phrases, kind, more)[:few] == template_prompts(phrases, kind, few)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_one_phrase_is_enough_for_a_hundred_distinct_prompts(kind):
    assert len(set(template_prompts(Phrases(("x",), ("y",)), kind, 100))) == 100


def test_more_prompts_than_sentences_there_are_still_come():
    prompts = template_prompts(Phrases(("x",)), "image", 400)
    assert len(prompts) == 400 and len(set(prompts)) > 100


def test_braces_in_a_phrase_stay_as_they_are():
    assert all("{0} {spatial}" in prompt for prompt in template_prompts(Phrases(("{0} {spatial}",)), "image", 5))


def test_the_seed_changes_the_template_prompts():
    phrases = Phrases(("red ball", "grass"), ("rolls",))
    assert template_prompts(phrases, "video", 20, 0) != template_prompts(phrases, "video", 20, 1000)


def test_the_template_varies_the_order_of_the_phrases():
    prompts = template_prompts(Phrases(("ball", "grass")), "image", 60)
    assert 10 < sum(prompt.index("ball") < prompt.index("grass") for prompt in prompts) < 50


def test_an_image_s_prompts_leave_out_temporal_phrases():
    assert not any("rolls" in prompt for prompt in template_prompts(Phrases(("ball",), ("rolls",)), "image", 60))


@pytest.mark.parametrize("kind", ["image", "video"])
def test_prompts_without_spatial_phrases_are_refused(kind):
    with pytest.raises(InputError, match=f"{kind} prompts need phrases"):
        template_prompts(Phrases((), ("rolls",)), kind, 1)


# ------------------------------------------------------------------------------------------------- the prompt CSV


@given(rows=st.lists(st.tuples(phrase, phrase.map(lambda text: f'a "{text}", ünd\tmore')), min_size=1, max_size=5))
def test_a_prompt_csv_gives_back_what_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    write_prompts(path, rows)
    assert read_prompts(path) == rows
    assert path.read_text("utf-8").startswith("video,prompt\n")


def test_a_csv_saved_by_a_spreadsheet_is_read(tmp_path):
    (tmp_path / "x.csv").write_bytes('\ufeffvideo,prompt\r\na.mp4,"A ball, red"\r\n\r\n'.encode())
    assert read_prompts(tmp_path / "x.csv") == [("a.mp4", "A ball, red")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"x\.csv, row 1: the header is ''"),
        ("prompt,video\na,b\n", r"row 1: the header is 'prompt,video'; it must be 'video,prompt'"),
        ("video,prompt,seed\na,b,1\n", "row 1: the header is"),
        ("video,prompt\n", r"x\.csv: no prompts under the header"),
        ("video,prompt\na.mp4,A ball\na.mp4,\n", r"x\.csv, row 3: 'prompt' is empty"),
        ("video,prompt\na.mp4, \n", "row 2: 'prompt' is empty"),
        ("video,prompt\n,A ball\n", "row 2: 'video' is empty"),
        ("video,prompt\na.mp4\n", "row 2: 1 fields; there must be 2"),
        ("video,prompt\na.mp4,A ball, red\n", "row 2: 3 fields; there must be 2"),
        ('video,prompt\na.mp4,"A ball\n', "cannot be read as CSV"),
    ],
)
def test_a_bad_prompt_csv_is_refused_with_file_and_row(tmp_path, text, reason):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(InputError, match=reason):
        read_prompts(tmp_path / "x.csv")


def test_every_bad_row_of_a_prompt_csv_is_listed(tmp_path):
    (tmp_path / "x.csv").write_text("video,prompt\na,\nb,fine\n,c\n")
    with pytest.raises(InputError) as problem:
        read_prompts(tmp_path / "x.csv")
    assert len(problem.value.problems) == 2


def test_a_write_that_fails_leaves_no_csv(tmp_path):
    with pytest.raises(csv.Error):
        write_prompts(tmp_path / "x.csv", [("a", "b"), None])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- the scripts, model-free


def script(name: str, *arguments: object) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_concepts_py_writes_the_manifest_s_phrases_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    settings = {"spatial": [" red ball"], "temporal": ["rolls"]}
    command = [sys.executable, str(ROOT / "scripts" / "concepts.py"), "--clip", "x.mp4"]
    command += ["--output", str(tmp_path / "x.json"), "--settings", json.dumps(settings)]
    paths = f"{tmp_path}{os.pathsep}{ROOT}"
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True)
    found = json.loads((tmp_path / "x.json").read_text())
    assert found == {"spatial": ["red ball"], "temporal": ["rolls"], "source": "manifest"}


def test_concepts_py_refuses_a_video_without_temporal_phrases(tmp_path):
    done = script("concepts.py", "--clip", "x.mp4", "--output", tmp_path / "x.json",
                  "--settings", '{"spatial": ["ball"]}')  # fmt: skip
    assert done.returncode == 1 and "'temporal' is a required property" in done.stderr
    assert not (tmp_path / "x.json").exists()


def test_concepts_py_refuses_to_name_concepts_without_a_model(tmp_path):
    done = script("concepts.py", "--clip", "x.mp4", "--output", tmp_path / "x.json")
    assert done.returncode == 1 and "there is no model that could name them" in done.stderr


@pytest.fixture
def written(tmp_path):
    """Runs prompts.py with the template writer on a video of three frames, or their zip; gives rows and report."""
    from bico.media.video import write_frames_zip, write_video

    write_video(tmp_path / "roll.mp4", np.zeros((3, 64, 64, 3), np.uint8), 8)
    write_frames_zip(tmp_path / "roll.mp4", tmp_path / "roll.frames.zip", "roll")
    write_phrases(tmp_path / "roll.json", Phrases(("red ball",), ("rolls",)), "manifest")

    def run(media="roll.mp4", **settings):
        done = script("prompts.py", "--media", tmp_path / media, "--concept", "roll", "--vlm",
                      "--phrases", tmp_path / "roll.json", "--output", tmp_path / "x.csv",
                      "--report", tmp_path / "x.json", "--settings",
                      json.dumps({"writer": "template"} | settings))  # fmt: skip
        assert done.returncode == 0, done.stderr
        return read_prompts(tmp_path / "x.csv"), json.loads((tmp_path / "x.json").read_text())

    return run


def test_prompts_py_writes_sixty_clip_prompts_with_all_phrases(written):
    rows, report = written()
    assert [video for video, _ in rows] == ["roll.mp4"] * 60
    assert all(keeps_phrases(prompt, ["red ball", "rolls"]) for _, prompt in rows)
    assert report["count"] == report["kept"] == 60 and report["share_kept"] == 1.0


def test_prompts_py_writes_one_spatial_prompt_a_frame(written):
    rows, report = written("roll.frames.zip", seed=5)
    assert [video for video, _ in rows] == ["roll/00000.jpg", "roll/00001.jpg", "roll/00002.jpg"]
    assert [prompt for _, prompt in rows] == template_prompts(Phrases(("red ball",)), "image", 3, seed=5)
    assert report["count"] == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"cuont": 3}', "settings: 'cuont' is unknown; did you mean 'count'?"),
        ('{"writer": "poet"}', "writer: found 'poet', allowed: vlm, template"),
        ("{}", "writer: 'vlm' asks a model, and none is given"),
    ],
)
def test_prompts_py_refuses_settings_it_cannot_follow(settings, message):
    done = script("prompts.py", "--media", "x.png", "--concept", "x", "--phrases", "x.json",
                  "--output", "x.csv", "--report", "y.json", "--settings", settings)  # fmt: skip
    assert done.returncode == 1 and message in done.stderr


def test_prompts_py_refuses_a_zip_without_frames(tmp_path):
    zipfile.ZipFile(tmp_path / "x.zip", "w").close()
    write_phrases(tmp_path / "x.json", Phrases(("red ball",)), "manifest")
    done = script("prompts.py", "--media", tmp_path / "x.zip", "--concept", "x", "--phrases", tmp_path / "x.json",
                  "--output", tmp_path / "x.csv", "--report", tmp_path / "y.json",
                  "--settings", '{"writer": "template"}')  # fmt: skip
    assert done.returncode == 1 and "x.zip: holds no frames" in done.stderr
    assert not (tmp_path / "x.csv").exists()
