"""Contact sheets: what a run was asked for and what it made, on one picture."""

import importlib.util
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bico.media.video import cover_crop, probe, read_frames
from bico.runtime.files import atomic

Span = tuple[str, str | None]  # a stretch of text and its colour; None: the text's own

_MARGIN, _GAP = 28, 6  # pixels: around the sheet and between rows, between thumbs
_CAPTION_SIZE, _LABEL_SIZE = 22, 17
_INK, _FAINT = "#1f2328", "#59636e"
COLUMNS = 8  # frames of a strip
_NARROWEST = 900  # pixels: a caption above one small image is not squeezed into its width

# Every colour has at least 4.5:1 contrast on white (WCAG AA); the first eight differ for the colour-blind as well.
_PALETTE = (
    "#0b62c4",  # blue
    "#b3440b",  # orange
    "#1a7f37",  # green
    "#a3208f",  # magenta
    "#8a6100",  # ochre
    "#087e8b",  # teal
    "#c2152f",  # red
    "#6639ba",  # violet
)


def palette(k: int) -> str:
    """The colour of concept k (from 0) as "#rrggbb": distinct from its neighbours, readable on white; eight, then
    again from the first."""
    return _PALETTE[k % len(_PALETTE)]


def contact_sheet(
    path: str | Path,
    rows: Sequence[tuple[str, np.ndarray]],
    caption: Sequence[Span] | str | None = None,
    columns: int = COLUMNS,
    thumb_height: int = 160,
    quality: int = 92,
) -> None:
    """Writes a JPEG of labelled rows of frames, under a caption.

    rows: (label, frames uint8 [F, H, W, 3]); of each, `columns` frames evenly spaced in time, the first and the last
    among them (all, where there are fewer); a single image is shown once, half as large again.
    caption: text, or spans of text each with its colour ("#rrggbb" or a name; None: the ink), wrapped to the sheet's
    width; "\\n" breaks a line. Letters that DejaVu Sans lacks (Chinese, for one) show as boxes.
    thumb_height: pixels. quality: of the JPEG.
    """
    spans = [(caption, None)] if isinstance(caption, str) else list(caption or [])
    strips = [_strip(frames, columns, thumb_height) for _, frames in rows]
    width = max([_NARROWEST, *(strip.width for strip in strips)])
    blocks = [(_text(spans, _CAPTION_SIZE, _INK, width), _MARGIN // 2)] if spans else []  # picture, space below it
    for (label, _), strip in zip(rows, strips, strict=True):
        blocks += [(_text([(label, None)], _LABEL_SIZE, _FAINT, width), 0), (strip, _MARGIN)]
    height = _MARGIN + sum(block.height + space for block, space in blocks)
    sheet, y = Image.new("RGB", (width + 2 * _MARGIN, height), "white"), _MARGIN
    for block, space in blocks:
        sheet.paste(block, (_MARGIN, y))
        y += block.height + space
    with atomic(path) as part:
        sheet.save(part, format="JPEG", quality=quality, subsampling=0)


def _strip(frames: np.ndarray, columns: int, thumb_height: int) -> Image.Image:
    if len(frames) == 1:
        return _thumb(frames[0], thumb_height * 3 // 2)
    chosen = np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)
    thumbs = [_thumb(frames[i], thumb_height) for i in chosen]
    step = thumbs[0].width + _GAP
    strip = Image.new("RGB", (step * len(thumbs) - _GAP, thumb_height), "white")
    for i, thumb in enumerate(thumbs):
        strip.paste(thumb, (i * step, 0))
    return strip


def _thumb(frame: np.ndarray, height: int) -> Image.Image:
    """The frame [H, W, 3] at that height; a tiny one keeps its pixels visible, as squares."""
    source_height, source_width = frame.shape[:2]
    filter = Image.Resampling.NEAREST if height >= 2 * source_height else Image.Resampling.LANCZOS
    return Image.fromarray(frame).resize((max(1, round(source_width * height / source_height)), height), filter)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib brings it: Latin, Greek, Cyrillic and more, the same on every machine."""
    package = Path(importlib.util.find_spec("matplotlib").origin).parent
    return ImageFont.truetype(package / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)


def _text(spans: Sequence[Span], size: int, ink: str, width: int) -> Image.Image:
    """The spans set in lines on a white picture `width` pixels wide."""
    font = _font(size)
    lines, line_height = _wrapped(spans, font, width), round(size * 1.5)
    picture = Image.new("RGB", (width, len(lines) * line_height), "white")
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        x = 0.0
        for text, colour in line:
            draw.text((x, row * line_height), text, fill=colour or ink, font=font)
            x += font.getlength(text)
    return picture


def _wrapped(spans: Iterable[Span], font: ImageFont.FreeTypeFont, width: int) -> list[list[Span]]:
    """The spans as lines of spans, none wider than `width` pixels: broken at "\\n" and at spaces, and inside a word
    only where it is wider than a line, as text written without spaces is."""
    lines, line = [], []
    for letter, colour in ((letter, colour) for text, colour in spans for letter in text):
        if letter == "\n":
            lines.append(line)
            line = []
            continue
        line.append((letter, colour))
        if not letter.isspace() and font.getlength("".join(letter for letter, _ in line)) > width:
            spaces = [i for i, (letter, _) in enumerate(line) if letter.isspace()]
            cut = spaces[-1] + 1 if spaces else len(line) - 1
            lines.append(line[:cut])
            line = line[cut:]
    return [_merged(line) for line in [*lines, line]]


def _merged(letters: list[Span]) -> list[Span]:
    """Neighbours of one colour as one run."""
    by_colour = itertools.groupby(letters, key=lambda letter: letter[1])
    return [("".join(letter for letter, _ in group), colour) for colour, group in by_colour]


@dataclass(frozen=True)
class SheetSettings:
    """title: of the result. pieces: of the prompt, a text and its concept, if any. sources: the concepts whose media
    are shown. height, width: pixels of the result, and so of the sources."""

    title: str
    pieces: tuple[tuple[str, str | None], ...]
    sources: tuple[str, ...]
    height: int
    width: int


def composition_sheet(
    path: str | Path, settings: SheetSettings, sources: Sequence[str | Path], result: str | Path,
    twin: str | Path | None = None,
) -> None:  # fmt: skip
    """The sources' frames above the rendered ones, under the prompt with each concept's words in its colour.

    sources: the media of `settings.sources`, in their order. twin: what the same prompt and seed give where no word is
    bound, shown below.
    """
    concepts = dict.fromkeys(concept for _, concept in settings.pieces if concept)
    colours = {concept: palette(k) for k, concept in enumerate(concepts)}
    caption = [(f"{text} ", colours.get(concept)) for text, concept in settings.pieces]
    clips = zip(settings.sources, sources, strict=True)
    rows = [
        (f"source: {concept}", cover_crop(_spread(clip), settings.height, settings.width)) for concept, clip in clips
    ]
    rows.append((settings.title, _spread(result)))
    if twin:
        rows.append(("the same words and seed, none of them bound", _spread(twin)))
    contact_sheet(path, rows, caption)


def _spread(clip: str | Path) -> np.ndarray:
    """As many frames of a clip as a sheet shows, evenly spaced."""
    frames = probe(clip).frames
    return read_frames(clip, np.linspace(0, frames - 1, min(frames, COLUMNS)).round().astype(int))
