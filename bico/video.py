"""Videos and images as frames: probe, trim, read, write.

ffmpeg trims and writes, PyAV probes and reads, Pillow does the images. Everywhere a frame is uint8 RGB, upright as a
player shows it, and every clip written here is one kind of file: H.264 in MP4, yuv420p, limited range, BT.709, tagged
as such, constant frame rate, no sound, moov before mdat. A source without a colour tag is read as ffmpeg reads it
(BT.601). Pixels that are not square are left as they are.
"""

import bisect
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
from PIL import Image, ImageOps

from bico import InputError
from bico.files import atomic

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
SHORT = ("error", "loop", "hold")  # what `trim` may do when the source runs out of frames

# swscale's defaults trade two or three levels of colour for speed.
_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_ACCURATE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_HDR_TRANSFERS = (16, 18)  # AVCOL_TRC_SMPTE2084 (PQ) and AVCOL_TRC_ARIB_STD_B67 (HLG)
_EARLY = Fraction(1, 1000)  # seconds by which resampling looks ahead
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
    """A video stream as its packets and first frame tell it; `times` are seconds from the first frame, ascending."""

    index: int
    width: int
    height: int
    times: list[Fraction]
    fps: Fraction
    hdr: bool


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
    """Size, exact number of frames and average frame rate of a video or image. A video is read through once, but only
    its first frame is decoded. Raises InputError when the file cannot be read, is cut short, or has no video stream."""
    if media_kind(path) == "image":
        return Probe("image", *_open_image(path).size, frames=1, fps=None)
    track = _track(path)
    return Probe("video", track.width, track.height, len(track.times), float(track.fps))


