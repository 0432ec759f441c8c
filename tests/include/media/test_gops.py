from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.errors import Bug, CorruptArtifact, StoreUnavailable
from include.media import av_writer, gops, h264
from include.media.audio import Audio, read_audio, write_wav
from include.media.decode import VideoReader
from include.media.ffmpeg_process import ffmpeg_binary
from include.media.gops import GopRange, GopWriter, join_gops
from include.media.pixels import Yuv420, rgb_to_yuv420
from include.media.probe import probe_video
from include.media.structure import boxes
from tests.services import gstreamer

NTSC = Fraction(30000, 1001)
SIZE = (96, 64)
RATE = 48_000
RATES = (Fraction(25), NTSC, Fraction(24000, 1001), Fraction(50), Fraction(2997, 100), Fraction(12))


def pictures(count: int, first: int = 0, size: tuple[int, int] = SIZE) -> list[Yuv420]:
    """A textured plane that drifts, with noise: every frame is different, B-frames pay off."""
    width, height = size
    rng = np.random.default_rng(5)
    coarse = rng.integers(30, 220, (height // 8 + 40, width // 8 + 40, 3), dtype=np.uint8)
    plane = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    frames = []
    for n in range(first, first + count):
        x, y = 3 * n % 300, 2 * n % 300
        noise = np.random.default_rng(n).normal(0, 2, (height, width, 3))
        rgb = np.clip(plane[y : y + height, x : x + width] + noise, 0, 255).astype(np.uint8)
        frames.append(rgb_to_yuv420(rgb))
    return frames


def write_gop(
    path: Path, frames: Sequence[Yuv420], fps: Fraction | int = 25, **options: Any
) -> Path:
    with GopWriter(path, (frames[0].width, frames[0].height), fps, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write_gops(
    folder: Path, lengths: Sequence[int], fps: Fraction | int = 25, **options: Any
) -> list[Path]:
    starts = [0, *itertools.accumulate(lengths)]
    return [
        write_gop(folder / f"{n}.mp4", pictures(length, start), fps, **options)
        for n, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]


def decoded(path: Path) -> list[bytes]:
    with VideoReader(path) as reader:
        return [frame.to_bytes() for frame in reader.yuv_frames()]


def packets(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def avcc(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return bytes(container.streams.video[0].codec_context.extradata or b"")


def idr_numbers(path: Path) -> list[int | None]:
    """``idr_pic_id`` of each picture in decoding order, None for what is no IDR picture."""
    with av.open(str(path)) as container:
        headers = h264.read_headers(
            bytes(container.streams.video[0].codec_context.extradata or b"")
        )
    return [
        h264.idr_number(data, headers) if h264.is_idr(data) else None
        for data in map(bytes, packets(path))
    ]


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Seven GOPs of 38 frames; frames of one picture at the start, in the middle and at the end."""
    return write_gops(tmp_path_factory.mktemp("seven"), [1, 1, 2, 7, 1, 25, 1], NTSC)


@pytest.fixture(scope="module")
def joined(seven: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return join_gops(seven, NTSC, tmp_path_factory.mktemp("joined") / "out.mp4")


# -- one GOP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 40, 300])
def test_a_gop_has_one_keyframe_however_long_it_is(tmp_path: Path, count: int) -> None:
    found = packets(write_gop(tmp_path / "a.mp4", pictures(count), NTSC))
    assert [packet.is_keyframe for packet in found] == [True] + [False] * (count - 1)
    assert h264.is_idr(bytes(found[0]))
    assert not any(h264.is_idr(bytes(packet)) for packet in found[1:])
    with VideoReader(tmp_path / "a.mp4") as reader:
        facts = reader.facts
    assert (facts.size, facts.fps, facts.frames, facts.codec) == (SIZE, NTSC, count, "h264")


def test_a_scene_cut_inside_a_gop_starts_no_other(tmp_path: Path) -> None:
    found = packets(write_gop(tmp_path / "a.mp4", [*pictures(10), *pictures(10, 500)]))
    assert sum(packet.is_keyframe for packet in found) == 1


def test_a_gop_says_what_its_colours_are(tmp_path: Path) -> None:
    facts = probe_video(write_gop(tmp_path / "a.mp4", pictures(6)))
    assert (facts.matrix, facts.color_range, facts.pix_fmt) == ("bt709", "tv", "yuv420p")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (int(context.color_primaries), int(context.color_trc)) == (1, 1)
        assert context.sample_aspect_ratio == 1
        assert context.profile == "High"


def test_the_same_frames_give_the_same_bytes_also_in_parallel_threads(tmp_path: Path) -> None:
    def one(n: int) -> bytes:
        return write_gop(tmp_path / f"{n}.mp4", pictures(12, 100 * (n % 2))).read_bytes()

    alone = [one(0), one(1)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(2, 10))) == alone * 4


def test_headers_depend_on_neither_pictures_nor_length_nor_quality(tmp_path: Path) -> None:
    made = [
        write_gop(tmp_path / "a.mp4", pictures(1)),
        write_gop(tmp_path / "b.mp4", pictures(30, 400)),
        write_gop(tmp_path / "c.mp4", pictures(9), crf=40),
        write_gop(tmp_path / "d.mp4", pictures(9), crf=1),
    ]
    assert len({avcc(path) for path in made}) == 1


def test_what_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Bug, match="even"):
        GopWriter(tmp_path / "a.mp4", (97, 64), 25)
    with pytest.raises(Bug, match="crf"):
        GopWriter(tmp_path / "a.mp4", SIZE, 25, crf=0)
    with pytest.raises(Bug, match="must be"):
        write_gop(tmp_path / "a.mp4", [*pictures(1), *pictures(1, size=(32, 32))])
    with pytest.raises(Bug, match="no frame"), GopWriter(tmp_path / "a.mp4", SIZE, 25):
        pass
    with pytest.raises(Bug, match="not open"):
        GopWriter(tmp_path / "a.mp4", SIZE, 25).write(pictures(1)[0])
    with pytest.raises(Bug, match=r"a\.mp4"):
        write_gop(tmp_path / "missing" / "a.mp4", pictures(1))
    with pytest.raises(Bug, match=r"a\.mp4"):
        write_gop(tmp_path / "a.mp4", pictures(1), preset="quickly")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(64, 48), (66, 50), (130, 98), (98, 130)])
def test_every_plane_is_encoded_as_it_is_at_any_even_size(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    frames = pictures(4, size=size)
    with VideoReader(write_gop(tmp_path / "a.mp4", frames, crf=1)) as reader:
        for given, found in zip(frames, reader.yuv_frames(), strict=True):
            for plane in ("y", "u", "v"):
                apart = getattr(given, plane).astype(int) - getattr(found, plane)
                assert np.abs(apart).mean() < 1


def test_an_existing_file_is_replaced_only_on_success(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(Bug, match="must be"):
        write_gop(path, [*pictures(1), *pictures(1, size=(32, 32))])
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert len(decoded(write_gop(path, pictures(2)))) == 2


def test_a_full_disk_is_told_from_other_failures(
    tmp_path: Path, seven: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (gops, av_writer):
        monkeypatch.setattr(module, "temporary_name", lambda _path: full_disk(tmp_path))
    with pytest.raises(StoreUnavailable) as caught:
        write_gop(tmp_path / "a.mp4", pictures(60, size=(320, 240)), crf=1)
    assert caught.value.code == "disk.full"
    with pytest.raises(StoreUnavailable) as caught:
        join_gops(seven * 8, NTSC, tmp_path / "b.mp4")
    assert caught.value.code == "disk.full"
    assert "b.mp4" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def full_disk(folder: Path) -> Path:
    """A name that writes to a device on which no space is left."""
    (folder / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        (folder / "full").write_bytes(b"x" * 9000)
    return folder / "full"


# -- joining: pictures and times ---------------------------------------------------------------


def check_times(path: Path, fps: Fraction, count: int) -> None:
    """Frame k is shown at exactly k / fps; decoding times rise and keep one distance."""
    found = packets(path)
    base = Fraction(found[0].time_base)
    shown = [packet.pts * base * fps for packet in found]
    decoding = [packet.dts * base * fps for packet in found]
    assert sorted(shown) == list(range(count))
    assert decoding == [n - 2 for n in range(count)]
    assert all(d <= s for d, s in zip(decoding, shown, strict=True))
    assert {packet.duration * base * fps for packet in found} == {1}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5, 13]), min_size=1, max_size=7),
    fps=st.sampled_from(RATES),
    preset=st.sampled_from(["veryfast", "ultrafast", "medium"]),
)
def test_any_lengths_join_to_the_gops_own_pictures_at_exact_times(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], fps: Fraction, preset: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    parts = write_gops(folder, lengths, fps, preset=preset)
    path = join_gops(parts, fps, folder / "out.mp4")
    assert decoded(path) == [frame for part in parts for frame in decoded(part)]
    check_times(path, fps, sum(lengths))
    with VideoReader(path) as reader:
        assert (reader.facts.fps, reader.facts.frames) == (fps, sum(lengths))
    # The GOPs lie in the file as they were encoded, but for the number of some first pictures.
    for before, after in zip(
        (packet for part in parts for packet in packets(part)), packets(path), strict=True
    ):
        assert before.is_keyframe == after.is_keyframe
        assert before.is_keyframe or bytes(before) == bytes(after)


def test_neighbouring_idr_pictures_have_different_numbers(seven: list[Path], joined: Path) -> None:
    assert [idr_numbers(path)[0] for path in seven] == [0] * 7
    numbers = idr_numbers(joined)
    assert [number for number in numbers if number is not None] == [0, 1, 0, 0, 0, 1, 0]
    assert all(a is None or b is None or a != b for a, b in itertools.pairwise(numbers))


@pytest.mark.parametrize("preset", ["veryfast", "ultrafast"])
def test_a_number_can_be_changed_and_changed_back(tmp_path: Path, preset: str) -> None:
    """CABAC and CAVLC; noise at the best quality makes bytes that need escaping."""
    for seed in range(6):
        noise = np.random.default_rng(seed).integers(0, 255, (64, 96, 3), dtype=np.uint8)
        flat = np.full((64, 96, 3), seed, np.uint8)
        for rgb, crf in ((noise, 1), (flat, 51)):
            path = write_gop(tmp_path / "a.mp4", [rgb_to_yuv420(rgb)], preset=preset, crf=crf)
            headers = h264.read_headers(avcc(path))
            assert headers.cabac == (preset == "veryfast")
            data = bytes(packets(path)[0])
            for number in (1, 2, 7, 300, 65535):
                changed = h264.with_idr_number(data, headers, number)
                assert h264.idr_number(changed, headers) == number
                assert not any(
                    forbidden in unit
                    for unit in h264.nal_units(changed)
                    for forbidden in (b"\0\0\0", b"\0\0\1", b"\0\0\2")
                )
                assert h264.with_idr_number(changed, headers, 0) == data


def test_two_decoders_see_the_same_pictures(joined: Path) -> None:
    """OpenH264 shares no code with libavcodec's own decoder, only the file's reader."""
    assert frame_digests(joined, "libopenh264") == frame_digests(joined, "h264")


def frame_digests(path: Path, decoder: str) -> list[str]:
    command = [ffmpeg_binary(), "-v", "error", "-c:v", decoder, "-i", str(path)]
    done = subprocess.run(
        [*command, "-f", "framemd5", "-"], check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert len(lines) == 38
    return lines


def psnr(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    difference = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / max(difference, 1e-9)))


def test_pictures_at_seams_are_as_good_as_inside(tmp_path: Path) -> None:
    inside, seams = quality_at_seams(tmp_path, [25, 12, 25, 13])
    assert min(inside) > 40
    assert min(seams) > min(inside) - 0.5


def test_the_shortest_gops_lose_little(tmp_path: Path) -> None:
    """What no picture refers to gets fewer bits from x264: two decibels for a GOP of one."""
    inside, seams = quality_at_seams(tmp_path, [25, 1, 12, 2, 25, 1])
    assert min(seams) > min(inside) - 2.5


def quality_at_seams(folder: Path, lengths: list[int]) -> tuple[list[float], list[float]]:
    """PSNR against what went in, of pictures inside GOPs and of first and last ones."""
    frames = pictures(sum(lengths), size=(320, 180))
    starts = [0, *itertools.accumulate(lengths)]
    parts = [write_gop(folder / f"{a}.mp4", frames[a:b]) for a, b in itertools.pairwise(starts)]
    with VideoReader(join_gops(parts, 25, folder / "out.mp4")) as reader:
        quality = [
            psnr(shown.y, given.y) for shown, given in zip(reader.yuv_frames(), frames, strict=True)
        ]
    seams = {n for start in starts for n in (start - 1, start)}
    return (
        [q for n, q in enumerate(quality) if n not in seams],
        [q for n, q in enumerate(quality) if n in seams],
    )


def test_gops_of_two_encodings_can_be_exchanged(
    seven: list[Path], joined: Path, tmp_path: Path
) -> None:
    other = write_gop(tmp_path / "other.mp4", pictures(7, 300), NTSC, crf=30)
    path = join_gops([*seven[:3], other, *seven[4:]], NTSC, tmp_path / "out.mp4")
    before, after = decoded(joined), decoded(path)
    assert after[:4] == before[:4]
    assert after[4:11] == decoded(other)
    assert after[11:] == before[11:]


# -- ranges ------------------------------------------------------------------------------------

STARTS = [0, 1, 2, 4, 11, 12, 37, 38]


def test_ranges_of_a_joined_file_join_to_the_same_bytes(
    seven: list[Path], joined: Path, tmp_path: Path
) -> None:
    every = [GopRange(joined, a, b - a) for a, b in itertools.pairwise(STARTS)]
    assert join_gops(every, NTSC, tmp_path / "a.mp4").read_bytes() == joined.read_bytes()
    assert join_gops([joined], NTSC, tmp_path / "b.mp4").read_bytes() == joined.read_bytes()
    long: list[Path | GopRange] = [GopRange(joined, 0, 11), seven[4], GopRange(joined, 12, 26)]
    assert join_gops(long, NTSC, tmp_path / "c.mp4").read_bytes() == joined.read_bytes()
    # Out of order, again, and from files of which one has sound.
    write_wav(tmp_path / "a.wav", Audio(np.zeros((RATE, 1), np.float32), RATE))
    sounding = join_gops(seven, NTSC, tmp_path / "d.mp4", audio_wav=tmp_path / "a.wav")
    mixed = [GopRange(sounding, 11, 1), GopRange(joined, 4, 8), GopRange(sounding, 37, 1)]
    expected = [seven[4], seven[3], seven[4], seven[6]]
    assert (
        join_gops(mixed, NTSC, tmp_path / "e.mp4").read_bytes()
        == join_gops(expected, NTSC, tmp_path / "f.mp4").read_bytes()
    )


@pytest.mark.parametrize(
    ("first", "count", "error"),
    [
        (5, 6, CorruptArtifact),  # starts inside a GOP
        (4, 6, CorruptArtifact),  # ends inside a GOP
        (12, 24, CorruptArtifact),
        (4, 1, CorruptArtifact),  # with nothing missing before the cut
        (37, 2, CorruptArtifact),  # leaves the file
        (38, 1, CorruptArtifact),
        (500, 1, CorruptArtifact),
        (-1, 2, Bug),
        (0, 0, Bug),
    ],
)
def test_a_range_that_is_not_whole_gops_is_refused(
    joined: Path, tmp_path: Path, first: int, count: int, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"out\.mp4"):
        join_gops([GopRange(joined, first, count)], NTSC, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


# -- what does not join ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fps", "size", "preset"),
    [
        ("size", 25, (64, 64), "veryfast"),
        ("preset", 25, SIZE, "ultrafast"),
        ("rate", 50, SIZE, "veryfast"),
        ("rate", NTSC, SIZE, "veryfast"),
    ],
)
@pytest.mark.parametrize("count", [1, 5])
def test_gops_of_other_headers_or_rate_do_not_join(
    tmp_path: Path, name: str, fps: Fraction, size: tuple[int, int], preset: str, count: int
) -> None:
    first = write_gop(tmp_path / "first.mp4", pictures(3))
    other = write_gop(tmp_path / f"{name}.mp4", pictures(count, size=size), fps, preset=preset)
    with pytest.raises(CorruptArtifact, match=rf"{name}\.mp4.*encode it again"):
        join_gops([first, other], 25, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("count", [1, 5])
def test_a_wrong_rate_is_found_in_the_first_gop_too(tmp_path: Path, count: int) -> None:
    path = write_gop(tmp_path / "a.mp4", pictures(count), 25)
    for wrong in (24, 26, 50, NTSC):
        with pytest.raises(CorruptArtifact, match="frame rate"):
            join_gops([path], wrong, tmp_path / "out.mp4")


def test_cut_and_foreign_files_do_not_join(seven: list[Path], joined: Path, tmp_path: Path) -> None:
    for source in (seven[5], joined):  # index behind and index in front
        data = source.read_bytes()
        for keep in (0, 1, 40, len(data) // 3, len(data) - 700, len(data) - 1):
            (tmp_path / "cut.mp4").write_bytes(data[:keep])
            with pytest.raises(CorruptArtifact, match=r"cut\.mp4"):
                join_gops([seven[0], tmp_path / "cut.mp4"], NTSC, tmp_path / "out.mp4")
    (tmp_path / "cut.mp4").write_bytes(b"no video" * 1000)
    for path in (tmp_path / "cut.mp4", tmp_path / "missing.mp4"):
        with pytest.raises(CorruptArtifact, match=path.name):
            join_gops([path], NTSC, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mp4"]


def copy_packets(source: Path, target: Path, chosen: slice) -> Path:
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0], opaque=True)
        kept = [packet for packet in read.demux(video=0) if packet.size][chosen]
        for packet in kept:
            packet.stream = stream
            write.mux(packet)
    return target


@pytest.mark.parametrize("chosen", [slice(1, None), slice(0, 6), slice(0, None, 2)])
def test_a_gop_without_its_first_or_some_other_picture_does_not_join(
    seven: list[Path], tmp_path: Path, chosen: slice
) -> None:
    path = copy_packets(seven[5], tmp_path / "part.mp4", chosen)
    with pytest.raises(CorruptArtifact, match=r"part\.mp4"):
        join_gops([path], NTSC, tmp_path / "out.mp4")


def test_a_gop_reordered_further_than_x264_does_does_not_join(
    seven: list[Path], tmp_path: Path
) -> None:
    """Its times would have to be decoded before they are shown."""
    path, count = tmp_path / "wild.mp4", 25
    with av.open(str(seven[5])) as read, av.open(str(path), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0], opaque=True)
        for n, packet in enumerate(p for p in read.demux(video=0) if p.size):
            packet.stream, packet.time_base, packet.duration = stream, 1 / NTSC, 1
            packet.pts, packet.dts = (count - n) % count, n - count
            write.mux(packet)
    with pytest.raises(CorruptArtifact, match=r"wild\.mp4.*not where its GOP has it"):
        join_gops([path], NTSC, tmp_path / "out.mp4")


def test_damaged_lengths_inside_a_picture_are_found(seven: list[Path], tmp_path: Path) -> None:
    data, picture = seven[5].read_bytes(), bytes(packets(seven[5])[0])
    at = data.index(picture)
    (tmp_path / "a.mp4").write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    with pytest.raises(CorruptArtifact, match="damaged"):
        join_gops([tmp_path / "a.mp4"], NTSC, tmp_path / "out.mp4")


def test_nothing_to_join_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(Bug, match="no GOPs"):
        join_gops([], 25, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


# -- many --------------------------------------------------------------------------------------


def test_thousands_of_files_need_few_handles(tmp_path: Path) -> None:
    source = write_gop(tmp_path / "source.mp4", pictures(2))
    opened = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def links() -> Iterator[Path]:
        for n in range(2000):
            link = tmp_path / f"{n}.mp4"
            os.link(source, link)
            yield link

    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 30, hard))
    try:
        path = join_gops(links(), 25, tmp_path / "out.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    check_times(path, Fraction(25), 4000)
    assert len(os.listdir("/proc/self/fd")) == opened


_PEAK = """
import resource, sys
from pathlib import Path
from include.media.gops import join_gops
join_gops([Path(sys.argv[1])] * int(sys.argv[2]), 25, Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    part = write_gop(tmp_path / "a.mp4", pictures(3, size=(640, 480)), crf=1)

    def peak_mib(count: int) -> float:
        command = [sys.executable, "-c", _PEAK, str(part), str(count), str(tmp_path / "o.mp4")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(done.stdout) / 1024

    few = peak_mib(5)
    many = peak_mib(300)
    assert (tmp_path / "o.mp4").stat().st_size > 50 << 20
    assert many - few < 8


# -- sound -------------------------------------------------------------------------------------

FLASH = 47


def click_and_flash(folder: Path, fps: Fraction, rate: int, seconds: float) -> Path:
    """Frame 47, the first of a GOP, is white, and at its very start the sound clicks."""
    parts = []
    for start, stop in itertools.pairwise([0, 20, 21, 23, FLASH, FLASH + 1, 75]):
        frames = [
            rgb_to_yuv420(np.full((64, 96, 3), 255 if n == FLASH else 20, np.uint8))
            for n in range(start, stop)
        ]
        parts.append(write_gop(folder / f"{start}.mp4", frames, fps))
    samples = np.zeros((round(seconds * rate), 2), np.float32)
    onset = round(FLASH / fps * rate)
    samples[onset : onset + 24] = 0.9
    write_wav(folder / "a.wav", Audio(samples, rate))
    return join_gops(
        parts, fps, folder / "out.mp4", audio_wav=folder / "a.wav", metadata={"title": "Grün = ok"}
    )


@pytest.fixture(scope="module", params=[(Fraction(25), 48_000, 3.0), (NTSC, 44_100, 2.2)])
def sounding(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Fraction, int, float]:
    fps, rate, seconds = request.param
    path = click_and_flash(tmp_path_factory.mktemp("sound"), fps, rate, seconds)
    return path, fps, rate, seconds


def test_click_and_flash_coincide(
    sounding: tuple[Path, Fraction, int, float], tmp_path: Path
) -> None:
    path, fps, rate, seconds = sounding
    with av.open(str(path)) as container:
        levels = [
            (
                Fraction(frame.time_base or 0) * (frame.pts or 0),
                np.asarray(frame.planes[0])[:900].mean(),
            )
            for frame in container.decode(video=0)
        ]
        assert container.metadata["title"] == "Grün = ok"
    assert max(levels, key=lambda pair: pair[1])[0] == FLASH / fps
    command = [ffmpeg_binary(), "-v", "error", "-i", str(path), "-c:a", "pcm_s16le"]
    subprocess.run([*command, str(tmp_path / "a.wav")], check=True)
    sound = read_audio(tmp_path / "a.wav")
    onset = int(np.argmax(np.abs(sound.samples[:, 0]) > 0.3)) / rate
    assert onset == pytest.approx(float(FLASH / fps), abs=1e-3)
    assert sound.duration_s == pytest.approx(seconds, abs=1024 / rate)
    check_times(path, fps, 75)


def edit_lists(path: Path) -> list[dict[str, int]]:
    """Each track's timescale and only edit, and the movie's timescale, read from the boxes."""
    tracks: list[dict[str, int]] = []
    movie = 0
    data = path.read_bytes()

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(data[at : at + size], "big")

    with open(path, "rb") as file:

        def walk(start: int, end: int) -> None:
            nonlocal movie
            for box in boxes(path, file, start, end):
                assert box.kind not in (b"mvhd", b"mdhd", b"elst") or data[box.start] == 0
                if box.kind == b"mvhd":
                    movie = number(box.start + 12)
                elif box.kind == b"trak":
                    tracks.append({"movie": movie})
                    walk(box.start, box.end)
                elif box.kind == b"mdhd":
                    tracks[-1] |= {"scale": number(box.start + 12)}
                elif box.kind == b"elst":
                    assert number(box.start + 4) == 1
                    tracks[-1] |= {"lasts": number(box.start + 8), "from": number(box.start + 12)}
                elif box.kind in (b"moov", b"mdia", b"edts"):
                    walk(box.start, box.end)

        walk(0, len(data))
        kinds = [box.kind for box in boxes(path, file, 0, len(data))]
    assert kinds.index(b"moov") < kinds.index(b"mdat")
    return tracks


def test_edit_lists_say_exactly_what_plays(sounding: tuple[Path, Fraction, int, float]) -> None:
    path, fps, rate, seconds = sounding
    picture, sound = edit_lists(path)
    assert Fraction(picture["from"], picture["scale"]) == 2 / fps  # the decoder's delay
    assert Fraction(picture["lasts"], picture["movie"]) == 75 / fps
    assert Fraction(sound["from"], sound["scale"]) == Fraction(1024, rate)  # the encoder's priming
    assert Fraction(sound["lasts"], sound["movie"]) == Fraction(round(seconds * rate), rate)


def test_a_silent_video_has_only_a_picture(joined: Path) -> None:
    (picture,) = edit_lists(joined)
    assert Fraction(picture["lasts"], picture["movie"]) == 38 / NTSC


def test_the_same_gops_give_the_same_bytes(seven: list[Path], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2 * RATE, 2)).astype(np.float32)
    write_wav(tmp_path / "a.wav", Audio(noise, RATE))
    first, second = (
        join_gops(seven, NTSC, tmp_path / name, audio_wav=tmp_path / "a.wav").read_bytes()
        for name in ("a.mp4", "b.mp4")
    )
    assert first == second


# -- a second implementation -------------------------------------------------------------------

system = pytest.mark.skipif(
    os.environ.get("UNDERSTUDY_SYSTEM_TESTS") != "1",
    reason="GStreamer's MP4 reader and FAAD2 from Debian: set UNDERSTUDY_SYSTEM_TESTS=1",
)


def decoded_by_openh264(stream: Path) -> npt.NDArray[np.uint8]:
    """Decode an H.264 byte stream; uint8 [frames, h * 3 / 2, w], in the order of showing."""
    command = [ffmpeg_binary(), "-v", "error", "-f", "h264", "-c:v", "libopenh264"]
    options = ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    done = subprocess.run([*command, "-i", str(stream), *options], check=True, capture_output=True)
    assert done.stderr == b""
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, SIZE[1] * 3 // 2, SIZE[0])


@system
def test_a_second_reader_and_decoder_agree_on_pictures_and_times(
    joined: Path, tmp_path: Path
) -> None:
    gstreamer.install()
    found = gstreamer.read(joined, tmp_path / "a.h264")["pictures"]
    exact = [float(n / NTSC * 10**9) for n in range(38)]
    assert sorted(picture["shown"] for picture in found) == pytest.approx(exact, abs=1)
    assert all(picture["decoded"] <= picture["shown"] for picture in found)
    for before, after in itertools.pairwise(found):
        assert after["decoded"] - before["decoded"] == pytest.approx(float(10**9 / NTSC), abs=1)
    assert {round(picture["lasts"] * NTSC / 10**9, 6) for picture in found} == {1}
    shown = decoded_by_openh264(tmp_path / "a.h264")
    assert [frame.tobytes() for frame in shown] == decoded(joined)


@system
def test_a_second_reader_and_decoder_see_click_and_flash_together(
    sounding: tuple[Path, Fraction, int, float], tmp_path: Path
) -> None:
    gstreamer.install()
    path, fps, rate, seconds = sounding
    found = gstreamer.read(path, tmp_path / "a.h264", sound=True)
    times = sorted(picture["shown"] for picture in found["pictures"])
    levels = decoded_by_openh264(tmp_path / "a.h264")[:, : SIZE[1]].mean(axis=(1, 2))
    assert len(times) == len(levels) == 75
    flash = times[int(np.argmax(levels))]
    assert flash == pytest.approx(float(FLASH / fps * 10**9), abs=1)
    sound = found["sound"]
    unit = 1024 / rate * 10**9
    assert sound["rate"] == rate
    assert sound["onset"] == pytest.approx(flash, abs=1e6)
    assert sound["lasts"] == pytest.approx(seconds * 10**9, abs=1)
    # The priming is left out. qtdemux also leaves out a last unit that ends with the movie.
    assert sound["starts"] == 0
    assert sound["ends"] == pytest.approx(seconds * 10**9, abs=unit)
