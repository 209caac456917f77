"""A results page as one file."""

import re
import zipfile

import pytest

from bico import InputError
from bico.report.archive import zip_page

PAGE = """<a href="#top">up</a> <a href="https://arxiv.org/abs/2512.09824">paper</a>
<video data-src="compositions/a&amp;b/seed0.mp4"></video> <img src="../concepts/red/red.png">
<a href="compositions/a&amp;b/seed0.mp4.sheet.jpg">sheet</a> <img src="../concepts/red/red.png">"""
FILES = ("bico/compositions/a&b/seed0.mp4", "bico/compositions/a&b/seed0.mp4.sheet.jpg", "concepts/red/red.png")


@pytest.fixture
def results(tmp_path):
    for name in FILES:
        path = tmp_path / "my results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "my results" / "bico" / "index.html").write_text(PAGE)
    (tmp_path / "my results" / "bico" / "unshown.txt").write_text("not on the page")
    return tmp_path / "my results"


def test_what_is_unpacked_elsewhere_shows_what_the_page_shows(results, tmp_path):
    assert zip_page(results / "bico" / "index.html", tmp_path / "page.zip") == 4
    with zipfile.ZipFile(tmp_path / "page.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
    unpacked = tmp_path / "elsewhere"
    assert {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*.*")} == {"bico/index.html", *FILES}
    page = unpacked / "bico" / "index.html"
    for link in re.findall(r'src="([^"]+)"', page.read_text()):
        path = page.parent / link.replace("&amp;", "&")
        assert path.read_bytes() == path.resolve().relative_to(unpacked).as_posix().encode()


def test_a_file_that_is_missing_is_named_and_nothing_is_written(results, tmp_path):
    (results / FILES[2]).unlink()
    with pytest.raises(InputError, match=r"red\.png: the page .* shows it, and it is not there"):
        zip_page(results / "bico" / "index.html", tmp_path / "page.zip")
    with pytest.raises(InputError, match=r"none\.html: no such page"):
        zip_page(results / "none.html", tmp_path / "page.zip")
    assert not (tmp_path / "page.zip").exists()
