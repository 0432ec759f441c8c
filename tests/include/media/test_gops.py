"""GOPs are encoded apart and joined to one video, picture for picture."""

from __future__ import annotations

import itertools
import subprocess
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.errors import Bug, StoreUnavailable
from include.media import av_writer, gops, h264
from include.media.decode import VideoReader
from include.media.ffmpeg_process import ffmpeg_binary
from include.media.gops import GopWriter, join_gops
from include.media.pixels import rgb_to_yuv420
from include.media.probe import probe_video
from tests.include.media.gop_clips import (
    NTSC,
    RATES,
    SIZE,
    avcc,
    check_times,
    decoded,
    idr_numbers,
    packets,
    pictures,
    write_gop,
    write_gops,
)


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
