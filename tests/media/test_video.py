"""Every synthetic frame shows its own number as eight black or white bars, so that what a clip holds can be read back
from its pixels."""

import dataclasses
import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageCms

from bico import InputError
from bico.media.video import (
    cover_crop,
    frames_left,
    media_kind,
    normalise_image,
    parse_start,
    probe,
    read_frames,
    read_frames_zip,
    trim,
    write_frames_zip,
    write_video,
)
from bico.plan.config import load_config
from bico.plan.tables import load_tables, media_problems
from bico.settings.model_file import load_model
from tests import ROOT

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DATA = ROOT / "tests/data/media"
PLAY_GAME = ROOT / "resources/media/play_game_1.mp4"
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]
COLOURS += [(255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 90), (30, 200, 90), (90, 30, 200)]


# Making and reading sources


def numbered(numbers, height=48, width=64) -> np.ndarray:
    """uint8 [F, H, W, 3]: frame i shows numbers[i]."""
    bars = (np.asarray(numbers)[:, None] >> np.arange(8) & 1).astype(np.uint8) * 255
    row = bars[:, np.arange(width) * 8 // width]
    return np.ascontiguousarray(np.broadcast_to(row[:, None, :, None], (len(row), height, width, 3)))


def numbers_of(frames: np.ndarray) -> list[int]:
    width = frames.shape[2]
    centres = (np.arange(8) * 2 + 1) * width // 16
    bits = frames[:, frames.shape[1] // 2, centres, 1] > 128
    return (bits << np.arange(8)).sum(1).tolist()


def make_source(path, frames, fps=30, times=None, codec="libx264", pix_fmt="yuv444p") -> Path:
    """Writes frames with PyAV, at `times` seconds when given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": "8"} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.codec_context.time_base = Fraction(1, 12000)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round((times[i] if times else i / fps) * 12000), Fraction(1, 12000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def ffmpeg(*arguments, data=b"") -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def decoded_by_ffmpeg(path, height, width) -> np.ndarray:
    raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def patchwork() -> np.ndarray:
    """uint8 [96, 128, 3]: a patch of 32 x 32 for each of COLOURS."""
    return np.array(COLOURS, np.uint8).reshape(3, 4, 3).repeat(32, 0).repeat(32, 1)


def patches(image) -> np.ndarray:
    """The mean colour inside each patch: [12, 3]."""
    inner = image.reshape(3, 32, 4, 32, 3)[:, 8:24, :, 8:24]
    return inner.astype(float).mean((1, 3)).reshape(12, 3)


def boxes_of(mp4: bytes) -> list[bytes]:
    kinds, position = [], 0
    while position < len(mp4):
        kinds.append(mp4[position + 4 : position + 8])
        position += int.from_bytes(mp4[position : position + 4])
    return kinds


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """40 frames at 30 frames a second, numbered 0 to 39."""
    return make_source(tmp_path_factory.mktemp("source") / "source.mp4", numbered(range(40)))


# Kinds of media and probing


def test_media_kind_goes_by_suffix_and_names_the_allowed_ones():
    assert media_kind("a/B.JPEG") == "image"
    assert media_kind("a.webm") == "video"
    with pytest.raises(InputError, match=r"a\.txt.*\.png.*\.mp4"):
        media_kind("a.txt")


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
def test_probe_counts_frames_exactly_whatever_the_container(tmp_path, name):
    codec = {"codec": "mpeg4", "pix_fmt": "yuv420p"} if name.endswith("avi") else {}
    found = probe(make_source(tmp_path / name, numbered(range(37)), fps=25, **codec))
    assert (found.kind, found.width, found.height, found.frames, found.fps) == ("video", 64, 48, 37, 25.0)


def test_probe_does_not_count_vp8s_hidden_frames(tmp_path):
    clip = tmp_path / "a.webm"
    source = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=30:d=3", "-c:v", "libvpx", "-b:v", "300k"]
    for number in "12":
        ffmpeg(*source, "-auto-alt-ref", 1, "-lag-in-frames", 16, "-passlogfile", tmp_path / "l", "-pass", number, clip)
    with av.open(str(clip)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) > 90, "the source has no hidden frames"
    assert probe(clip).frames == 90 == len(decoded_by_ffmpeg(clip, 120, 160))


def test_probe_does_not_count_frames_that_an_edit_list_cuts_away(tmp_path, source):
    ffmpeg("-ss", "0.5", "-i", source, "-c", "copy", tmp_path / "cut.mp4")
    assert probe(tmp_path / "cut.mp4").frames == len(read_frames(tmp_path / "cut.mp4")) == 25
    trim(tmp_path / "cut.mp4", tmp_path / "clip.mp4", 3, "1")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [16, 17, 18]


def test_probe_states_the_average_rate_when_the_rate_varies(tmp_path):
    times = [0, 0.1, 0.2, 0.5, 1.0]
    for name in ("a.mp4", "a.mkv"):
        assert probe(make_source(tmp_path / name, numbered(range(5)), times=times)).fps == pytest.approx(4, rel=0.25)


def test_of_several_video_streams_the_main_one_is_taken(tmp_path, source):
    still = make_source(tmp_path / "still.mp4", numbered([200], 32, 32))
    ffmpeg("-i", still, "-i", source, "-map", 0, "-map", 1, "-c", "copy", tmp_path / "two.mov")
    assert (probe(tmp_path / "two.mov").width, probe(tmp_path / "two.mov").frames) == (64, 40)
    trim(tmp_path / "two.mov", tmp_path / "clip.mp4", 2, "6")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [6, 7]


def whole_text(tmp_path, source):
    return b"not a video\n" * 100


def nothing(tmp_path, source):
    return b""


def first_half(tmp_path, source):
    return source.read_bytes()[: source.stat().st_size // 2]


def up_to_a_frame(path: Path) -> bytes:
    """The file up to where its last but tenth frame begins, so that no frame is torn."""
    with av.open(str(path)) as container:
        starts = sorted(packet.pos for packet in container.demux(video=0) if packet.size)
    return path.read_bytes()[: starts[-10]]


def first_frames_of_faststart(tmp_path, source):
    ffmpeg("-i", source, "-c", "copy", "-movflags", "faststart", tmp_path / "fast.mp4")
    return up_to_a_frame(tmp_path / "fast.mp4")


def torn_frame_of_faststart(tmp_path, source):
    return first_frames_of_faststart(tmp_path, source) + b"torn"


def first_frames_of_matroska(tmp_path, source):
    ffmpeg("-i", source, "-c", "copy", tmp_path / "whole.mkv")
    return up_to_a_frame(tmp_path / "whole.mkv")


def torn_frame_of_avi(tmp_path, source):
    ffmpeg("-i", source, "-c:v", "mpeg4", tmp_path / "whole.avi")
    whole = (tmp_path / "whole.avi").read_bytes()
    return whole[: whole.rindex(b"idx1") - 5]


def sound_only(tmp_path, source):
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", tmp_path / "sound.mp4")
    return (tmp_path / "sound.mp4").read_bytes()


UNREADABLE = [whole_text, nothing, first_half, sound_only]
UNREADABLE += [first_frames_of_faststart, torn_frame_of_faststart, first_frames_of_matroska, torn_frame_of_avi]


@pytest.mark.parametrize("content", UNREADABLE)
def test_an_unreadable_video_is_refused_by_name_and_leaves_no_clip(tmp_path, source, content):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content(tmp_path, source))
    with pytest.raises(InputError, match=r"broken\.mp4"):
        probe(broken)
    with pytest.raises(InputError, match=r"broken\.mp4"):
        trim(broken, tmp_path / "out" / "clip.mp4", 2)
    assert not list(tmp_path.glob("out/*"))


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    for name in ("none.mp4", "none.png"):
        with pytest.raises(InputError, match=rf"{name}.*No such file"):
            probe(tmp_path / name)


def test_a_video_damaged_in_the_middle_is_refused_with_ffmpegs_own_words(tmp_path, source):
    content = bytearray(source.read_bytes())
    content[len(content) // 3 : len(content) // 2] = b"\x55" * (len(content) // 2 - len(content) // 3)
    (tmp_path / "damaged.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"(?s)damaged\.mp4: ffmpeg failed.*h264"):
        trim(tmp_path / "damaged.mp4", tmp_path / "clip.mp4", 40)
    assert not (tmp_path / "clip.mp4").exists()


CUT = {
    "mpeg4.avi": ["-c:v", "mpeg4"],
    "jpegs.avi": ["-c:v", "mjpeg"],
    "index_last.mp4": ["-c:v", "libx264"],
    "index_first.mov": ["-c:v", "libx264", "-movflags", "faststart"],
    "fragments.mp4": ["-c:v", "libx264", "-g", "10", "-movflags", "frag_keyframe+empty_moov"],
    "sized.mkv": ["-c:v", "libx264"],
    "live.webm": ["-c:v", "libvpx", "-f", "webm", "-live", "1"],
    "program.mkv": ["-c:v", "mpeg2video", "-f", "vob"],
    "transport.mp4": ["-c:v", "libx264", "-f", "mpegts"],
}


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, name):
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2", *CUT[name], tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    assert frames_left(tmp_path / name, 1000) == 50
    for part in range(1, 14):
        (tmp_path / name).write_bytes(whole[: len(whole) * part // 14])
        with pytest.raises(InputError, match=name):
            frames_left(tmp_path / name, 1000)


# Starts


def test_a_start_is_a_frame_number_or_seconds():
    assert parse_start("12") == (12, None)
    assert parse_start(12) == (12, None)
    assert parse_start("1.5s") == (None, 1.5)
    assert parse_start("2s") == (None, 2)


@pytest.mark.parametrize("text", ["-3", "abc", "1.5", "", "s", "1.5 s", "1e3s", "-1s", "12\n", "None"])
def test_an_ill_formed_start_is_refused_with_what_is_allowed(text):
    with pytest.raises(ValueError, match=r'"12" nor seconds such as "1.5s"'):
        parse_start(text)


# Trimming: which frames


def test_a_clip_starts_at_the_frame_asked_for(tmp_path, source):
    trim(source, tmp_path / "clip.mp4", 9, "11")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == list(range(11, 20))
    assert probe(tmp_path / "clip.mp4").fps == 30


def test_a_clip_starts_at_the_first_frame_not_before_the_seconds_asked_for(tmp_path, source):
    trim(source, tmp_path / "clip.mp4", 3, "0.5s")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [15, 16, 17]
    trim(source, tmp_path / "clip.mp4", 3, "0.501s")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [16, 17, 18]


def test_the_start_in_seconds_counts_after_resampling(tmp_path, source):
    trim(source, tmp_path / "clip.mp4", 3, "0.5s", fps=10)
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [15, 18, 21]
    trim(source, tmp_path / "clip.mp4", 3, "0.51s", fps=10)
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [18, 21, 24]
    trim(source, tmp_path / "clip.mp4", 3, "5", fps=10)
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [15, 18, 21]


def test_resampling_takes_what_a_player_shows_at_each_moment_of_the_new_rate(tmp_path, source):
    trim(source, tmp_path / "clip.mp4", 22, fps=16)
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [k * 30 // 16 for k in range(22)]
    assert probe(tmp_path / "clip.mp4").fps == 16
    trim(source, tmp_path / "clip.mp4", 6, fps=60)
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["varies.mp4", "varies.mkv"])
def test_no_frame_is_dropped_or_doubled_when_the_rate_varies(tmp_path, name):
    times = np.cumsum([0.0] + [0.01, 0.3, 0.04, 0.02, 1.1, 0.033] * 5).tolist()
    make_source(tmp_path / name, numbered(range(31)), times=times)
    trim(tmp_path / name, tmp_path / "clip.mp4", 31)
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == list(range(31))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stamps = sorted(packet.pts for packet in container.demux(video=0) if packet.size)
    assert len(set(np.diff(stamps))) == 1, "the clip's own rate is constant"
    trim(tmp_path / name, tmp_path / "clip.mp4", 2, "0.4s")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [5, 6], "frame 5 is at 1.47 s, frame 4 at 0.37 s"


@pytest.mark.parametrize(("name", "rate"), [("a.mkv", 30), ("a.mkv", 24000 / 1001), ("a.mov", 30000 / 1001)])
def test_resampling_to_the_sources_own_rate_changes_nothing(tmp_path, name, rate):
    make_source(tmp_path / name, numbered(range(40)), fps=Fraction(rate).limit_denominator(1001))
    trim(tmp_path / name, tmp_path / "clip.mp4", 40, fps=rate)
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == list(range(40))


def test_resampling_a_varying_rate_goes_by_the_frames_times(tmp_path):
    make_source(tmp_path / "a.mp4", numbered(range(4)), times=[0, 0.1, 0.5, 0.6])
    trim(tmp_path / "a.mp4", tmp_path / "clip.mp4", 7, fps=10)
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [0, 1, 1, 1, 1, 2, 3]


def test_a_short_source_is_an_error_that_says_how_many_frames_there_are(tmp_path, source):
    with pytest.raises(InputError, match=r"source\.mp4: has 5 frames from start 35, but the clip needs 6.*loop"):
        trim(source, tmp_path / "clip.mp4", 6, "35")
    assert not list(tmp_path.iterdir())
    trim(source, tmp_path / "clip.mp4", 5, "35")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [35, 36, 37, 38, 39]


def test_loop_starts_over_from_the_start(tmp_path, source):
    trim(source, tmp_path / "clip.mp4", 8, "37", short="loop")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [37, 38, 39, 37, 38, 39, 37, 38]


def test_hold_repeats_the_last_frame(tmp_path, source):
    trim(source, tmp_path / "clip.mp4", 8, "37", short="hold")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [37, 38, 39, 39, 39, 39, 39, 39]


def test_loop_and_hold_change_nothing_when_there_are_frames_enough_and_work_on_resampled_ones(tmp_path, source):
    for short in ("loop", "hold"):
        trim(source, tmp_path / "clip.mp4", 4, "36", short=short)
        assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [36, 37, 38, 39]
    trim(source, tmp_path / "clip.mp4", 5, "12", fps=10, short="loop")
    assert numbers_of(read_frames(tmp_path / "clip.mp4")) == [36, 39, 36, 39, 36]


@pytest.mark.parametrize("short", ["error", "loop", "hold"])
def test_a_start_after_the_end_is_an_error_always(tmp_path, source, short):
    for start in ("40", "9s"):
        with pytest.raises(InputError, match=rf"has 0 frames from start {start}"):
            trim(source, tmp_path / "clip.mp4", 1, start, short=short)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"short": "stretch"}, "short is 'stretch'.*hold"), ({"frames": 0}, "at least 1"), ({"fps": 0}, "above 0")],
)
def test_impossible_settings_are_refused(tmp_path, source, settings, said):
    with pytest.raises(InputError, match=said):
        trim(source, tmp_path / "clip.mp4", **{"frames": 1} | settings)


def test_play_game_gives_its_81_frames_as_they_are(tmp_path):
    trim(PLAY_GAME, tmp_path / "clip.mp4", 81)
    assert probe(tmp_path / "clip.mp4") == probe(PLAY_GAME)
    found, expected = read_frames(tmp_path / "clip.mp4"), read_frames(PLAY_GAME)
    assert found.shape == (81, 480, 864, 3)
    assert np.abs(found.astype(np.int16) - expected).mean() < 1.5
    with pytest.raises(InputError, match="has 81 frames"):
        trim(PLAY_GAME, tmp_path / "more.mp4", 82)


# Trimming: what the frames look like


@pytest.mark.parametrize("flags", [["90"], ["180"], ["270"], ["90", "-display_hflip"], ["0", "-display_hflip"]])
def test_rotation_and_mirroring_are_honoured_in_probe_reading_and_trimming(tmp_path, source, flags):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255
    picture[:24, 32:] = 120
    plain = make_source(tmp_path / "plain.mp4", np.stack([picture] * 3))
    ffmpeg("-display_rotation", *flags, "-i", plain, "-c", "copy", tmp_path / "turned.mp4")
    found = probe(tmp_path / "turned.mp4")
    upright = decoded_by_ffmpeg(tmp_path / "turned.mp4", found.height, found.width)
    assert (found.height, found.width) == ((48, 64) if flags[0] in ("0", "180") else (64, 48))
    assert np.abs(upright[0].astype(int) - read_frames(plain)[0].reshape(upright[0].shape)).max() > 100, "not turned"
    trim(tmp_path / "turned.mp4", tmp_path / "clip.mp4", 3)
    for path in ("turned.mp4", "clip.mp4"):
        assert np.abs(read_frames(tmp_path / path).astype(int) - upright).max() < 12


@pytest.mark.parametrize(("height", "width"), [(47, 63), (48, 63), (47, 64)])
def test_an_odd_side_loses_its_last_row_or_column(tmp_path, height, width):
    shades = (np.arange(height)[:, None] * 2 + np.arange(width)[None]).astype(np.uint8)
    odd = make_source(tmp_path / "odd.mkv", np.stack([shades] * 2)[..., None].repeat(3, 3))
    assert (probe(odd).height, probe(odd).width) == (height, width)
    trim(odd, tmp_path / "clip.mp4", 2)
    found = read_frames(tmp_path / "clip.mp4")
    assert found.shape == (2, height // 2 * 2, width // 2 * 2, 3)
    assert np.abs(found.astype(int) - shades[: found.shape[1], : found.shape[2], None]).max() <= 4


ENCODINGS = {
    "untagged": ["-c:v", "libx264", "-pix_fmt", "yuv420p"],
    "bt709": ["-vf", "scale=out_color_matrix=bt709,format=yuv420p", "-colorspace", "bt709"],
    "full range": ["-vf", "scale=out_color_matrix=bt709:out_range=pc,format=yuv420p", "-color_range", "pc"],
    "rgb": ["-c:v", "libx264rgb"],
    "ten bits": ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"],
    "motion jpeg": ["-c:v", "mjpeg", "-q:v", "1", "-pix_fmt", "yuvj420p"],
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_clips_colours_are_its_sources_however_that_is_encoded(tmp_path, encoding):
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96", "-r", "16", "-i", "-"]
    ffmpeg(*raw, *ENCODINGS[encoding], "-crf", "8", tmp_path / "a.mov", data=patchwork().tobytes() * 2)
    trim(tmp_path / "a.mov", tmp_path / "clip.mp4", 2)
    for frame in (read_frames(tmp_path / "clip.mp4")[1], decoded_by_ffmpeg(tmp_path / "clip.mp4", 96, 128)[1]):
        assert np.abs(patches(frame) - patches(patchwork())).max() <= 4


@pytest.mark.parametrize("transfer", ["arib-std-b67", "smpte2084"])
def test_hdr_becomes_sdr_with_its_colours_kept(tmp_path, transfer):
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96", "-r", "16", "-i", "-"]
    sdr = "format=gbrp,setparams=colorspace=gbr:color_primaries=bt709:color_trc=bt709:range=pc"
    light = "zscale=t=linear:npl=203,format=gbrpf32le"
    hdr = f"zscale=p=bt2020:t={transfer}:m=bt2020nc:r=tv:npl=203,format=yuv420p10le"
    tags = ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", transfer]
    ffmpeg(*raw, "-vf", f"{sdr},{light},{hdr}", "-crf", 6, *tags, tmp_path / "a.mp4", data=patchwork().tobytes() * 2)
    trim(tmp_path / "a.mp4", tmp_path / "clip.mp4", 2)
    wrong = np.abs(patches(read_frames(tmp_path / "clip.mp4")[0]) - patches(patchwork()))
    assert np.median(wrong) <= 3 and wrong.max() <= 30, "pure primaries lie on the gamut's edge, where 10 bits are few"


def test_a_clip_is_yuv420p_h264_with_its_index_first_and_nothing_but_video(tmp_path, source):
    tone = ["-f", "lavfi", "-i", "sine=d=1", "-c:v", "copy", "-metadata", "location=+40.0-074.0/"]
    ffmpeg("-i", source, *tone, tmp_path / "sounding.mp4")
    trim(tmp_path / "sounding.mp4", tmp_path / "clip.mp4", 5)
    write_video(tmp_path / "written.mp4", numbered(range(5)), 30)
    for name in ("clip.mp4", "written.mp4"):
        with av.open(str(tmp_path / name)) as container:
            (stream,) = container.streams
            context = stream.codec_context
            assert (context.name, context.pix_fmt, context.colorspace, context.color_range) == ("h264", "yuv420p", 1, 1)
            assert "location" not in container.metadata
        boxes = boxes_of((tmp_path / name).read_bytes())
        assert boxes.index(b"moov") < boxes.index(b"mdat")


# Images


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(tmp_path, orientation):
    turn = [lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, lambda a: a.swapaxes(0, 1)]
    turn += [lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).swapaxes(0, 1), np.rot90]
    pixels = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif, icc_profile=SRGB)
    upright = turn[orientation - 1](pixels)
    found = probe(tmp_path / "photo.png")
    assert (found.kind, found.height, found.width, found.frames, found.fps) == ("image", *upright.shape[:2], 1, None)
    normalise_image(tmp_path / "photo.png", tmp_path / "upright.png")
    with Image.open(tmp_path / "upright.png") as image:
        assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})
        assert np.array_equal(np.asarray(image), upright)
    assert np.array_equal(read_frames(tmp_path / "photo.png"), upright[None])


def test_transparency_becomes_white_and_every_mode_becomes_rgb(tmp_path):
    clear = Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    clear.putpixel((0, 0), (255, 0, 0, 255))
    clear.putpixel((1, 0), (255, 0, 0, 128))
    clear.save(tmp_path / "clear.png")
    (pixels,) = read_frames(tmp_path / "clear.png")
    assert pixels[0, :3].tolist() == [[255, 0, 0], [255, 127, 127], [255, 255, 255]]
    Image.fromarray(np.full((2, 4), 200 * 257, np.uint16)).save(tmp_path / "deep.png")
    assert np.unique(read_frames(tmp_path / "deep.png")).tolist() == [200]
    Image.new("P", (4, 2), 0).save(tmp_path / "palette.png")
    Image.new("CMYK", (4, 2)).save(tmp_path / "ink.jpg")
    assert read_frames(tmp_path / "palette.png").shape == read_frames(tmp_path / "ink.jpg").shape == (1, 2, 4, 3)


def test_an_unreadable_image_is_refused_by_name(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:1500])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.webp").touch()
    for name in ("cut.jpg", "text.png", "empty.webp"):
        for read in (probe, read_frames, lambda path: normalise_image(path, tmp_path / "out.png")):
            with pytest.raises(InputError, match=f"{name}: cannot be read as an image"):
                read(tmp_path / name)
    assert not (tmp_path / "out.png").exists()


# Reading and writing frames


def test_written_colours_come_back_and_an_independent_reader_agrees(tmp_path):
    frames = np.stack([patchwork(), patchwork()[::-1, ::-1], patchwork()])
    write_video(tmp_path / "a.mp4", frames, 16)
    ours, theirs = read_frames(tmp_path / "a.mp4"), decoded_by_ffmpeg(tmp_path / "a.mp4", 96, 128)
    assert ours.shape == theirs.shape == frames.shape
    for mine, other, expected in zip(ours, theirs, frames, strict=True):
        assert np.abs(patches(mine) - patches(expected)).max() <= 4
        assert np.abs(patches(other) - patches(expected)).max() <= 4


@pytest.mark.parametrize(("count", "fps"), [(1, 16), (33, 16), (81, 24000 / 1001)])
def test_every_written_frame_comes_back_in_order_at_the_rate_given(tmp_path, count, fps):
    write_video(tmp_path / "a.mp4", numbered(range(count)), fps)
    assert probe(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=1e-9)
    assert numbers_of(read_frames(tmp_path / "a.mp4")) == list(range(count))
    assert numbers_of(decoded_by_ffmpeg(tmp_path / "a.mp4", 48, 64)) == list(range(count))


def test_an_odd_side_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"a\.mp4.*even.*height 47 and width 64"):
        write_video(tmp_path / "a.mp4", numbered([1], height=47), 16)
    assert not list(tmp_path.iterdir())


def test_frames_are_picked_by_index_in_the_order_asked(tmp_path, source):
    assert numbers_of(read_frames(source, [7, 3, 3, 39])) == [7, 3, 3, 39]
    for missing in (40, -1):
        with pytest.raises(InputError, match=f"has no frame {missing}"):
            read_frames(source, [0, missing])


def test_cover_crop_keeps_the_aspect_and_the_centre():
    yy, xx = np.mgrid[:100, :200]
    disc = ((yy - 50) ** 2 + (xx - 100) ** 2 < 40**2).astype(np.uint8) * 255
    (cropped,) = cover_crop(disc[None, :, :, None].repeat(3, 3), 60, 60)[..., 0]
    assert cropped.shape == (60, 60)
    rows, columns = np.nonzero(cropped > 128)
    assert abs(np.ptp(rows) - 48) <= 2 and abs(np.ptp(columns) - 48) <= 2, "a disc of 0.8 of the height stays one"
    assert abs(rows.mean() - 29.5) < 1 and abs(columns.mean() - 29.5) < 1


@pytest.mark.parametrize(("height", "width"), [(480, 832), (64, 64), (37, 91), (97, 13)])
def test_cover_crop_gives_the_size_asked_for_and_cuts_only_one_axis(height, width):
    frames = np.random.default_rng(0).integers(0, 256, (2, 53, 71, 3), np.uint8)
    assert cover_crop(frames, height, width).shape == (2, height, width, 3)
    assert np.array_equal(cover_crop(frames, 53, 71), frames)


def test_a_zip_of_frames_holds_each_as_a_jpeg_and_is_the_same_every_time(tmp_path, source):
    for name in ("one.zip", "two.zip"):
        write_frames_zip(source, tmp_path / name, "boat")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        fixed = {(member.compress_type, member.date_time) for member in archive.infolist()}
        assert fixed == {(zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))}
        assert Image.open(io.BytesIO(archive.read("boat/00007.jpg"))).format == "JPEG"
    names, images = zip(*read_frames_zip(tmp_path / "one.zip"), strict=True)
    assert list(names) == [f"boat/{number:05d}.jpg" for number in range(40)]
    found = np.stack([np.asarray(image) for image in images])
    assert np.abs(found.astype(int) - read_frames(source)).mean() < 1.5
    assert numbers_of(found) == list(range(40))


def test_a_zip_of_an_image_holds_one_frame_and_a_broken_zip_is_refused(tmp_path):
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    write_frames_zip(tmp_path / "a.png", tmp_path / "a.zip", "dog")
    assert [(name, image.size) for name, image in read_frames_zip(tmp_path / "a.zip")] == [("dog/00000.jpg", (8, 6))]
    with pytest.raises(InputError, match=r"a\.png: cannot be read as a zip"):
        list(read_frames_zip(tmp_path / "a.png"))


# The scripts


def script(name: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts" / name, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def test_the_trim_script_makes_clips_and_images_and_shows_a_mistake_in_one_line(tmp_path, source):
    settings = json.dumps({"frames": 4, "start": "3"})
    done = script("trim.py", "--source", source, "--output", tmp_path / "c.mp4", "--settings", settings)
    assert done.returncode == 0, done.stderr
    assert numbers_of(read_frames(tmp_path / "c.mp4")) == [3, 4, 5, 6]
    Image.new("L", (9, 7), 40).save(tmp_path / "a.jpg")
    done = script("trim.py", "--source", tmp_path / "a.jpg", "--output", tmp_path / "a.png", "--settings", settings)
    assert done.returncode == 0 and probe(tmp_path / "a.png").width == 9, done.stderr
    settings = json.dumps({"frames": 400})
    done = script("trim.py", "--source", source, "--output", tmp_path / "no.mp4", "--settings", settings)
    assert done.returncode == 1 and "has 40 frames" in done.stderr and "Traceback" not in done.stderr
    done = script("trim.py", "--source", source, "--output", tmp_path / "no.mp4", "--settings", '{"begin": 3}')
    assert done.returncode == 1 and "'begin' is unknown" in done.stderr and "Traceback" not in done.stderr


def test_the_frames_script_writes_the_zip(tmp_path, source):
    done = script("frames.py", "--clip", source, "--folder", "boat", "--output", tmp_path / "a.zip")
    assert done.returncode == 0 and len(list(read_frames_zip(tmp_path / "a.zip"))) == 40, done.stderr


@pytest.mark.parametrize(
    ("start", "fps"), [("0", None), ("7", None), ("0.5s", None), ("0", 12), ("0.5s", 12), ("3", 25)]
)
def test_the_frames_left_are_as_many_as_a_trim_finds(tmp_path, start, fps):
    source = tmp_path / "source.mp4"
    write_video(source, np.zeros((40, 16, 16, 3), np.uint8), 30)
    left = frames_left(source, 1000, start, fps)
    assert frames_left(source, left - 1, start, fps) == left - 1
    trim(source, tmp_path / "clip.mp4", left, start=start, fps=fps)
    with pytest.raises(InputError, match=f"has {left} frames"):
        trim(source, tmp_path / "clip.mp4", left + 1, start=start, fps=fps)


# What people, recorders and other programs give as a source


def planned(concepts: str, frames: int = 9) -> list[str]:
    """What planning says against a table of concepts."""
    Path("concepts.csv").write_text(concepts, "utf-8")
    Path("compositions.csv").write_text("composition,prompt\n", "utf-8")
    model = dataclasses.replace(load_model(ROOT / "config/models/tiny.yaml", "weights"), frames=frames)
    try:
        manifest = load_tables("concepts.csv", "compositions.csv", model)
    except InputError as problem:
        return problem.problems
    return media_problems(manifest, "concepts.csv", model)


def agree(source, start="0", fps=None) -> int:
    """How many frames planning counts from `start` on, after a trim has found just as many."""
    left, clip = frames_left(source, 1000, start, fps), Path("agreed.mp4")
    trim(source, clip, left, start, fps)
    assert len(read_frames(clip)) == left
    with pytest.raises(InputError, match=f"has {left} frames"):
        trim(source, clip, left + 1, start, fps)
    return left


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
def test_tags_that_are_not_utf8_do_not_matter(here, name):
    make_source("plain.mkv", numbered(range(12)), codec="mpeg4", pix_fmt="yuv420p")
    tag = ["-metadata", "title=Xmelie", "-metadata:s:v", "title=Xmelie"]
    ffmpeg("-i", "plain.mkv", "-c", "copy", *tag, "-metadata:s:v", "handler_name=Xmelie", name)
    content = Path(name).read_bytes()
    assert b"Xmelie" in content
    Path(name).write_bytes(content.replace(b"Xmelie", "Émelie".encode("latin-1")))
    assert agree(name) == 12
    assert planned(f"concept,source\na,{name}\n") == []


def test_a_recording_that_begins_between_key_frames_begins_with_the_first_frame_that_decodes(here):
    recording = DATA / "between_keys.mkv"
    assert (probe(recording).frames, agree(recording)) == (108, 32)
    assert (agree(recording, "2"), agree(recording, "0.4s"), agree(recording, "0.4s", 5)) == (30, 22, 5)
    assert planned(f"concept,source\na,{recording}\n", 33) == [
        f"concepts.csv, row 2, source: {recording} has 32 frames from start 0, the model needs 33; "
        "allowed: a longer video, or `short` loop or hold"
    ]


@pytest.mark.parametrize(("codec", "kind"), [("libx264", "mpegts"), ("mpeg2video", "mpegts"), ("mpeg2video", "vob")])
def test_a_broadcast_that_begins_anywhere_can_be_trimmed(here, codec, kind):
    make_source("whole.mkv", numbered(range(60)), codec="mpeg4", pix_fmt="yuv420p")
    ffmpeg("-i", "whole.mkv", "-c:v", codec, "-g", 20, "-b:v", "2M", "-f", kind, "whole.mp4")
    content = Path("whole.mp4").read_bytes()
    begin = len(content) // 6 // 188 * 188 if kind == "mpegts" else content.index(b"\0\0\1\xba", len(content) // 6)
    Path("part.mp4").write_bytes(content[begin:])
    left = agree("part.mp4")
    assert left < 60 and numbers_of(read_frames("agreed.mp4")) == list(range(60 - left, 60))
    trim("part.mp4", "clip.mp4", 2, "0.2s")
    assert numbers_of(read_frames("clip.mp4")) == [60 - left + 6, 60 - left + 7]


def test_a_clip_whose_first_frames_hang_on_the_group_before_them_can_be_trimmed(here):
    assert [frames_left(DATA / "open_gop.mkv", 1000, *at) for at in [(), ("1s",), ("0", 16)]] == [206, 176, 110]
    assert agree(DATA / "open_gop.mkv", "6s") == 26


@pytest.mark.parametrize("name", ["uneven.mp4", "hole.mp4"])
@pytest.mark.parametrize(("start", "fps"), [("0", None), ("0.5s", None), ("0", 16), ("0.5s", 16), ("3", 7.5)])
def test_planning_and_trimming_agree_on_uneven_frame_times(here, name, start, fps):
    assert agree(DATA / name, start, fps) > 20


def test_a_long_last_frame_counts_as_trimming_counts_it(here):
    make_source("slow.mp4", numbered(range(21)), times=[*np.arange(20) / 10, 4.0])
    left = agree("slow.mp4", "0", 10)
    (problem,) = planned("concept,source,fps\na,slow.mp4,10\n", left + 1)
    assert f"slow.mp4 has {left} frames from start 0, the model needs {left + 1}" in problem
    assert planned("concept,source,fps\na,slow.mp4,10\n", left) == []


def test_a_source_or_binder_dated_in_the_future_is_refused_with_the_remedy(here):
    Image.new("RGB", (8, 8)).save("it's.png")
    Image.new("RGB", (8, 8)).save("now.png")
    Path("b.safetensors").touch()
    for name in ("it's.png", "b.safetensors"):
        os.utime(name, (time.time() + 172800,) * 2)
    os.utime("now.png", (time.time() + 2,) * 2)
    source, binder = planned("concept,source,binder\na,it's.png,\nb,now.png,\nc,,b.safetensors\n")
    assert source.startswith("concepts.csv, row 2, source: it's.png is dated 1")
    assert source.endswith("touch -- 'it'\"'\"'s.png'") and "s in the future" in source
    assert binder.startswith("concepts.csv, row 4, binder: b.safetensors is dated 1")
    subprocess.run(source.partition("date: ")[2], shell=True, check=True)
    assert len(planned("concept,source\na,it's.png\n")) == 0


def test_braces_in_a_path_which_snakemake_would_fill_in_are_refused_at_planning(here):
    for name in ("x_{concept}.png", "x_star.png", "{.png"):
        Image.new("RGB", (8, 8)).save(name)
    Path("b{run}.safetensors").touch()
    said = planned("concept,source,binder\nstar,x_{concept}.png,\nrun,,b{run}.safetensors\nopen,{.png,\n")
    assert [problem.partition(", allowed")[0] for problem in said] == [
        "concepts.csv, row 2, source: found 'x_{concept}.png'",
        "concepts.csv, row 3, binder: found 'b{run}.safetensors'",
        "concepts.csv, row 4, source: found '{.png'",
    ]
    for name in ("results", "weights", "concepts", "compositions", "model", "ablations"):
        with pytest.raises(InputError, match=rf"{name}: found 'a/\{{run\}}/b', allowed: a path without"):
            load_config({name: "a/{run}/b"})


@pytest.mark.parametrize("name", ["-i.mp4", "concat:a.mp4", "pipe:1.mp4", "subfile,,start,0,end,9,,:a.mp4", "%03d.mp4"])
def test_any_file_name_is_a_name(here, source, name):
    Path(name).write_bytes(source.read_bytes())
    assert frames_left(name, 1000) == 40
    done = script("trim.py", f"--source={name}", "--output", "by_script.mp4", "--settings", '{"frames": 4}')
    assert done.returncode == 0 and len(read_frames("by_script.mp4")) == 4, done.stderr


SCRIPTS = {
    "concat": "ffconcat version 1.0\nfile secret.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_script_under_a_videos_name_opens_nothing(here, source, kind, name):
    Path("secret.mp4").write_bytes(source.read_bytes())
    Path(name).write_text(SCRIPTS[kind])
    (problem,) = planned(f"concept,source\na,{name}\n")
    assert f"{name}: cannot be read as a video (MP4, QuickTime, Matroska, WebM, AVI or MPEG)" in problem
    with pytest.raises(InputError, match=name):
        trim(name, "clip.mp4", 1)
    assert not Path("clip.mp4").exists()


def test_pictures_under_a_pattern_of_names_are_no_video(here):
    for number in range(3):
        Image.new("RGB", (8, 8)).save(f"{number:03d}.png")
    Path("%03d.mp4").write_bytes(Path("000.png").read_bytes())
    with pytest.raises(InputError, match=r"%03d\.mp4: cannot be read as a video"):
        frames_left("%03d.mp4", 1)
    with pytest.raises(InputError, match=r"%03d\.png: .*No such file"):
        probe("%03d.png")


def test_postscript_under_a_pictures_name_starts_nothing(here, monkeypatch):
    Path("gs").write_text("#!/bin/sh\ntouch started\n")
    Path("gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{here}:{os.environ['PATH']}")
    Path("a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n")
    (problem,) = planned("concept,source\na,a.png\n")
    assert "a.png: cannot be read as an image: damaged, or none of JPEG, PNG" in problem
    assert not Path("started").exists()


def test_a_picture_is_what_its_content_is_and_a_damaged_one_is_refused_in_one_line(here):
    Image.new("RGB", (64, 48), (200, 30, 90)).save("whole.avif", quality=95)
    Path("whole.png").write_bytes(Path("whole.avif").read_bytes())
    assert np.abs(read_frames("whole.png")[0].astype(int) - (200, 30, 90)).max() < 6
    (problem,) = planned(f"concept,source\na,{DATA / 'damaged_avif.png'}\n")
    assert "damaged_avif.png: cannot be read as an image: Failed to decode frame" in problem and "\n" not in problem


def test_numbers_whose_white_is_not_known_are_refused_and_16_bits_are_read(here):
    Image.fromarray(np.full((2, 4), 2**30, np.int32)).save("whole.tif")
    Image.fromarray(np.full((2, 4), 0.5, np.float32)).save("real.tif")
    Image.fromarray(np.full((2, 4), 200 * 257, np.uint16)).save("inverted.tif", tiffinfo={262: 0})
    for name in ("whole.tif", "real.tif", "inverted.tif"):
        (problem,) = planned(f"concept,source\na,{name}\n")
        assert f"{name}: its numbers" in problem and "save it with 8 or 16 bits" in problem
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(np.full((2, 4), 200 * 257, np.uint16)).save("deep.tif")
    Image.fromarray(np.full((2, 4), 200 * 257, np.uint16)).save("turned.png", exif=turned)
    assert np.unique(read_frames("deep.tif")).tolist() == [200]
    assert read_frames("turned.png").shape == (1, 4, 2, 3)


PNG16 = {
    "grey": (0, [200 * 257, 100 * 257], b"", [[200] * 3, [100] * 3]),
    "grey, one shade clear": (0, [200 * 257, 100 * 257], struct.pack(">H", 100 * 257), [[200] * 3, [255] * 3]),
    "grey and alpha": (4, [200 * 257, 65535, 100 * 257, 0], b"", [[200] * 3, [255] * 3]),
    "colour": (2, [200 * 257, 100 * 257, 0, 257, 514, 771], b"", [[200, 100, 0], [1, 2, 3]]),
    "colour and alpha": (6, [200 * 257, 0, 0, 65535, 1, 2, 3, 0], b"", [[200, 0, 0], [255] * 3]),
}


@pytest.mark.parametrize("kind", PNG16)
def test_a_png_of_16_bits_keeps_its_shades_and_its_transparency(tmp_path, kind):
    colour_type, values, clear, expected = PNG16[kind]

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, colour_type, 0, 0, 0))
    transparency = chunk(b"tRNS", clear) if clear else b""
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(f">{len(values)}H", *values)))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + transparency + pixels + chunk(b"IEND", b""))
    assert read_frames(tmp_path / "a.png")[0, 0].tolist() == expected


ALPHA = {
    "a.webm": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-crf", "5", "-b:v", "0"],
    "vp8.webm": ["-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", "-b:v", "4M"],
    "prores.mov": ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"],
    "animation.mov": ["-c:v", "qtrle", "-pix_fmt", "argb"],
}


@pytest.mark.parametrize("name", ALPHA)
def test_a_videos_transparency_becomes_white_as_an_images_does(here, name):
    alphas = np.repeat([255, 128, 0, 255], 3).astype(np.uint8)[:, None]
    picture = np.hstack([np.array(COLOURS, np.uint8), alphas]).reshape(3, 4, 4).repeat(32, 0).repeat(32, 1)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", "128x96", "-r", "16", "-i", "-"]
    ffmpeg(*raw, *ALPHA[name], name, data=picture.tobytes() * 6)
    assert agree(name) == 6
    Image.fromarray(picture).save("still.png")
    (expected,) = read_frames("still.png")
    for frame in read_frames("agreed.mp4"):
        assert np.abs(patches(frame) - patches(expected)).max() <= 6


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif", "gif.png"])
def test_an_image_of_several_pictures_is_refused_with_what_to_do(here, name):
    first, *rest = [Image.new("RGB", (16, 16), colour) for colour in COLOURS[:3]]
    kind = {".webp": "WEBP", ".tif": "TIFF"}.get(Path(name).suffix, "GIF" if name == "gif.png" else "PNG")
    first.save(name, kind, save_all=True, append_images=rest)
    (problem,) = planned(f"concept,source\na,{name}\n")
    assert f"{name}: holds 3 pictures, and an image is one; save the one that is meant as a PNG, or" in problem
    with pytest.raises(InputError, match="holds 3 pictures"):
        normalise_image(name, "out.png")


def test_a_cameras_jpeg_with_a_preview_behind_it_is_its_photograph(here):
    photograph, preview = (Image.new("RGB", (16, 16), colour) for colour in ("white", "black"))
    photograph.save("a.jpg", "MPO", save_all=True, append_images=[preview])
    with Image.open("a.jpg") as image:
        assert image.n_frames == 2
    assert planned("concept,source\na,a.jpg\n") == []
    assert np.unique(read_frames("a.jpg")).tolist() == [255]


MUTATED = {
    "a.png": None,
    "a.jpg": None,
    "a.webp": None,
    "a.mp4": ["-c:v", "libx264", "-g", "6"],
    "a.webm": ["-c:v", "libvpx"],
    "a.avi": ["-c:v", "mpeg4"],
}


def mutant(content: bytes, dice: random.Random) -> bytes:
    """`content` cut off, with a piece taken out or doubled, or with some bytes changed, more often in its head."""
    begin, length = dice.randrange(len(content)), dice.randrange(1, 64)
    kind, changed = dice.randrange(6), bytearray(content)
    if kind == 0:
        return content[:begin]
    if kind == 1:
        return content[:begin] + content[begin + length :]
    if kind == 2:
        return content[: begin + length] + content[begin:]
    for _ in range(dice.choice((1, 2, 8))):
        changed[dice.randrange(dice.choice((len(content), min(400, len(content)))))] = dice.choice(
            (0, 255, dice.randrange(256))
        )
    return bytes(changed)


@pytest.mark.parametrize("name", MUTATED)
def test_a_damaged_file_is_refused_or_gives_as_many_frames_as_planning_counted(here, name):
    if MUTATED[name]:
        ffmpeg("-f", "lavfi", "-i", "testsrc2=s=48x32:r=10:d=1", *MUTATED[name], name)
    else:
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)).save(name)
    whole, dice = Path(name).read_bytes(), random.Random(name)
    for _ in range(12):
        Path(name).write_bytes(mutant(whole, dice))
        fps = dice.choice((None, 16))
        try:
            left = probe(name).frames if media_kind(name) == "image" else frames_left(name, 8, fps=fps)
        except InputError as problem:
            assert name in str(problem)
            continue
        if media_kind(name) == "image":
            normalise_image(name, "made.png")
        elif left:
            trim(name, "made.mp4", left, fps=fps)
            assert len(read_frames("made.mp4")) == left


def test_a_damaged_last_frame_is_judged_alike_every_time(here):
    for _ in range(8):
        with pytest.raises(InputError, match="last_frame_damaged"):
            frames_left(DATA / "last_frame_damaged.mkv", 10)
