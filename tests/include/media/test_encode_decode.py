from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from include.errors import Bug, CorruptArtifact, OutOfMemory, StoreUnavailable
from include.media import av_writer, encode
from include.media.decode import VideoReader
from include.media.encode import DeliveryWriter
from include.media.lossless import LosslessRgbWriter, LosslessYuvWriter
from include.media.pixels import U8, Yuv420, rgb_to_yuv420

FPS = Fraction(30000, 1001)


def moving(width: int, height: int, count: int) -> list[U8]:
    """Noise over a drifting gradient: every frame is different from every other."""
    rng = np.random.default_rng(3)
    base = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 190, width, dtype=np.uint8)[None, :, None]
    return [base + np.roll(ramp, 5 * n, axis=1) for n in range(count)]


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert children() == []


def children() -> list[int]:
    """Return the process ids of this process's children, zombies included."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in listed.split()]


@pytest.mark.parametrize("size", [(64, 48), (97, 61), (322, 256), (2, 2)])
def test_rgb_clips_are_lossless_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = moving(*size, 7)
    with LosslessRgbWriter(tmp_path / "a.avi", size, FPS) as writer:
        for frame in frames:
            writer.write(frame)
    with VideoReader(tmp_path / "a.avi") as reader:
        assert (reader.facts.size, reader.facts.fps, reader.facts.frames) == (size, FPS, 7)
        assert np.array_equal(np.stack(list(reader.frames())), np.stack(frames))


@pytest.mark.parametrize("size", [(130, 98), (2, 2), (34, 6)])
def test_yuv_clips_are_lossless(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    noise = [rng.integers(0, 256, (size[1], size[0], 3), np.uint8) for _ in range(3)]
    frames = [rgb_to_yuv420(frame) for frame in [*moving(*size, 30), *noise]]
    with LosslessYuvWriter(tmp_path / "a.avi", size, 25) as writer:
        for frame in frames:
            writer.write(frame)
    with VideoReader(tmp_path / "a.avi") as reader:
        assert (reader.facts.size, reader.facts.fps, reader.facts.frames) == (size, 25, 33)
        read = list(reader.yuv_frames())
        late = list(reader.yuv_frames(17, 19))
    assert [f.to_bytes() for f in read] == [f.to_bytes() for f in frames]
    assert [f.to_bytes() for f in late] == [f.to_bytes() for f in frames[17:19]]


BT709 = {"primaries": 1, "transfer": 1, "matrix": 1, "range": 1}


def colour_tags(path: Path) -> dict[str, int]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return {
            "primaries": int(context.color_primaries),
            "transfer": int(context.color_trc),
            "matrix": int(context.colorspace),
            "range": int(context.color_range),
        }


@pytest.mark.parametrize("kind", ["rgb", "yuv", "delivery"])
def test_reading_starts_at_any_frame_and_stops_where_told(tmp_path: Path, kind: str) -> None:
    frames = moving(96, 64, 40)
    path = write(kind, tmp_path / "clip", frames, (96, 64))
    with VideoReader(path) as reader:
        whole = list(reader.frames())
        assert len(whole) == 40
        for start, stop in [(0, 1), (1, 4), (11, 14), (12, 13), (25, 40), (39, None), (39, 99)]:
            part = list(reader.frames(start, stop))
            assert len(part) == min(stop or 40, 40) - start
            assert all(np.array_equal(a, b) for a, b in zip(part, whole[start:], strict=False))
        assert list(reader.frames(40)) == []
        assert list(reader.frames(7, 7)) == []


def record(writer: LosslessRgbWriter, frames: Iterable[U8]) -> None:
    with writer:
        for frame in frames:
            writer.write(frame)


def write(kind: str, path: Path, frames: list[U8], size: tuple[int, int], threads: int = 1) -> Path:
    if kind == "rgb":
        record(LosslessRgbWriter(path, size, FPS, threads=threads), frames)
    else:
        factory = LosslessYuvWriter if kind == "yuv" else DeliveryWriter
        with factory(path, size, FPS) as writer:
            for frame in frames:
                writer.write(rgb_to_yuv420(frame))
    return path


@pytest.mark.parametrize("kind", ["rgb", "yuv", "delivery"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    frames = moving(96, 64, 20)
    first = write(kind, tmp_path / "a", frames, (96, 64)).read_bytes()
    assert write(kind, tmp_path / "b", frames, (96, 64)).read_bytes() == first


def test_threads_do_not_change_the_bytes_of_an_rgb_clip(tmp_path: Path) -> None:
    frames = moving(320, 240, 6)
    one = write("rgb", tmp_path / "a", frames, (320, 240), threads=1).read_bytes()
    assert write("rgb", tmp_path / "b", frames, (320, 240), threads=4).read_bytes() == one


def test_delivery_has_fixed_closed_gops_and_declared_colour(tmp_path: Path) -> None:
    frames = [rgb_to_yuv420(frame) for frame in moving(96, 64, 40)]
    with DeliveryWriter(tmp_path / "a.mp4", (96, 64), 25, gop=16, keyframes=[21]) as writer:
        for frame in frames:
            writer.write(frame)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.pts is not None]
    times = [pts for pts, _ in packets]
    shown = sorted(times)
    assert [shown.index(pts) for pts, key in packets if key] == [0, 16, 21, 37]
    # Closed: nothing that is shown before a keyframe comes after it in the file.
    for position, (pts, key) in enumerate(packets):
        assert not key or min(times[position:]) == pts
    assert colour_tags(tmp_path / "a.mp4") == BT709


def test_headers_do_not_depend_on_the_pictures(tmp_path: Path) -> None:
    headers = []
    for name, frames in [("a", moving(96, 64, 20)), ("b", moving(96, 64, 9)[::-1])]:
        with av.open(str(write("delivery", tmp_path / name, frames, (96, 64)))) as container:
            headers.append(container.streams.video[0].codec_context.extradata)
    assert headers[0] == headers[1]


def test_an_error_in_the_block_leaves_no_file_and_no_process(tmp_path: Path) -> None:
    def broken() -> Iterator[U8]:
        yield moving(64, 48, 1)[0]
        raise KeyError

    with pytest.raises(KeyError):
        record(LosslessRgbWriter(tmp_path / "a.mkv", (64, 48), 25), broken())
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_only_on_success(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(b"old")
    with pytest.raises(Bug), LosslessRgbWriter(path, (64, 48), 25) as writer:
        writer.write(np.zeros((48, 60, 3), np.uint8))
    assert path.read_bytes() == b"old"


def test_a_writer_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Bug, match="no frame"), LosslessRgbWriter(tmp_path / "a", (64, 48), 25):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["rgb", "yuv", "delivery"])
def test_a_full_disk_is_told_from_other_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    for module in (av_writer, encode):
        monkeypatch.setattr(module, "temporary_name", lambda _path: full)
    with pytest.raises(StoreUnavailable) as caught:
        write(kind, tmp_path / "a.mkv", moving(320, 240, 30), (320, 240))
    assert caught.value.code == "disk.full"
    assert "a.mkv" in caught.value.message


def test_ffmpegs_last_words_are_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.mkv"
    with pytest.raises(Bug, match="No such file or directory"):
        write("delivery", path, moving(64, 48, 500), (64, 48))


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    writer = LosslessRgbWriter(tmp_path / "missing" / "a.avi", (64, 48), 25)
    with pytest.raises(Bug, match=r"a\.avi failed: .*No such file or directory"):
        record(writer, moving(64, 48, 2))


def test_a_killed_ffmpeg_is_noticed(tmp_path: Path) -> None:
    frames = [rgb_to_yuv420(frame) for frame in moving(320, 240, 40)]

    def write_and_kill() -> None:
        with DeliveryWriter(tmp_path / "a.mp4", (320, 240), 25) as writer:
            for number, frame in enumerate(frames):
                if number == 3:
                    os.kill(children()[-1], signal.SIGKILL)
                writer.write(frame)

    with pytest.raises(OutOfMemory, match="killed"):
        write_and_kill()
    assert list(tmp_path.iterdir()) == []


def test_damage_in_a_lossless_clip_is_found(tmp_path: Path) -> None:
    path = write("rgb", tmp_path / "a.mkv", moving(96, 64, 20), (96, 64))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CorruptArtifact), VideoReader(path) as reader:
        list(reader.frames())


def test_something_else_than_a_clip_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(b"not a clip" * 100)
    with pytest.raises(CorruptArtifact):
        VideoReader(tmp_path / "a.mkv")
    with pytest.raises(CorruptArtifact):
        VideoReader(tmp_path / "missing.mkv")


def test_odd_sizes_are_refused_for_yuv(tmp_path: Path) -> None:
    with pytest.raises(Bug, match="even"):
        DeliveryWriter(tmp_path / "a.mp4", (97, 64), 25)


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    wrong = Yuv420(*(np.zeros(s, np.uint8) for s in [(4, 4), (2, 2), (2, 2)]))
    with pytest.raises(Bug, match="must be"), LosslessYuvWriter(tmp_path / "a", (8, 8), 25) as w:
        w.write(wrong)


def test_picked_frames_are_those_that_reading_all_gives(tmp_path: Path) -> None:
    frames = [rgb_to_yuv420(frame) for frame in moving(130, 98, 40)]
    with LosslessYuvWriter(tmp_path / "a.mkv", (130, 98), 25) as writer:
        for frame in frames:
            writer.write(frame)
    with VideoReader(tmp_path / "a.mkv") as reader:
        every = list(reader.frames())
        picked = dict(reader.pick([31, 7, 7, 39]))
        assert sorted(picked) == [7, 31, 39]
        assert all(np.array_equal(picked[index], every[index]) for index in picked)
        assert list(reader.pick([])) == []
        with pytest.raises(CorruptArtifact, match="40"):
            list(reader.pick([3, 40]))