def _track(path: str | Path) -> _Track:
    with _open_video(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise InputError(f"{path}: its video stream holds no frame")
        height, width = _upright(first, np.empty((first.height, first.width))).shape
        hdr = stream.codec_context.color_trc in _HDR_TRANSFERS
    with _open_video(path) as (container, stream):
        stamps = []
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise InputError(f"{path}: the file is cut short or damaged")
            if _is_shown(packet):
                stamps.append(packet.dts if packet.pts is None else packet.pts)
        if _is_cut_short(path):
            raise InputError(f"{path}: the file is cut short")
        if None in stamps or not stamps:
            raise InputError(f"{path}: its frames carry no times; convert it to MP4 first")
        start = min(stamps)
        times = sorted((stamp - start) * stream.time_base for stamp in stamps)
        return _Track(stream.index, width, height, times, _average_rate(stream, times), hdr)


def _average_rate(stream: av.VideoStream, times: list[Fraction]) -> Fraction:
    """The rate a container states is exact where it agrees with the frames' times (they may be rounded to a
    millisecond), and wrong for many a Matroska file whose rate varies. A lone frame without a rate lasts a second."""
    stated = stream.average_rate or stream.guessed_rate or Fraction(1)
    if not times[-1]:
        return stated
    measured = (len(times) - 1) / times[-1]
    return stated if abs(stated / measured - 1) < 0.01 else measured


def _is_shown(packet: av.Packet) -> bool:
    """Whether a packet becomes a frame: not the flush at the end, not cut away by an edit list, and not one of VP8's
    hidden reference frames (RFC 6386, 9.1: the show_frame bit)."""
    hidden = packet.size and packet.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10
    return bool(packet.size) and not packet.is_discard and not hidden


def _is_cut_short(path: str | Path) -> bool:
    """Whether the file ends before the frames that it announces, which ffmpeg takes for the end of the video."""
    end = Path(path).stat().st_size
    with open(path, "rb") as file:
        head = file.read(4096)
        if head.startswith(b"\x1aE\xdf\xa3"):
            return _matroska_end(head) > end
        position = 0
        while position < end:  # over the top-level boxes of MP4 and QuickTime; no other kind of file has an mdat
            file.seek(position)
            box = file.read(16)
            size, kind = int.from_bytes(box[:4]), box[4:8]
            if size == 1:  # it did not fit in 32 bits
                size = int.from_bytes(box[8:])
            if kind == b"mdat" and position + size > end:
                return True
            if size < 8:  # 0: up to the end of the file; else not a box
                return False
            position += size
    return False


def _matroska_end(head: bytes) -> int:
    """Where the Segment of a Matroska file ends, by the size it states; 0 when it states none (RFC 8794, 4)."""
    start = head.find(b"\x18\x53\x80\x67") + 4
    if start < 4 or start + 8 > len(head):
        return 0
    length = 9 - head[start].bit_length()
    unknown = (1 << 7 * length) - 1  # all bits set
    size = int.from_bytes(head[start : start + length]) & unknown
    return 0 if size == unknown else start + length + size


@contextlib.contextmanager
def _open_video(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    try:
        with av.open(_local(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise InputError(f"{path}: holds no video stream")
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as problem:
        raise InputError(f"{path}: cannot be read as a video: {problem.strerror}") from problem


def _local(path: str | Path) -> str:
    """A path that ffmpeg takes for neither an option ("-a.mp4") nor a protocol ("a:b.mp4")."""
    return str(Path(path).absolute())


def _open_image(path: str | Path) -> Image.Image:
    """The image, upright and RGB; transparency becomes white."""
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if not image.has_transparency_data:
                return image.convert("RGB")
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise InputError(f"{path}: cannot be read as an image: {problem}") from problem


# Trimming a source to a clip


def parse_start(text: str | int) -> tuple[int | None, Fraction | None]:
    """`start` of a clip as (frame, None) for "12" or (None, seconds) for "1.5s". Raises ValueError for other text."""
    found = re.fullmatch(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)s", str(text))
    if not found:
        raise ValueError(f'start {text!r} is neither a frame number such as "12" nor seconds such as "1.5s"')
    frame, seconds = found.groups()
    return (int(frame), None) if frame else (None, Fraction(seconds))


def first_frame(start: str | int, fps: float, times: list[Fraction] | None = None) -> int:
    """The number of the first frame that is not before `start`. The frames are `times` seconds from the first one,
    ascending; None: evenly spaced, `fps` a second. Raises ValueError for an ill-formed `start`."""
    frame, seconds = parse_start(start)
    if frame is not None:
        return frame
    return math.ceil(seconds * _rate(fps)) if times is None else bisect.bisect_left(times, seconds)


def frames_left(path: str | Path, start: str | int = "0", fps: float | None = None) -> int:
    """How many frames `trim` finds in a video from `start` on; not above 0 when `start` lies behind its end."""
    track = _track(path)
    if fps is None:
        return len(track.times) - first_frame(start, track.fps, track.times)
    duration = len(track.times) / track.fps
    return math.ceil((duration - _EARLY) * _rate(fps)) - first_frame(start, fps)


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
    resample = fps is not None
    try:
        rate = _rate(fps if resample else track.fps)
        first = first_frame(start, rate, None if resample else track.times)
    except ValueError as problem:
        raise InputError(f"{source}: {problem}") from None
    chosen = ffmpeg.input(_local(source))[str(track.index)]
    if resample:
        # In microseconds, a thousand early: Matroska's rounding to milliseconds must not push a frame to the next slot.
        chosen = chosen.filter("settb", "AVTB").filter("setpts", f"PTS-STARTPTS-{_EARLY * 1_000_000}")
        chosen = chosen.filter("fps", str(rate), round="up")
    chosen = chosen.filter("trim", start_frame=first, end_frame=first + frames)
    with atomic(destination) as part:
        available = _encode_trimmed(chosen, part, rate, track.hdr, source)
        if available < frames:
            if short == "error" or not available:
                raise InputError(
                    f"{source}: has {available} frames from start {start}, but the clip needs {frames}; allowed: an "
                    f"earlier start, fewer frames, or short: loop or hold (which need at least 1 frame to go on from)"
                )
            _encode_trimmed(_fill(chosen, short, available, frames), part, rate, track.hdr, source)
        written = probe(part).frames
        if written != frames:
            raise InputError(f"{source}: ffmpeg wrote a clip of {written} frames instead of {frames}")


def _fill(stream, short: str, available: int, frames: int):
    """Makes a stream of `available` frames `frames` long."""
    if short == "hold":
        return stream.filter("tpad", stop=frames - available, stop_mode="clone")
    return stream.filter("loop", loop=-1, size=available).filter("trim", end_frame=frames)


def _encode_trimmed(stream, path: Path, rate: Fraction, hdr: bool, source: str | Path) -> int:
    if hdr:
        stream = stream.filter("zscale", transfer="linear", npl=_REFERENCE_WHITE).filter("format", "gbrpf32le")
        stream = stream.filter("zscale", primaries="bt709").filter("zscale", transfer="bt709", matrix="bt709")
    stream = stream.filter("crop", "trunc(iw/2)*2", "trunc(ih/2)*2", 0, 0)
    # New times, one step of 1/rate each, that the encoder passes through: nothing is left for which ffmpeg would drop
    # or double a frame.
    stream = stream.filter("settb", str(1 / rate)).filter("setpts", "N")
    return _encode(stream, path, source, crf=10, fps_mode="passthrough", enc_time_base=str(1 / rate))


def _encode(stream, path: Path, name: str | Path, pixels: bytes | None = None, **options) -> int:
    """Runs ffmpeg; gives the number of frames written. `pixels` goes to its standard input."""
    stream = stream.filter("scale", out_color_matrix="bt709", out_range="tv", flags=_ACCURATE_FLAGS)
    stream = stream.filter("format", "yuv420p")
    colours = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709", "color_range": "tv"}
    # Without map_metadata and map_chapters the source's place, title and chapters would come along.
    bare = {"map_metadata": -1, "map_chapters": -1}
    job = stream.output(
        _local(path), format="mp4", vcodec="libx264", movflags="+faststart", **colours, **bare, **options
    )
    # Without xerror ffmpeg would patch up a frame that does not decode, and go on.
    job = job.global_args("-hide_banner", "-loglevel", "error", "-xerror", "-progress", "pipe:1").overwrite_output()
    if pixels is None:
        job = job.global_args("-nostdin")
    try:
        report, _ = job.run(imageio_ffmpeg.get_ffmpeg_exe(), capture_stdout=True, capture_stderr=True, input=pixels)
    except ffmpeg.Error as problem:
        tail = problem.stderr.decode(errors="replace").strip()[-600:]
        raise InputError(f"{name}: ffmpeg failed:\n{tail}") from problem
    return int(re.findall(rb"^frame=(\d+)", report, re.MULTILINE)[-1])


def _rate(fps: float) -> Fraction:
    """A frame rate as the fraction that is meant: 29.97002997 is 30000/1001."""
    rate = Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise InputError(f"fps is {fps}; a frame rate is above 0")
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
    with _open_video(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
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
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name, Image.open(io.BytesIO(archive.read(name))).convert("RGB")
    except (OSError, zipfile.BadZipFile) as problem:
        raise InputError(f"{path}: cannot be read as a zip of frames: {problem}") from problem
