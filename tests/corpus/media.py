"""Images and videos. Each frame shows its own number as bars (`numbered` of tests/media/test_video.py), so that
what came of a clip is read back from its pixels."""

import contextlib
import csv
import functools
import io
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import EpsImagePlugin, Image

from bico.media.video import frames_left, media_kind, normalise_image, probe, read_frames, trim
from tests import ROOT
from tests.corpus.project import FRAMES, plan, write
from tests.corpus.verdicts import Input
from tests.media.test_video import ffmpeg, numbered, numbers_of

Make = Callable[[], bytes]
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD type="static" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    "<BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
DAMAGED = ROOT / "tests" / "data" / "media"


def _send(folder: Path, make: Make, name: str, **columns: str) -> np.ndarray:
    """A source's way from the table to its clip: planned, then trimmed as the rule does. uint8 [F, H, W, 3]."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    write(name, make())
    return through(name, **columns)


def through(name: str, **columns: str) -> np.ndarray:
    table = io.StringIO()
    csv.writer(table).writerows([["concept", "source", *columns], ["a", name, *columns.values()]])
    pipeline = plan(concepts=table.getvalue(), compositions="composition,prompt\none,[A](a)\n")
    source, clip = pipeline.tables.concepts["a"].source, pipeline.clip("a")
    if media_kind(source) == "image":
        normalise_image(source, clip)
    else:
        trim(source, clip, **pipeline.trim_settings("a"))
    return read_frames(clip)


def refused(proves: str, make: Make, name: str = "a.mp4", **columns: str) -> Input:
    send = partial(_send, make=make, name=name, **columns)
    return Input("media", f"{proves} is refused", send, names=name)


def takes(proves: str, make: Make, right: Callable[[np.ndarray], bool], name: str, **columns: str) -> Input:
    return Input("media", proves, partial(_send, make=make, name=name, **columns), right)


# Images


def quarters(mode: str = "RGB") -> Image.Image:
    """32 x 24: red, green; blue, white."""
    image = Image.new("RGB", (32, 24), "red")
    for colour, box in (("lime", (16, 0, 32, 12)), ("blue", (0, 12, 16, 24)), ("white", (16, 12, 32, 24))):
        image.paste(colour, box)
    return image.convert(mode)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


def is_quarters(frames: np.ndarray) -> bool:
    """As `quarters`, within JPEG's loss."""
    found, expected = frames[0].astype(int), np.asarray(quarters()).astype(int)
    return frames.shape == (1, 24, 32, 3) and bool(np.abs(found - expected)[6::12, 8::16].max() < 60)


def is_grey(level: int) -> Callable[[np.ndarray], bool]:
    return lambda frames: bool(np.all(np.abs(frames.astype(int) - level) <= 1))


def picture(proves: str, image: Callable[[], Image.Image], format: str, name: str, **options: object) -> Input:
    return takes(proves, lambda: saved(image(), format, **options), is_quarters, name)


def turned(orientation: int) -> bytes:
    """`quarters` as a camera writes it that is held so (EXIF 2 to 8), to be turned upright again."""
    undo = {2: (0,), 3: (3,), 4: (1,), 5: (5,), 6: (2,), 7: (6,), 8: (4,)}[orientation]
    image = quarters()
    for step in undo:
        image = image.transpose(Image.Transpose(step))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, "JPEG", quality=95, exif=exif)


def clear(mode: str = "RGBA") -> Image.Image:
    """Red, and where it is white in `quarters`, wholly transparent black."""
    image = quarters("RGBA")
    image.paste((0, 0, 0, 0), (16, 12, 32, 24))
    return image.convert(mode)


def grey(level: int | float, dtype: type) -> Image.Image:
    return Image.fromarray(np.full((24, 32), level, dtype))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))


def with_text(kind: bytes, data: bytes) -> bytes:
    whole = saved(quarters(), "PNG")
    return whole[:33] + png((kind, data))[8:] + whole[33:]


def animation(format: str, **options: object) -> bytes:
    """`quarters`, then two other pictures."""
    others = [Image.new("RGB", (32, 24), colour) for colour in ("black", "white")]
    return saved(quarters(), format, save_all=True, append_images=others, **options)


