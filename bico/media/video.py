"""Videos and images as frames: probe, trim, read, write.

ffmpeg counts, trims and writes, PyAV probes and reads, Pillow does the images. Everywhere a frame is uint8 RGB, upright
as a player shows it, and every clip written here is one kind of file: H.264 in MP4, yuv420p, limited range, BT.709,
tagged as such, constant frame rate, no sound, moov before mdat. A source without a colour tag is read as ffmpeg reads
it (BT.601). Pixels that are not square are left as they are. Transparency is shown on white.

A file is what its content is, whatever its name says, and only the formats named below are opened: none of them leads
to another file, to a network or to another program. Whatever a library raises over a file's bytes becomes an
InputError that names the file.
"""

import contextlib
import io
import math
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import Interpolation
from PIL import Image, ImageOps, UnidentifiedImageError

from bico import InputError
from bico.runtime.files import atomic

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")  # Pillow's names
VIDEO_FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg")  # ffmpeg's names; mov is MP4 too, matroska is WebM too
SHORT = ("error", "loop", "hold")  # what `trim` may do when the source runs out of frames

# swscale's defaults trade two or three levels of colour for speed.
_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_ACCURATE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_HDR_TRANSFERS = (16, 18)  # AVCOL_TRC_SMPTE2084 (PQ) and AVCOL_TRC_ARIB_STD_B67 (HLG)
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # ffmpeg's own decoders leave their transparency out
_EVERY_FRAME = {"fps_mode": "passthrough"}  # of ffmpeg's outputs: no frame dropped or doubled
_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot")  # of MP4 and QuickTime
_EARLY = 1000  # microseconds by which resampling looks ahead
_READ_AHEAD = 64  # frames that ffmpeg may have decoded, at most, when a clip has all of its own
_FASTEST = 1000  # frames a second
_REFERENCE_WHITE = 203  # nits of diffuse white in HDR, ITU-R BT.2408


@dataclass(frozen=True)
class Probe:
    """What a media file holds. `width`, `height`: pixels, as displayed. `fps`: the average; None for an image."""

    kind: str  # "image" or "video"
    width: int
    height: int
    frames: int
    fps: float | None


@dataclass(frozen=True)
class _Track:
    """A video stream as its packets and its first frame tell it. `fps`: the average. `decoder`: None for the usual."""

    index: int
    width: int
    height: int
    packets: int
    fps: Fraction
    hdr: bool
    alpha: bool
    decoder: str | None


# Looking at a file


