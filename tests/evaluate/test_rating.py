"""The study in which people rate results."""

import csv

import numpy as np
import pandas as pd
import pytest

from bico import InputError
from bico.evaluate.rating import (
    QUESTIONS,
    RatingSettings,
    agreement,
    read_ratings,
    write_rating_page,
    write_ratings,
)
from bico.media.video import write_image, write_video

HOSTILE = "<script>document.title = 'taken'</script>"
RESULTS = (("bico", "both", 0), ("unbound", "both", 0), ("bico", "still", 3))
SETTINGS = RatingSettings(
    RESULTS, {"both": ["red", "slide"], "still": ["red"]}, {"both": HOSTILE, "still": "A square."}
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The page's folder, beside the key."""
    folder = tmp_path_factory.mktemp("study")
    clip = np.zeros((9, 32, 48, 3), np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None] * 20
    write_image(folder / "red.png", clip[3])
    write_image(folder / "still.png", clip[5])
    for name in ("slide.mp4", "bound.mp4", "unbound.mp4"):
        write_video(folder / name, clip, 15)
    results = [folder / name for name in ("bound.mp4", "unbound.mp4", "still.png")]
    sources = {"red": folder / "red.png", "slide": folder / "slide.mp4"}
    write_rating_page(SETTINGS, results, sources, folder / "rating" / "index.html", folder / "key.csv")
    return folder


def rated(path, *rows: tuple) -> str:
    path.write_text("rater,item,question,rating\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return str(path)


def key(study) -> dict[tuple[str, str], str]:
    with open(study / "key.csv") as file:
        return {(row["method"], row["composition"]): row["item"] for row in csv.DictReader(file)}


def test_nothing_that_a_rater_is_given_tells_the_method(study):
    given = [path.name for path in (study / "rating").iterdir()]
    text = (study / "rating" / "index.html").read_text("utf-8")
    assert len(given) == 1 + len(RESULTS) + 2 and not any(
        word in " ".join([*given, text]) for word in ("unbound", "seed")
    )
    assert set(key(study)) == {(method, composition) for method, composition, _ in RESULTS}


def test_ratings_come_back_with_the_methods_that_raters_did_not_know(study, tmp_path):
    items = key(study)
    anna = rated(tmp_path / "anna.csv", ("anna", items["bico", "both"], "prompt_fidelity", 5))
    ben = rated(tmp_path / "ben.csv", ("ben", items["unbound", "both"], "prompt_fidelity", 2))
    found = read_ratings(study / "key.csv", [anna, ben])
    assert found[["rater", "method", "rating"]].to_numpy().tolist() == [["anna", "bico", 5], ["ben", "unbound", 2]]


def test_what_is_wrong_with_a_file_is_said_with_its_row_and_field(study, tmp_path):
    items = key(study)
    wrong = rated(
        tmp_path / "a.csv", ("a", items["bico", "both"], "beauty", 6), ("a", "stranger", "prompt_fidelity", 3)
    )
    with pytest.raises(InputError) as error:
        read_ratings(study / "key.csv", [wrong])
    assert error.value.problems == [
        f"{wrong}, row 2, question: found 'beauty', allowed: {', '.join(QUESTIONS)}",
        f"{wrong}, row 2, rating: found '6', allowed: 1, 2, 3, 4, 5",
        f"{wrong}, row 3, item: found 'stranger', which is not of this study",
    ]
    (tmp_path / "b.csv").write_text("name,stars\n")
    with pytest.raises(InputError, match=r"b\.csv: has no column item, question, rater, rating"):
        read_ratings(study / "key.csv", [tmp_path / "b.csv"])
    once = rated(tmp_path / "c.csv", ("c", items["bico", "both"], "prompt_fidelity", 3))
    with pytest.raises(InputError, match=r"rater 'c' rates item .* twice"):
        read_ratings(study / "key.csv", [once, once])


def ratings(*rows: tuple) -> pd.DataFrame:
    names = ["rater", "item", "rating"]
    return pd.DataFrame(rows, columns=names).assign(question="prompt_fidelity", method="bico", composition="x", seed=0)


def test_agreement_is_krippendorff_s_alpha_as_counted_by_hand():
    """Two raters and no gaps; on the ordinal scale a step counts as many ratings as it passes over, with half of both
    ends (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011)."""
    pairs = [(1, 1), (2, 3), (4, 4), (5, 4), (2, 2), (3, 3)]
    found = agreement(
        ratings(*[(who, k, pair[i]) for k, pair in enumerate(pairs) for i, who in enumerate("ab")]), "prompt_fidelity"
    )
    values = [value for pair in pairs for value in pair]
    count = {value: values.count(value) for value in range(1, 6)}

    def distance(c: int, k: int) -> float:
        low, high = min(c, k), max(c, k)
        return (sum(count[g] for g in range(low, high + 1)) - (count[low] + count[high]) / 2) ** 2

    observed = sum(2 * distance(a, b) for a, b in pairs) / len(values)
    expected = sum(distance(a, b) for a in values for b in values) / (len(values) * (len(values) - 1))
    assert found == pytest.approx(1 - observed / expected)


def test_one_rater_or_equal_ratings_have_no_agreement():
    assert agreement(ratings(("a", 1, 3), ("a", 2, 4)), "prompt_fidelity") is None
    assert agreement(ratings(("a", 1, 3), ("b", 1, 3)), "prompt_fidelity") is None


def test_the_table_has_a_row_for_each_method_and_the_agreement(tmp_path):
    both = [("a", 1, 5), ("b", 1, 4), ("a", 2, 3), ("b", 2, 3)]
    write_ratings(tmp_path / "table.md", ratings(*both))
    text = (tmp_path / "table.md").read_text()
    assert text.startswith("Mean rating, 1 to 5 [95 % interval] (items), by 2 raters.")
    assert "| bico |  | 3.75 [3, 4.5] (2) |  |" in text and "| Krippendorff's alpha |" in text


@pytest.mark.page
def test_two_people_rate_in_a_browser_and_their_files_make_the_table(study, tmp_path):
    from selenium import webdriver
    from selenium.webdriver.support.wait import WebDriverWait

    saved = []
    for name, choice in (("anna", 5), ("ben, the 2nd", 3)):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in ("--headless=new", "--no-sandbox"):
            options.add_argument(argument)
        downloads = tmp_path / str(choice)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
        browser.get((study / "rating" / "index.html").as_uri())
        assert browser.title == "Rate 3 results"
        browser.find_element("id", "rater").send_keys(name)
        for _ in RESULTS:
            shown = browser.find_elements("css selector", "section:not([hidden])")
            assert len(shown) == 1
            for radio in shown[0].find_elements("css selector", f"input[value='{choice}']"):
                radio.click()
            browser.execute_script("document.getElementById('next').click()")
        assert browser.find_element("id", "place").text == "3 of 3; 8 of 8 questions answered"
        browser.refresh()  # what was chosen is still there
        assert browser.find_element("id", "place").text == "1 of 3; 8 of 8 questions answered"
        browser.find_element("id", "save").click()
        path = downloads / "ratings.csv"
        WebDriverWait(browser, 10).until(lambda _, path=path: path.is_file())
        browser.quit()
        saved.append(path)
    found = read_ratings(study / "key.csv", saved)
    assert len(found) == 16 and set(found.rater) == {"anna", "ben, the 2nd"}
    write_ratings(tmp_path / "table.md", found)
    assert "| bico | 4 [4, 4] (2) |" in (tmp_path / "table.md").read_text()