def _send_eps(folder: Path, name: str) -> object:
    """With a Ghostscript on the path that tells whether it was started."""
    (folder / "bin").mkdir()
    script = folder / "bin" / "gs"
    script.write_text(f"#!/bin/sh\ntouch '{folder}/started'\nexit 1\n")
    script.chmod(0o755)
    path, EpsImagePlugin.gs_binary = os.environ["PATH"], None
    os.environ["PATH"] = f"{folder / 'bin'}:{path}"
    try:
        return _send(folder, lambda: EPS, name)
    finally:
        os.environ["PATH"], EpsImagePlugin.gs_binary = path, None
        assert not (folder / "started").exists(), "Ghostscript was started"


def _send_folder(folder: Path) -> np.ndarray:
    Path("a.png").mkdir()
    return through("a.png")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"
PICTURES = [
    *(
        takes(f"a photo held so (EXIF {o}) is turned upright", partial(turned, o), is_quarters, "a.jpg")
        for o in range(2, 9)
    ),
    picture("a JPEG under a picture's other name is read by what it is", quarters, "JPEG", "a.png", quality=95),
    picture("a PNG under a JPEG's name is read by what it is", quarters, "PNG", "a.jpg"),
    picture("a suffix in capitals is a suffix", quarters, "PNG", "A.PNG"),
    picture("a GIF under a PNG's name is read by what it is", quarters, "GIF", "a.png"),
    picture("a progressive JPEG is read", quarters, "JPEG", "a.jpeg", progressive=True, quality=95),
    picture("a palette is resolved", lambda: quarters("P"), "PNG", "a.png"),
    picture(
        "a photo of two pictures (MPO) is its first",
        quarters,
        "MPO",
        "a.jpg",
        save_all=True,
        append_images=[noise()],
        quality=95,
    ),
    picture("a JPEG in a printer's colours is read", lambda: quarters("CMYK"), "JPEG", "a.jpg", quality=95),
    picture("a TIFF with LZW is read", quarters, "TIFF", "a.tif", compression="tiff_lzw"),
    picture("a TIFF with JPEG inside is read", quarters, "TIFF", "a.tiff", compression="jpeg", quality=95),
    picture("a lossless WebP is read", quarters, "WEBP", "a.webp", lossless=True),
    picture("a bitmap is read", quarters, "BMP", "a.bmp"),
    picture("transparency becomes white", clear, "PNG", "a.png"),
    picture("a WebP's transparency becomes white", clear, "WEBP", "a.webp", lossless=True, exact=True),
    picture("a TIFF's transparency becomes white", clear, "TIFF", "a.tif"),
    picture("a damaged colour profile does not matter", quarters, "PNG", "a.png", icc_profile=b"no profile"),
    picture(
        "damaged EXIF does not matter", quarters, "JPEG", "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95
    ),
    takes(
        "garbage behind a JPEG does not matter",
        lambda: saved(quarters(), "JPEG", quality=95) + b"\0garbage" * 99,
        is_quarters,
        "a.jpg",
    ),
    takes(
        "a comment that is not UTF-8 does not matter",
        lambda: with_text(b"tEXt", b"Title\0caf\xe9"),
        is_quarters,
        "a.png",
    ),
    takes("16 bits of grey are scaled to 8", lambda: saved(grey(200 * 257, np.uint16), "PNG"), is_grey(200), "a.png"),
    takes(
        "16 bits of grey in a TIFF are scaled to 8",
        lambda: saved(grey(200 * 257, np.uint16), "TIFF"),
        is_grey(200),
        "a.tif",
    ),
    takes(
        "one bit a pixel is black and white", lambda: saved(Image.new("1", (32, 24), 1), "PNG"), is_grey(255), "a.png"
    ),
    takes(
        "a picture of one pixel is read", lambda: saved(Image.new("RGB", (1, 1), (9, 9, 9)), "PNG"), is_grey(9), "a.png"
    ),
    refused("32 bits of grey without a scale", lambda: saved(grey(2**30, np.int32), "TIFF"), "a.tif"),
    refused("32-bit floats without a scale", lambda: saved(grey(0.5, np.float32), "TIFF"), "a.tif"),
    refused("32-bit floats that are no numbers", lambda: saved(grey(np.nan, np.float32), "TIFF"), "a.tif"),
    refused("an animated WebP", lambda: animation("WEBP"), "a.webp"),
    refused("an animated PNG", lambda: animation("PNG"), "a.png"),
    refused("a TIFF of several pages", lambda: animation("TIFF"), "a.tif"),
    refused(
        "a text chunk that unpacks to 100 MB",
        lambda: with_text(b"zTXt", b"Title\0\0" + zlib.compress(b"\0" * 10**8)),
        "a.png",
    ),
    refused("a picture of 60,000 pixels a side in a kilobyte", partial(png_of, 60_000, 60_000), "a.png"),
    refused("a picture of 2^31 pixels a side", partial(png_of, 2**31 - 1, 2**31 - 1), "a.png"),
    refused("a picture of no width", partial(png_of, 0, 24), "a.png"),
    refused("a picture with too few pixels", partial(png_of, 32, 24, b"\0" * 99), "a.png"),
    refused("a picture whose checksum is wrong", lambda: saved(quarters(), "PNG").replace(b"IDAT", b"IDAX"), "a.png"),
    *(
        refused(
            f"a {format} cut at {share} %",
            lambda format=format, share=share: cut(saved(noise(), format), share),
            f"a.{suffix}",
        )
        for format, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif"))
        for share in (2, 50, 90)
    ),
    *(
        refused(f"a picture of {what}", lambda content=content: content, name)
        for what, content, name in (
            ("nothing", b"", "a.png"),
            ("text", b"not an image", "a.jpg"),
            ("HTML", b"<!doctype html><p>404", "a.webp"),
            ("zeros", b"\0" * 4096, "a.tif"),
            ("random bytes", np.random.default_rng(1).bytes(4096), "a.png"),
            (
                "vectors (SVG)",
                b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
                "a.png",
            ),
            ("a pointer of git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a.jpg"),
            ("a web archive", b"PK\x03\x04" + b"\0" * 99, "a.png"),
        )
    ),
    *(
        refused(
            f"a {format} under a PNG's name",
            lambda format=format: saved(quarters("P" if format == "PCX" else "RGB"), format),
            "a.png",
        )
        for format in ("PDF", "PPM", "TGA", "PCX", "ICNS", "ICO", "DDS", "SGI", "IM")
    ),
    *(
        Input(
            "media",
            f"PostScript under the name {name} is refused, and Ghostscript not started",
            partial(_send_eps, name=name),
            names=name,
        )
        for name in ("a.png", "a.jpg", "a.tif")
    ),
    refused("a damaged AVIF under a PNG's name", lambda: (DAMAGED / "damaged_avif.png").read_bytes(), "a.png"),
    Input("media", "a folder under a picture's name is refused", _send_folder, names="a.png"),
]