def media_kind(path: str | Path) -> str:
    """By the file's suffix, "image" or "video". Raises InputError for any other suffix."""
    suffix = Path(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    raise InputError(
        f"{path}: suffix {suffix or '(none)'} is neither an image's ({' '.join(IMAGE_SUFFIXES)}) "
        f"nor a video's ({' '.join(VIDEO_SUFFIXES)})"
    )


def probe(path: str | Path) -> Probe:
    """Size, number of frames and average frame rate of a video or image. A video is read through once, but only its
    first frame is decoded, so frames that do not decode are counted: a recording may begin with some, a clip written
    here has none. Raises InputError when the file cannot be read, is cut short, or has no video stream."""
    if media_kind(path) == "image":
        return Probe("image", *_open_image(path).size, frames=1, fps=None)
    track = _track(path)
    return Probe("video", track.width, track.height, track.packets, float(track.fps))


@contextlib.contextmanager
def _reading(path: str | Path, what: str) -> Iterator[None]:
    """The boundary to the libraries that read a file: over damaged bytes they raise whatever they please."""
    try:
        yield
    except InputError:
        raise
    except Exception as problem:
        said = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        raise InputError(f"{path}: cannot be read as {what}: {said}") from problem


def _track(path: str | Path) -> _Track:
    with _open_video(path) as (_, stream, frames):
        first = next(frames, None)
        if first is None:
            raise InputError(f"{path}: its video stream holds no frame that can be decoded")
        height, width = _upright(first, np.empty((first.height, first.width))).shape
        context = stream.codec_context
        hdr = context.color_trc in _HDR_TRANSFERS
        hidden_alpha = stream.metadata.get("alpha_mode") == "1"
        alpha = hidden_alpha or any(component.is_alpha for component in first.format.components)
        decoder = _ALPHA_DECODERS.get(context.name) if hidden_alpha else None
    with _open_video(path) as (container, stream, _):
        stamps = []
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise InputError(f"{path}: the file is cut short or damaged")
            if _is_shown(packet):
                stamps.append(packet.dts if packet.pts is None else packet.pts)
        return _Track(stream.index, width, height, len(stamps), _average_rate(stream, stamps), hdr, alpha, decoder)


def _average_rate(stream: av.VideoStream, stamps: list[int | None]) -> Fraction:
    """The rate of frames at these times, None where one has none. What a container states is exact where it agrees
    with the times (they may be rounded to a millisecond), and wrong for many a Matroska file whose rate varies. A lone
    frame without a rate lasts a second."""
    stated = stream.average_rate or stream.guessed_rate or Fraction(1)
    known = [stamp for stamp in stamps if stamp is not None]
    duration = (max(known) - min(known)) * stream.time_base if known else 0
    measured = (len(stamps) - 1) / duration if duration else stated
    rate = stated if abs(stated / measured - 1) < 0.01 else measured
    # In numbers that a clip can state.
    return min(max(rate, Fraction(1, _FASTEST)), Fraction(_FASTEST)).limit_denominator(10_000)


def _is_shown(packet: av.Packet) -> bool:
    """Whether a packet becomes a frame: not the flush at the end, not cut away by an edit list, and not one of VP8's
    hidden reference frames (RFC 6386, 9.1: the show_frame bit)."""
    hidden = packet.size and packet.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10
    return bool(packet.size) and not packet.is_discard and not hidden


def _is_cut_short(path: str | Path) -> bool:
    """Whether the file ends before something that it announces, which ffmpeg takes for the end of the video. A
    recording in MPEG's streams may end after any packet."""
    end, position = Path(path).stat().st_size, 0
    with open(path, "rb") as file:
        head = file.read(16)
        if head.startswith(b"G"):  # MPEG-TS, in packets of 188 bytes
            return end % 188 > 0
        size_of = {b"\x1aE\xdf\xa3": _element_size, b"RIFF": _chunk_size}.get(head[:4], _box_size)
        if size_of is _box_size and head[4:8] not in _FIRST_BOXES:
            return False
        while position < end:
            file.seek(position)
            size = size_of(file.read(16))
            if size is None:
                return False
            position += size
    return position > end


def _box_size(head: bytes) -> int | None:
    """The size of a top-level box of MP4 or QuickTime; None when it is none, or goes up to the end of the file."""
    if len(head) < 8:
        return 8 if any(head) else None
    size = int.from_bytes(head[:4])
    if size == 1:  # it did not fit in 32 bits
        size = int.from_bytes(head[8:])
    return size if size >= 8 and head[4:8].isalnum() else None


def _chunk_size(head: bytes) -> int | None:
    """The size of one of an AVI's RIFF chunks; None when it is none, or when its writer never came to fill it in."""
    size = int.from_bytes(head[4:8], "little")
    return 8 + size if head.startswith(b"RIFF") and 0 < size < 0xFFFFFFFF else None


def _element_size(head: bytes) -> int | None:
    """The size of an element of Matroska (RFC 8794, 4); of its head alone where its own size is unknown, as that of a
    live recording's segment and clusters is, so that their children come next; None when it is none."""
    start = 9 - head[0].bit_length()
    if start > 4:
        return None
    length = 9 - head[start].bit_length() if start < len(head) else 8
    if length > 8 or start + length > len(head):
        return None if length > 8 else len(head) + 1
    unknown = (1 << 7 * length) - 1  # all bits set
    size = int.from_bytes(head[start : start + length]) & unknown
    return start + length + (0 if size == unknown else size)


@contextlib.contextmanager
def _open_video(
    path: str | Path,
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream, Iterator[av.VideoFrame]]]:
    """The container, its main video stream, and that stream's frames."""
    any_encoding = {"metadata_errors": "replace"}  # of the tags
    with _reading(path, "a video (MP4, QuickTime, Matroska, WebM, AVI or MPEG)"):
        if _is_cut_short(path):
            raise InputError(f"{path}: the file is cut short")
        with av.open(_local(path), options=_bounds(), **any_encoding) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise InputError(f"{path}: holds no video stream")
            yield container, stream, container.decode(stream)


