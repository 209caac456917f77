"""The results page in a browser: `make test-page`."""

import copy
import time

import numpy as np
import pytest

from bico.media.video import write_image, write_video
from bico.report.page import write_page

pytestmark = pytest.mark.page
HOSTILE = '<script>document.title = "taken"</script><img src=x onerror="document.title=1">"\'&'
FRAMES, FPS = 30, 15


def composition(name: str, pieces: list, sources: list, seeds: tuple[int, ...] = (0,), twins: bool = True) -> dict:
    return {
        "id": name,
        "pieces": pieces,
        "sources": sources,
        "results": [
            [seed, f"{name}/seed{seed}.mp4", f"twins/{name}/seed{seed}.mp4" if twins else None] for seed in seeds
        ],
        "settings": {"frames": FRAMES, "steps": 2},
        "targets": [f"bico/compositions/{name}/seed{seed}.mp4" for seed in seeds],
        "strength": None,
        "plots": [],
    }


CONTENT = {
    "title": "tiny, method bico",
    "concepts": 2,
    "depth": 2,
    "compositions": [
        composition(
            "one", [["A dog", "akita", 1.0], ["runs", "clip", 0.5]], [["akita", "a.png"], ["clip", "c.mp4"]], (0, 7)
        ),
        composition("two", [["A cat sleeps.", None, 1.0]], [], twins=False),
        composition("three", [[HOSTILE, "clip", 1.0]], [["clip", "c.mp4"]]),
    ],
    "refused": [["four", "it is a still"]],
}
METRICS = """method,composition,seed,metric,concept,value,reason,meaning
{method},one,0,dino_i,,0.71234,,
{method},one,0,motion,akita,,'akita' is an image,
{method},one,7,dino_i,,0.5,,
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "all" / "my results" / "bico"
    clip = np.zeros((FRAMES, 64, 96, 3), np.uint8) + np.arange(FRAMES, dtype=np.uint8)[:, None, None, None] * 8
    write_image(folder / "a.png", clip[9])
    for path in (
        "c.mp4",
        *(path for c in CONTENT["compositions"] for _, *pair in c["results"] for path in pair if path),
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_video(folder / path, clip, FPS)
    for method in ("bico", "unbound"):
        (folder / f"{method}.csv").write_text(METRICS.format(method=method))
    tables = [folder / "bico.csv", folder / "unbound.csv"]
    write_page(folder / "index.html", CONTENT, {"akita": ["a dog"]}, tables)
    return folder / "index.html"


@pytest.fixture(scope="module")
def chromium():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1200,900", "--force-color-profile=srgb"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    chromium.get("about:blank")
    chromium.get(page.as_uri())
    yield chromium
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []


def visible(browser) -> list[str]:
    script = "return [...document.querySelectorAll('main > section:not([hidden])')].map((s) => s.id)"
    return [name for name in browser.execute_script(script) if name in ("one", "two", "three")]


def enter(browser, name: str, value) -> None:
    browser.execute_script(
        "const field = document.getElementById('filter').elements[arguments[0]];"
        "if (field.type === 'checkbox') field.checked = arguments[1]; else field.value = arguments[1];"
        "field.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def press(browser, key: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(key).perform()


def until(browser, script: str, *arguments, seconds: float = 15):
    end = time.monotonic() + seconds
    while not (value := browser.execute_script(script, *arguments)):
        assert time.monotonic() < end, script
        time.sleep(0.05)
    return value


def test_filters_show_what_they_say_and_are_kept_in_the_address(browser):
    assert visible(browser) == ["one", "two", "three"]
    enter(browser, "concept", "akita")
    assert visible(browser) == ["one"]
    enter(browser, "concept", "")
    enter(browser, "text", "cat sleeps")
    assert visible(browser) == ["two"]
    assert browser.find_element("id", "count").text == "1 of 3 shown"
    enter(browser, "text", "")
    enter(browser, "seed", "7")
    assert visible(browser) == ["one"]
    browser.refresh()
    assert visible(browser) == ["one"]
    enter(browser, "seed", "")
    enter(browser, "twins", False)
    hidden = "return [...document.querySelectorAll('.twin')].every((twin) => twin.hidden)"
    assert browser.execute_script(hidden)


def test_sources_twin_and_result_play_in_step(browser):
    browser.execute_script("document.querySelector('#one button.play').click()")
    clips = "[...document.querySelectorAll('#one video')]"
    until(browser, f"return {clips}.every((clip) => !clip.paused && clip.currentTime > 0.3)")
    times = browser.execute_script(f"return {clips}.map((clip) => clip.currentTime)")
    assert len(times) == 5 and max(times) - min(times) < 0.2
    browser.execute_script(f"{clips}[2].currentTime = 1.5")
    near = f"const t = {clips}.map((clip) => clip.currentTime); return Math.max(...t) - Math.min(...t) < 0.2"
    until(browser, near)


def test_two_results_are_compared_side_by_side_and_escape_closes(browser):
    for box in browser.find_elements("css selector", "#one .choose")[:2]:
        browser.execute_script("arguments[0].click()", box)
    dialog = browser.find_element("id", "compare")
    assert dialog.get_attribute("open") is not None
    assert [caption.text for caption in dialog.find_elements("css selector", "figcaption")] == [
        "one, seed 0",
        "one, seed 7",
    ]
    until(browser, "return [...document.querySelectorAll('#compare video')].every((clip) => !clip.paused)")
    press(browser, "\ue00c")
    assert dialog.get_attribute("open") is None
    assert not browser.execute_script("return document.querySelector('.choose:checked')")


def test_the_keyboard_goes_through_the_compositions_and_plays_them(browser):
    focused = "return document.activeElement.id"
    press(browser, "j")
    press(browser, "j")
    assert browser.execute_script(focused) == "two"
    press(browser, "k")
    assert browser.execute_script(focused) == "one"
    press(browser, "p")
    until(browser, "return !document.querySelector('#one video').paused")
    press(browser, "/")
    assert browser.execute_script("return document.activeElement.name") == "text"
    press(browser, "j")
    assert browser.execute_script("return document.activeElement.value") == "j"


def test_a_prompt_full_of_markup_is_text(browser):
    assert browser.title == "BiCo: 3 compositions"
    assert browser.find_element("css selector", "#three .prompt b").text == HOSTILE
    assert browser.find_elements("css selector", "#three script") == []


def test_the_command_that_makes_a_result_again_names_the_folder_that_the_page_lies_in(browser):
    browser.execute_script("document.querySelectorAll('#two details').forEach((each) => { each.open = true; })")
    command = browser.find_element("css selector", "#two code").text
    assert command == 'snakemake --cores 1 "all/my results/bico/compositions/two/seed0.mp4"'


def test_metrics_stand_beside_their_twins_and_say_why_there_is_none(browser):
    cells = "return [...document.querySelectorAll('#one tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    assert browser.execute_script(cells) == [
        ["dino_i", "0.712", "0.712", "0.5", "0.5"],
        ["motion: akita", "–", "–", "–", "–"],
    ]
    assert (
        browser.execute_script("return document.querySelector('#one tr:nth-child(2) td').title")
        == "'akita' is an image"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_no_serious_fault_for_who_cannot_see_it_or_has_a_small_screen(browser, page, scheme, width):
    from axe_core_python.selenium import Axe

    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    faults = [each for each in Axe().run(browser)["violations"] if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"][:120] for node in each["nodes"]][:3]) for each in faults] == []
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_of_a_thousand_videos_only_those_near_the_view_are_fetched(chromium, page):
    content = copy.deepcopy(CONTENT)
    content["compositions"] = [{**CONTENT["compositions"][0], "id": f"c{k}"} for k in range(500)]
    write_page(page.with_name("many.html"), content)
    chromium.get(page.with_name("many.html").as_uri())
    until(chromium, "return document.querySelectorAll('main video[src]').length > 0")
    assert chromium.execute_script("return document.querySelectorAll('main video').length") == 2500
    assert chromium.execute_script("return document.querySelectorAll('main video[src]').length") < 60
    enter(chromium, "text", "c499")
    assert chromium.find_element("id", "count").text == "1 of 500 shown"
    until(chromium, "return document.querySelector('#c499 video').src")