# Videos


@functools.cache
def video(
    suffix: str, *options: str, count: int = FRAMES + 3, first: str = "", size: tuple[int, int] = (48, 64)
) -> bytes:
    """Numbered frames at 15 a second, encoded with ffmpeg's options. first: options of the input."""
    height, width = size
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "15", *first.split(), "-i", "-")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        ffmpeg(*raw, *options, path, data=numbered(range(count), height, width).tobytes())
        return path.read_bytes()


H264 = ("-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p", "-preset", "ultrafast")
MJPEG = ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p")
VP9 = ("-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "8")
PLAIN: dict[str, tuple[str, ...]] = {
    ".mp4": H264,
    ".mov": H264,
    ".m4v": H264,
    ".mkv": H264,
    ".webm": VP9,
    ".avi": ("-c:v", "mpeg4", "-q:v", "2"),
}


def mp4() -> bytes:
    return video(".mp4", *H264)


def cut(content: bytes, share: float) -> bytes:
    return content[: round(len(content) * share / 100)]


def is_first(frames: np.ndarray) -> bool:
    """Frames 0 to 8, each in its place."""
    return numbers_of(frames) == list(range(FRAMES))


def film(
    proves: str, make: Make, name: str = "a.mp4", right: Callable[[np.ndarray], bool] = is_first, **columns: str
) -> Input:
    return takes(proves, make, right, name, **columns)


def latin1_title(suffix: str) -> bytes:
    content = video(suffix, *PLAIN[suffix], "-metadata", "title=cafeteria!")
    assert b"cafeteria!" in content
    return content.replace(b"cafeteria!", b"caf\xe9t\xe9ria\xff")


def packets(
    suffix: str, codec: tuple[str, ...], keep: Callable[[int], bool], spoil: Callable[[int], bool] = lambda i: False
) -> bytes:
    """A clip of two groups of pictures remuxed with some of its packets, some of them zeroed."""
    content = video(suffix, *codec, "-g", "20", "-bf", "0", count=40)
    target = io.BytesIO()
    with (
        av.open(io.BytesIO(content)) as source,
        av.open(target, "w", format="matroska" if suffix == ".mkv" else "mp4") as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(p for p in source.demux(video=0) if p.size):
            if keep(i):
                kept = av.Packet(b"\0" * packet.size if spoil(i) else bytes(packet))
                kept.pts, kept.dts, kept.time_base = packet.pts, packet.dts, packet.time_base
                kept.is_keyframe, kept.stream = packet.is_keyframe, stream
                out.mux(kept)
    return target.getvalue()


def uneven(*times: int, suffix: str = ".mkv") -> bytes:
    """Frames shown at the given milliseconds."""
    target = io.BytesIO()
    with av.open(target, "w", format="matroska" if suffix == ".mkv" else "mp4") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "8", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for pixels, time in zip(numbered(range(len(times))), times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, stream.codec_context.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return target.getvalue()


def _send_uneven(folder: Path, make: Make, fps: float) -> tuple[int, int, bool]:
    """What planning counts, what a trim of just so many holds, and whether one more is refused."""
    write("a.mkv", make())
    left = frames_left("a.mkv", 500, "0", fps)
    trim("a.mkv", "b.mp4", left, fps=fps)
    more = False
    with contextlib.suppress(ValueError):
        trim("a.mkv", "c.mp4", left + 1, fps=fps)
        more = True
    return left, probe("b.mp4").frames, not more


def counted(proves: str, fps: float, *times: int) -> Input:
    proves = f"planning counts as trimming does at {fps} fps, {proves}"
    return Input(
        "media", proves, partial(_send_uneven, make=partial(uneven, *times), fps=fps), lambda f: f[0] == f[1] and f[2]
    )


def transparent(suffix: str, *options: str) -> bytes:
    """A clip whose left half is opaque red, whose right half is wholly transparent black."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        half = "color=red:s=32x48:r=15,format=rgba[l];color=black@0.0:s=32x48:r=15,format=rgba[r];[l][r]hstack"
        ffmpeg("-f", "lavfi", "-i", half, "-frames:v", "12", *options, path)
        return path.read_bytes()


def is_white_right(frames: np.ndarray) -> bool:
    red, white = frames[:, 8:-8, 8:24].astype(int), frames[:, 8:-8, 40:-8]
    return len(frames) == FRAMES and bool(white.min() > 240 and red[..., 0].min() > 200 and red[..., 1:].max() < 60)


def with_bystander(script: str) -> Make:
    """A script under a video's name, and a video beside it that it names."""

    def make() -> bytes:
        write("secret.mp4", mp4())
        return script.encode()

    return make


def streams(*maps: str, suffix: str = ".mkv") -> bytes:
    """The plain clip's frames, or sound and text, as ffmpeg's options say."""
    with tempfile.TemporaryDirectory() as folder:
        path, source, text = (Path(folder) / name for name in (f"a{suffix}", "b.mp4", "c.srt"))
        source.write_bytes(mp4())
        text.write_text("1\n00:00:00,000 --> 00:00:01,000\nwords\n")
        sound = ("-f", "lavfi", "-t", "1", "-i", "sine", "-f", "lavfi", "-t", "1", "-i", "testsrc=s=32x32:r=15")
        ffmpeg("-i", source, *sound, "-i", text, *maps, path)
        return path.read_bytes()


def _send_future(folder: Path, days: float) -> np.ndarray:
    write("a.mp4", mp4())
    at = Path("a.mp4").stat().st_mtime + 86_400 * days
    os.utime("a.mp4", (at, at))
    return through("a.mp4")


def _send_link(folder: Path, target: str) -> np.ndarray:
    write("real.mp4", mp4())
    Path("a.mp4").symlink_to(target)
    return through("a.mp4")


def _send_pipe(folder: Path) -> np.ndarray:
    os.mkfifo("a.mp4")
    return through("a.mp4")


def loops(*numbers: int) -> Callable[[np.ndarray], bool]:
    return lambda frames: numbers_of(frames) == list(numbers)


ODD_NAMES = (
    "a b.mp4",
    "a:b.mp4",
    "http:a.mp4",
    "a'b\".mp4",
    "a$(touch x)`ls`.mp4",
    "%03d.mp4",
    "a#1.mp4",
    "a;b,c.mp4",
    "a?*[x].mp4",
    "柴犬🎮.mp4",
    "a&b|c.mp4",
    "a\\b.mp4",
    "é\u0301.mp4",
    "a" * 200 + ".mp4",
)
CLIPS = [
    *(
        film(f"a plain {suffix} gives its frames", partial(video, suffix, *options), f"a{suffix}")
        for suffix, options in PLAIN.items()
    ),
    *(
        film(f"a {suffix} whose title is not UTF-8 gives its frames", partial(latin1_title, suffix), f"a{suffix}")
        for suffix in (".mp4", ".mov", ".mkv", ".webm", ".avi")
    ),
    *(film(f"a clip called {name!r} gives its frames", mp4, name) for name in ODD_NAMES),
    *(
        refused(f"a clip called {name!r}", mp4, name)
        for name in ("-a.mp4", "a{x}.mp4", "{concept}.mp4", "a{.mp4", "{{a}}.mp4")
    ),
    *(
        refused(
            f"a {suffix} cut at {share} %",
            lambda suffix=suffix, share=share: cut(video(suffix, *PLAIN[suffix], count=40), share),
            f"a{suffix}",
        )
        for suffix in (".mp4", ".mov", ".mkv", ".webm", ".avi")
        for share in (1, 20, 50, 80, 99, *([5, 10, 30, 40, 60, 70, 90, 95, 98] if suffix == ".avi" else []))
    ),
    refused("an AVI without its index", lambda: video(".avi", *PLAIN[".avi"]).partition(b"idx1")[0], "a.avi"),
    refused(
        "an MP4 with its index in front, cut at 80 %",
        lambda: cut(video(".mp4", *H264, "-movflags", "+faststart", count=40), 80),
    ),
    film("motion JPEG gives its frames", partial(video, ".avi", *MJPEG), "a.avi"),
    film("MPEG-2 gives its frames", partial(video, ".mkv", "-c:v", "mpeg2video", "-q:v", "2"), "a.mkv"),
    film(
        "VP8 gives its frames",
        partial(video, ".webm", "-c:v", "libvpx", "-crf", "10", "-b:v", "1M", "-deadline", "realtime"),
        "a.webm",
    ),
    film("FFV1 gives its frames", partial(video, ".mkv", "-c:v", "ffv1"), "a.mkv"),
    film(
        "raw frames in an AVI give the same", partial(video, ".avi", "-c:v", "rawvideo", "-pix_fmt", "bgr24"), "a.avi"
    ),
    film("ProRes gives its frames", partial(video, ".mov", "-c:v", "prores_ks"), "a.mov"),
    film("10 bits give the frames", partial(video, ".mkv", "-c:v", "ffv1", "-pix_fmt", "yuv422p10le"), "a.mkv"),
    film("full range gives the frames", partial(video, ".mp4", *H264[:4], "-pix_fmt", "yuvj420p")),
    film("grey gives the frames", partial(video, ".mkv", "-c:v", "ffv1", "-pix_fmt", "gray"), "a.mkv"),
    film(
        "B-frames come in the order in which they are shown",
        partial(video, ".mp4", "-c:v", "libx264", "-crf", "8", "-bf", "4", "-pix_fmt", "yuv420p"),
    ),
    film(
        "a clip that begins an hour late begins with its first frame",
        partial(video, ".mkv", *H264, "-output_ts_offset", "3600"),
        "a.mkv",
    ),
    film(
        "a clip that begins before zero begins with its first frame",
        partial(video, ".mkv", *H264, "-output_ts_offset", "-2"),
        "a.mkv",
    ),
    film("a frame an hour is a rate", partial(video, ".mkv", *H264, first="-r 1/3600"), "a.mkv"),
    film("1,000 frames a second are a rate", partial(video, ".mkv", *H264, first="-r 1000"), "a.mkv"),
    film("a fragmented MP4 gives its frames", partial(video, ".mp4", *H264, "-movflags", "frag_keyframe+empty_moov")),
    film(
        "an odd side loses its last line",
        partial(video, ".mkv", "-c:v", "ffv1", size=(47, 63)),
        "a.mkv",
        lambda f: f.shape[1:3] == (46, 62) and len(f) == FRAMES,
    ),
    film(
        "a recording that was turned is shown upright",
        lambda: turned_clip(90),
        "a.mp4",
        lambda f: f.shape == (FRAMES, 64, 48, 3),
    ),
    film(
        "a recording that was turned over is shown upright",
        lambda: turned_clip(180),
        "a.mp4",
        lambda f: numbers_of(f[:, :, ::-1]) == list(range(FRAMES)),
    ),
    film(
        "sound and text beside the frames do not matter",
        partial(streams, "-map", "0:v", "-map", "1:a", "-map", "3:s"),
        "a.mkv",
    ),
    film("a second, smaller stream of frames does not matter", partial(streams, "-map", "0:v", "-map", "2:v"), "a.mkv"),
    film("a second, smaller stream in front does not matter", partial(streams, "-map", "2:v", "-map", "0:v"), "a.mkv"),
    film(
        "a clip is looped", partial(video, ".mp4", *H264, count=4), right=loops(0, 1, 2, 3, 0, 1, 2, 3, 0), short="loop"
    ),
    film(
        "a clip is held", partial(video, ".mp4", *H264, count=4), right=loops(0, 1, 2, 3, 3, 3, 3, 3, 3), short="hold"
    ),
    film("a single frame is held", partial(video, ".mp4", *H264, count=1), right=loops(*[0] * 9), short="hold"),
    film("a clip begins at its start", mp4, right=loops(*range(3, 12)), start="3"),
    film("a clip begins at its second", mp4, right=loops(*range(3, 12)), start="0.2s"),
    *(
        film(
            f"transparency of {name} becomes white",
            partial(transparent, suffix, *options),
            f"a{suffix}",
            is_white_right,
        )
        for name, suffix, options in (
            ("a VP9 clip", ".webm", (*VP9, "-pix_fmt", "yuva420p")),
            (
                "a VP8 clip",
                ".webm",
                ("-c:v", "libvpx", "-crf", "10", "-b:v", "1M", "-auto-alt-ref", "0", "-pix_fmt", "yuva420p"),
            ),
            ("a ProRes clip", ".mov", ("-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")),
            ("an animation codec's clip", ".mov", ("-c:v", "qtrle", "-pix_fmt", "argb")),
            ("an FFV1 clip", ".mkv", ("-c:v", "ffv1", "-pix_fmt", "yuva420p")),
            ("PNGs in a clip", ".mov", ("-c:v", "png", "-pix_fmt", "rgba")),
        )
    ),
    counted("evenly timed", 10, *range(0, 800, 40)),
    counted("with a long last gap", 16, *range(0, 400, 40), 1500),
    counted("with a hole in the middle", 12, *range(0, 400, 40), *range(2000, 2400, 40)),
    counted("with a long first gap", 24, 0, *range(1000, 1400, 40)),
    counted("with ever longer gaps", 30, *(i * i * 7 for i in range(12))),
    counted("with frames a millisecond apart", 25, *range(20), 900),
    counted("that begins late", 15, *range(5000, 5500, 33)),
    film(
        "a recording that begins between key frames begins with the first that can be shown",
        partial(packets, ".mkv", H264, lambda i: i >= 5),
        "a.mkv",
        lambda f: numbers_of(f) == list(range(20, 29)),
    ),
    refused("a recording without a key frame", partial(packets, ".mkv", H264, lambda i: 0 < i < 20), "a.mkv"),
    film(
        "a recording between two key frames of MPEG-2 gives frames that can be shown",
        lambda: (DAMAGED / "mpeg2_between_keys.mkv").read_bytes(),
        "a.mkv",
        lambda f: len(f) == FRAMES,
    ),
    film(
        "an open group of pictures gives its frames",
        lambda: (DAMAGED / "open_gop.mkv").read_bytes(),
        "a.mkv",
        lambda f: len(f) == FRAMES,
    ),
    refused("a clip with a zeroed packet", partial(packets, ".mkv", H264, lambda i: True, lambda i: i == 4), "a.mkv"),
    refused("a clip of zeroed packets", partial(packets, ".mkv", H264, lambda i: True, lambda i: True), "a.mkv"),
    refused("a clip that is too short", partial(video, ".mp4", *H264, count=4)),
    refused("a start behind the end", mp4, start="500"),
    refused("sound under a video's name", partial(streams, "-map", "1:a"), "a.mkv"),
    refused("text under a video's name", partial(streams, "-map", "3:s"), "a.mkv"),
    *(
        refused(f"a clip of {what}", lambda content=content: content)
        for what, content in (
            ("nothing", b""),
            ("text", b"not a video"),
            ("HTML", b"<!doctype html><p>404"),
            ("zeros", b"\0" * 4096),
            ("random bytes", np.random.default_rng(2).bytes(4096)),
            ("a box that never ends", b"\0\0\0\1mdat" + b"\xff" * 8),
            ("nested boxes", b"\0\0\x10\0moov" * 512),
            ("a pointer of git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
            (
                "a description of a session",
                b"v=0\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            ),
        )
    ),
    *(
        refused(f"{what} called {name} opens nothing else and", with_bystander(script), name)
        for what, script, name in (
            ("a concat script", "ffconcat version 1.0\nfile secret.mp4\n", "a.mp4"),
            ("a concat script", "ffconcat version 1.0\nfile secret.mp4\n", "a.mkv"),
            ("a playlist", PLAYLIST, "a.m4v"),
            ("a playlist", PLAYLIST, "a.avi"),
            (
                "a DASH manifest",
                DASH,
                "a.mp4",
            ),
        )
    ),
    Input(
        "media",
        "a line break in a source's name is refused",
        partial(_send, make=mp4, name="a\nb.mp4"),
        names="concepts.csv, row 2, source",
    ),
    refused("a picture under a video's name", lambda: saved(quarters(), "PNG")),
    refused("a video under a picture's name", mp4, "a.png"),
    Input(
        "media",
        "a clip from the future gives its frames, or is named before anything runs",
        partial(_send_future, days=2),
        names="a.mp4",
    ),
    Input("media", "a clip from 1980 gives its frames", partial(_send_future, days=-365 * 40), is_first),
    Input("media", "a link to a clip gives its frames", partial(_send_link, target="real.mp4"), is_first),
    Input("media", "a link to nothing is refused", partial(_send_link, target="none.mp4"), names="a.mp4"),
    Input("media", "a link to itself is refused", partial(_send_link, target="a.mp4"), names="a.mp4"),
    Input("media", "a link to an endless device is refused", partial(_send_link, target="/dev/zero"), names="a.mp4"),
    Input("media", "a pipe that nobody writes to is refused", _send_pipe, names="a.mp4"),
]


def turned_clip(degrees: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "a.mp4", Path(folder) / "b.mp4"
        source.write_bytes(mp4())
        ffmpeg("-display_rotation", degrees, "-i", source, "-c", "copy", path)
        return path.read_bytes()


INPUTS = PICTURES + CLIPS