def _bounds() -> dict[str, str]:
    """ffmpeg's options of an input: a script, a playlist or a pattern under a video's name opens nothing else."""
    return {"format_whitelist": ",".join(VIDEO_FORMATS), "protocol_whitelist": "file"}


def _local(path: str | Path) -> str:
    """A path that ffmpeg takes for neither an option ("-a.mp4") nor a protocol ("a:b.mp4")."""
    return str(Path(path).absolute())


def _open_image(path: str | Path) -> Image.Image:
    """The image, upright and RGB; transparency becomes white. Raises InputError also for one that holds several
    pictures, or numbers without a known white."""
    with _reading(path, "an image"):
        try:
            opened = Image.open(path, formats=IMAGE_FORMATS)
        except UnidentifiedImageError:
            raise InputError(
                f"{path}: cannot be read as an image: damaged, or none of {', '.join(IMAGE_FORMATS)} by its content"
            ) from None
        with opened as image:
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1 and image.format != "MPO":  # a camera's JPEG, with a preview or a depth map behind it
                raise InputError(
                    f"{path}: holds {pictures} pictures, and an image is one; save the one that is meant as a PNG, or "
                    f"convert it to an MP4 to give what moves in it"
                )
            image = ImageOps.exif_transpose(_eight_bits(path, image))
            if not image.has_transparency_data:
                return image.convert("RGB")
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _eight_bits(path: str | Path, image: Image.Image) -> Image.Image:
    """Pillow would clip more than 8 bits to 8. What is white is known for 16 bits only."""
    if image.mode in ("I", "F") or (image.mode.startswith("I;16") and _is_odd_tiff(image)):
        raise InputError(
            f"{path}: its numbers ({image.mode}) do not say which is white; save it with 8 or 16 bits a channel"
        )
    if not image.mode.startswith("I;16"):
        return image
    grey = np.asarray(image)
    eight = Image.fromarray((grey >> 8).astype(np.uint8))
    if (clear := image.info.get("transparency")) is not None:
        eight.putalpha(Image.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8)))
    eight.getexif().update(image.getexif())
    return eight


def _is_odd_tiff(image: Image.Image) -> bool:
    """Whether 16 bits hold fewer (12 of a scanner), or 0 is white (PhotometricInterpretation 0)."""
    tags = getattr(image, "tag_v2", {})
    return bool(tags) and (tags.get(258, (16,)) != (16,) or tags.get(262) == 0)


# Trimming a source to a clip


def parse_start(text: str | int) -> tuple[int | None, Fraction | None]:
    """`start` of a clip as (frame, None) for "12" or (None, seconds) for "1.5s". Raises ValueError for other text."""
    found = re.fullmatch(r"([0-9]{1,9})|([0-9]{1,9}(?:\.[0-9]{1,9})?)s", str(text))
    if not found:
        raise ValueError(f'start {text!r} is neither a frame number such as "12" nor seconds such as "1.5s"')
    frame, seconds = found.groups()
    return (int(frame), None) if frame else (None, Fraction(seconds))


def frames_left(path: str | Path, frames: int, start: str | int = "0", fps: float | None = None) -> int:
    """How many of `frames` frames `trim` finds in a video from `start` on: `trim` asks this too, so that both agree.

    ffmpeg decodes them, and a few more, since it may be that far ahead when a clip is complete. Raises InputError when
    the file or one of these frames cannot be read.
    """
    return _frames_left(path, _track(path), frames, start, fps)


