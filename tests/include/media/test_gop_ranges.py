"""Parts of joined videos join again; what does not fit does not."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from include.errors import Bug, CorruptArtifact
from include.media.audio import Audio, write_wav
from include.media.gops import GopRange, join_gops
from tests.include.media.gop_clips import (
    NTSC,
    RATE,
    SIZE,
    check_times,
    packets,
    pictures,
    write_gop,
)

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
