import itertools

import numpy as np
import pytest
from PIL import Image

from bico.media.video import write_image
from bico.report.sheets import SheetSettings, _font, _text, _wrapped, composition_sheet, contact_sheet, palette

MARGIN, GAP = 28, 6


def greys(levels, height=48, width=64) -> np.ndarray:
    """uint8 [F, H, W, 3]: frame i is grey of levels[i]."""
    return np.ones((len(levels), height, width, 3), np.uint8) * np.array(levels, np.uint8)[:, None, None, None]


def sheet_of(tmp_path, *arguments, **options) -> np.ndarray:
    """The pixels of a contact sheet: int [H, W, 3]."""
    contact_sheet(tmp_path / "sheet.jpg", *arguments, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.jpg"]
    with Image.open(tmp_path / "sheet.jpg") as image:
        assert image.format == "JPEG"
        return np.asarray(image).astype(int)


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_palette_colours_are_distinct_and_readable_on_white():
    colours = [palette(k) for k in range(8)]
    assert all(1.05 / (luminance(colour) + 0.05) >= 4.5 for colour in colours)
    rgb = [np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) for colour in colours]
    assert min(np.abs(one - other).sum() for one, other in itertools.combinations(rgb, 2)) > 60
    assert palette(8) == palette(0)


def test_a_row_shows_frames_evenly_spaced_in_time_from_the_first_to_the_last(tmp_path):
    sheet = sheet_of(tmp_path, [("all", greys(range(0, 243, 3)))], thumb_height=120)
    middle = sheet[-MARGIN - 60]
    shown = [middle[MARGIN + i * (160 + GAP) + 80].mean() for i in range(8)]
    assert shown == pytest.approx([3 * round(i * 80 / 7) for i in range(8)], abs=3)
    assert middle[MARGIN + 160 + GAP // 2].mean() > 230, "a gap lies between frames"


def test_fewer_frames_than_columns_are_each_shown_once(tmp_path):
    sheet = sheet_of(tmp_path, [("few", greys([10, 90, 170]))], thumb_height=120)
    middle = sheet[-MARGIN - 60]
    shown = [middle[MARGIN + i * (160 + GAP) + 80].mean() for i in range(4)]
    assert shown == pytest.approx([10, 90, 170, 255], abs=3)


def test_a_single_image_is_shown_once_and_larger(tmp_path):
    sheet = sheet_of(tmp_path, [("image", greys([100]))], thumb_height=120)
    area = np.abs(sheet - 100).max(2) < 12
    rows, columns = np.nonzero(area)
    big = area[-MARGIN - 180 : -MARGIN, MARGIN : MARGIN + 240]
    assert big.all() and columns.max() < MARGIN + 242 and rows.max() < len(sheet) - MARGIN + 2


def test_rows_come_in_order_each_under_a_label_inside_the_margins(tmp_path):
    rows = [("one", greys([40] * 8)), ("two", greys([160] * 8))]
    sheet = sheet_of(tmp_path, rows, thumb_height=120)
    column = sheet[:, MARGIN + 150].mean(1)
    dark, light = np.nonzero(np.abs(column - 40) < 8)[0], np.nonzero(np.abs(column - 160) < 8)[0]
    assert len(dark) == len(light) == 120 and dark.max() < light.min()
    for top in (dark.min(), light.min()):
        assert (sheet[top - 27 : top - 2, MARGIN : MARGIN + 60].min(2) < 160).any(), "a label stands above the row"
    for edge in (sheet[: MARGIN - 2], sheet[-MARGIN + 2 :], sheet[:, : MARGIN - 2], sheet[:, -MARGIN + 2 :]):
        assert edge.min() > 240


def test_each_run_of_the_caption_has_its_own_colour(tmp_path):
    runs = [("A ", None), ("corgi", palette(0)), (" plays the ", None), ("piano", palette(2)), (".", None)]
    sheet = sheet_of(tmp_path, [("dog", greys([200] * 8))], caption=runs)[:70]
    for colour, other in ((palette(0), palette(5)), (palette(2), palette(1)), ("#1f2328", palette(6))):
        seen = [np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (colour, other)]
        near = [(np.abs(sheet - c).max(2) < 24).sum() for c in seen]
        assert near[0] > 20 and near[1] < 5


def test_a_long_caption_is_wrapped_to_the_sheet_and_loses_nothing():
    runs = [("the quick brown fox, ", None), ("jumps", "#ff0000"), ("-over ", None)] * 20
    lines = _wrapped(runs, _font(22), 500)
    assert len(lines) > 5
    assert "".join(text for line in lines for text, _ in line) == "".join(text for text, _ in runs)
    for line in lines:
        assert _font(22).getlength("".join(text for text, _ in line).rstrip()) <= 500
    starts = {"".join(text for text, _ in line).split()[0] for line in lines}
    assert starts <= {"the", "quick", "brown", "fox,", "jumps-over"}, "a word is never broken, not even between runs"


def test_a_word_wider_than_a_line_is_broken_and_a_newline_breaks_a_line():
    lines = _wrapped([("x" * 200, None)], _font(22), 300)
    assert len(lines) > 5 and sum(len(text) for line in lines for text, _ in line) == 200
    assert _wrapped([("one\n\ntwo", "red")], _font(22), 300) == [[("one", "red")], [], [("two", "red")]]


@pytest.mark.parametrize("letter", ["é", "Ł", "ж", "ω", "—", "“"])
def test_letters_beyond_ascii_are_drawn_and_not_boxes(letter):
    box, drawn = (np.asarray(_text([(text, None)], 40, "black", 80)) for text in ("\uffff", letter))
    assert drawn.min() < 100 and not np.array_equal(drawn, box)


def test_tiny_frames_are_enlarged_with_their_pixels_as_squares(tmp_path):
    checker = (np.indices((16, 16)).sum(0) % 2 * 200).astype(np.uint8)[None, :, :, None].repeat(3, 3).repeat(2, 0)
    sheet = sheet_of(tmp_path, [("tiny", checker)], thumb_height=160)
    thumb = sheet[-MARGIN - 160 : -MARGIN, MARGIN : MARGIN + 160].mean(2)
    assert np.abs(thumb[5::10, 5::10] - checker[0, :, :, 0]).max() < 20


def test_a_sheet_needs_no_caption_and_no_rows(tmp_path):
    assert sheet_of(tmp_path, [], caption="only words").shape[1] == 900 + 2 * MARGIN


def test_the_twin_stands_below_the_result_and_says_what_it_is(tmp_path):
    settings = SheetSettings("a, seed 0", (("A star", "star"), ("glows.", None)), ("star",), 32, 48)
    for name, value in (("star", 40), ("result", 120), ("twin", 200)):
        write_image(tmp_path / f"{name}.png", np.full((32, 48, 3), value, np.uint8))
    files = ([tmp_path / "star.png"], tmp_path / "result.png")
    composition_sheet(tmp_path / "without.jpg", settings, *files)
    composition_sheet(tmp_path / "with.jpg", settings, *files, tmp_path / "twin.png")
    without, whole = (np.asarray(Image.open(tmp_path / f"{name}.jpg")) for name in ("without", "with"))
    assert len(whole) > len(without) and np.array_equal(whole[: len(without) - 30], without[:-30])
    column = whole[:, 100].mean(-1)
    rows = [np.flatnonzero(abs(column - value) < 3) for value in (40, 120, 200)]
    assert all(len(row) > 100 for row in rows) and rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()