def _frames_left(source: str | Path, track: _Track, frames: int, start: str | int, fps: float | None) -> int:
    if min(track.width, track.height) < 2:
        raise InputError(f"{source}: is {track.width} x {track.height} pixels; a clip has at least 2 x 2")
    ahead = _READ_AHEAD if fps is None else min(math.ceil(_READ_AHEAD * _rate(fps) / track.fps), 10_000)
    chosen = _from_start(source, track, start, fps)
    found = _run(chosen.filter("trim", end_frame=frames + ahead).output("-", format="null", **_EVERY_FRAME), source)
    if found and (track.hdr or track.alpha):  # the colours too; of one frame, as they take long
        first = _coloured(chosen.filter("trim", end_frame=1), track)
        _run(first.output("-", format="null", **_EVERY_FRAME), source)
    return min(frames, found)


@dataclass(frozen=True)
class TrimSettings:
    """What `trim` is told."""

    frames: int
    start: str | int = "0"
    fps: float | None = None
    short: str = "error"


def trim(
    source: str | Path,
    destination: str | Path,
    frames: int,
    start: str | int = "0",
    fps: float | None = None,
    short: str = "error",
) -> None:
    """Writes a clip of exactly `frames` frames of the video `source`, visually lossless.

    Clip frame i is source frame `start` + i: `start` is a frame number ("12") or seconds from the first frame ("1.5s",
    the first frame not before that). With `fps` the source is first resampled: frame k is then the one that a player
    shows k/fps seconds after the first. Without, every source frame counts, also when their rate varies, and the clip
    plays them at their average rate. The clip is upright and as large as the source, but an odd side loses its last
    row or column (yuv420p has even sides). HDR becomes SDR, with what is brighter than diffuse white clipped.

    `short` says what happens when the source ends early: "error"; "loop" starts over from `start`; "hold" repeats the
    last frame. Raises InputError for a source that cannot be read, is damaged, or has too few frames.
    """
    if short not in SHORT:
        raise InputError(f"{source}: short is {short!r}; allowed: {', '.join(SHORT)}")
    if frames < 1:
        raise InputError(f"{source}: frames is {frames}; a clip has at least 1")
    track = _track(source)
    available = _frames_left(source, track, frames, start, fps)
    if not available or (available < frames and short == "error"):
        raise InputError(
            f"{source}: has {available} frames from start {start}, but the clip needs {frames}; allowed: an "
            f"earlier start, fewer frames, or short: loop or hold (which need at least 1 frame to go on from)"
        )
    clip = _from_start(source, track, start, fps).filter("trim", end_frame=frames)
    if available < frames:
        clip = _fill(clip, short, available, frames)
    # New times, one step of 1/rate each, that the encoder passes through: nothing is left for which ffmpeg would drop
    # or double a frame.
    step = str(1 / (_rate(fps) if fps is not None else track.fps))
    clip = _coloured(clip, track).filter("settb", step).filter("setpts", "N")
    with atomic(destination) as part:
        _encode(clip, part, source, crf=10, enc_time_base=step, **_EVERY_FRAME)
        written = probe(part).frames
        if written != frames:
            raise InputError(f"{source}: ffmpeg wrote a clip of {written} frames instead of {frames}")


def _from_start(source: str | Path, track: _Track, start: str | int, fps: float | None):
    """The frames of a video from `start` on, of those that decode; resampled to `fps` first when that is given."""
    try:
        frame, seconds = parse_start(start)
    except ValueError as problem:
        raise InputError(f"{source}: {problem}") from None
    decoder = {f"c:{track.index}": track.decoder} if track.decoder else {}
    # One thread: several do not agree, from run to run, on whether a damaged frame can be patched up.
    stream = ffmpeg.input(_local(source), threads=1, **_bounds(), **decoder)[str(track.index)]
    stream = stream.filter("setpts", "PTS-STARTPTS").filter("settb", "AVTB")  # microseconds from the first frame
    if fps is None:
        first = {"start_frame": frame} if seconds is None else {"start_pts": round(seconds * 1_000_000)}
    else:
        # A thousand early: Matroska's rounding to milliseconds must not push a frame to the next slot.
        stream = stream.filter("setpts", f"PTS-{_EARLY}").filter("fps", str(_rate(fps)), round="up")
        first = {"start_frame": frame if seconds is None else math.ceil(seconds * _rate(fps))}
    return stream.filter("trim", **first)


def _fill(stream, short: str, available: int, frames: int):
    """Makes a stream of `available` frames `frames` long."""
    if short == "hold":
        return stream.filter("tpad", stop=frames - available, stop_mode="clone")
    return stream.filter("loop", loop=-1, size=available).filter("trim", end_frame=frames)


def _coloured(stream, track: _Track):
    """Frames without transparency, in SDR, with even sides."""
    if track.alpha:
        # Onto white: in the negative, white is 0, so that there the colour times its alpha is all.
        stream = stream.filter("scale", flags=_ACCURATE_FLAGS).filter("format", "gbrap")
        stream = stream.filter("negate").filter("premultiply", inplace=1)
        stream = stream.filter("format", "gbrp").filter("negate")
    if track.hdr:
        stream = stream.filter("zscale", transfer="linear", npl=_REFERENCE_WHITE).filter("format", "gbrpf32le")
        stream = stream.filter("zscale", primaries="bt709").filter("zscale", transfer="bt709", matrix="bt709")
    return stream.filter("crop", "trunc(iw/2)*2", "trunc(ih/2)*2", 0, 0)


def _encode(stream, path: Path, name: str | Path, pixels: bytes | None = None, **options) -> None:
    """Writes a stream as a clip; `pixels` goes to ffmpeg's standard input."""
    stream = stream.filter("scale", out_color_matrix="bt709", out_range="tv", flags=_ACCURATE_FLAGS)
    stream = stream.filter("format", "yuv420p")
    colours = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
    # Without map_metadata and map_chapters the source's place, title and chapters would come along.
    bare = {"map_metadata": -1, "map_chapters": -1}
    kind = {"format": "mp4", "vcodec": "libx264", "movflags": "+faststart"}
    _run(stream.output(_local(path), **kind, **colours, **bare, **options), name, pixels)


def _run(job, name: str | Path, pixels: bytes | None = None) -> int:
    """Runs ffmpeg; gives the number of frames written. Raises InputError, which names `name`, when it fails."""
    # Without xerror ffmpeg would patch up a frame that does not decode, and go on.
    job = job.global_args("-hide_banner", "-loglevel", "error", "-xerror", "-progress", "pipe:1").overwrite_output()
    if pixels is None:
        job = job.global_args("-nostdin")
    try:
        report, _ = job.run(imageio_ffmpeg.get_ffmpeg_exe(), capture_stdout=True, capture_stderr=True, input=pixels)
    except ffmpeg.Error as problem:
        lines = re.sub(r" @ 0x[0-9a-f]+", "", problem.stderr.decode(errors="replace")).splitlines()
        raise InputError(f"{name}: ffmpeg failed: {'; '.join(dict.fromkeys(lines))[:600]}") from problem
    return int(re.findall(rb"^frame=(\d+)", report, re.MULTILINE)[-1])


def _rate(fps: float) -> Fraction:
    """A frame rate as the fraction that is meant: 29.97002997 is 30000/1001."""
    rate = Fraction(fps).limit_denominator(1001) if 0 < fps <= _FASTEST else 0
    if not rate:
        raise InputError(f"fps is {fps}; a frame rate is above 0, and at most {_FASTEST}")
    return rate


def normalise_image(source: str | Path, destination: str | Path) -> None:
    """Writes the image as an RGB PNG of the same size, upright, transparency on white, no metadata. The numbers
    are kept as they are, also those of a colour profile other than sRGB. Raises InputError when it cannot be read."""
    image = _open_image(source)
    with atomic(destination) as part:
        image.save(part, format="PNG", icc_profile=None)


# Frames in memory


def read_frames(path: str | Path, indices: Iterable[int] | None = None) -> np.ndarray:
    """Frames of a video or image (a video of one frame): uint8 [F, H, W, 3], RGB, upright. `indices` picks frames, in
    its order, repeats allowed; None: all. Raises InputError when the file cannot be read or has no such frame."""
    if indices is None:
        return np.stack(list(_rgb_frames(path)))
    indices = list(indices)
    wanted, found = set(indices), {}
    for number, frame in enumerate(_rgb_frames(path, wanted)):
        if number in wanted:
            found[number] = frame
        if len(found) == len(wanted):
            break
    missing = sorted(wanted - found.keys())
    if missing:
        raise InputError(f"{path}: has no frame {missing[0]}")
    return np.stack([found[number] for number in indices])


def _rgb_frames(path: str | Path, wanted: set[int] | None = None) -> Iterator[np.ndarray | None]:
    """Each frame in turn, uint8 [H, W, 3]; None in place of one that is not `wanted`, which spares its conversion."""
    if media_kind(path) == "image":
        yield np.asarray(_open_image(path))
        return
    with _open_video(path) as (_, stream, frames):
        stream.thread_type = "AUTO"
        for number, frame in enumerate(frames):
            if wanted is not None and number not in wanted:
                yield None
            else:
                yield _upright(frame, frame.to_ndarray(format="rgb24", interpolation=_ACCURATE))


def _upright(frame: av.VideoFrame, pixels: np.ndarray) -> np.ndarray:
    """`pixels` [H, W, ...] of `frame`, turned and mirrored as its display matrix says: the point (x, y) is shown at
    (a x + c y, b x + d y). ffmpeg does the same on its own when it trims."""
    side = frame.side_data.get(SideData.DISPLAYMATRIX)
    if side is None:
        return pixels
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(side), np.int32).reshape(3, 3)
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def cover_crop(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames uint8 [F, H, W, 3] resized (antialiased, aspect kept) until they cover [height, width], and the overhang
    cut off evenly: uint8 [F, height, width, 3]."""
    source_height, source_width = frames.shape[1:3]
    scale = max(height / source_height, width / source_width)
    left, top = max(0.0, (source_width - width / scale) / 2), max(0.0, (source_height - height / scale) / 2)
    box = (left, top, source_width - left, source_height - top)
    resized = [Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS, box) for frame in frames]
    return np.stack([np.asarray(frame) for frame in resized])


def write_image(path: str | Path, frame: np.ndarray) -> None:
    """Writes a frame, uint8 [H, W, 3], as a PNG."""
    with atomic(path) as part:
        Image.fromarray(frame).save(part, format="PNG")


def write_video(path: str | Path, frames: np.ndarray, fps: float) -> None:
    """Writes frames uint8 [F, H, W, 3], RGB, F >= 1, as an MP4 that browsers play. Raises InputError for an odd height
    or width, which yuv420p cannot hold."""
    assert frames.ndim == 4 and len(frames) and frames.shape[3] == 3 and frames.dtype == np.uint8, (
        f"expected uint8 [F, H, W, 3], found {frames.dtype} {list(frames.shape)}"
    )
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise InputError(f"{path}: a video's sides must be even, found height {height} and width {width}")
    pipe = ffmpeg.input("pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=str(_rate(fps)))
    with atomic(path) as part:
        _encode(pipe, part, path, pixels=frames.tobytes(), crf=17)


# Frames as a zip


def write_frames_zip(clip: str | Path, destination: str | Path, folder: str) -> None:
    """Writes every frame of a video or image as a JPEG of quality 95 to one zip, uncompressed, as
    `folder`/00000.jpg and so on. The same clip gives the same bytes. Holds one frame in memory at a time."""
    with atomic(destination) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for number, frame in enumerate(_rgb_frames(clip)):
            jpeg = io.BytesIO()
            Image.fromarray(frame).save(jpeg, format="JPEG", quality=95)
            member = zipfile.ZipInfo(f"{folder}/{number:05d}.jpg", date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, jpeg.getvalue())


def read_frames_zip(path: str | Path) -> Iterator[tuple[str, Image.Image]]:
    """(member's name, RGB image) of each frame in a zip of `write_frames_zip`, in order, one in memory at a time.
    Raises InputError when the file is not such a zip."""
    with _reading(path, "a zip of frames"), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            yield name, Image.open(io.BytesIO(archive.read(name)), formats=("JPEG",)).convert("RGB")
