from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from include.errors import BadMedia, StoreUnavailable
from include.media import normalise
from include.media.decode import VideoReader
from include.media.encode import DeliveryWriter
from include.media.h264_writer import H264Writer
from include.media.images import load_photo
from include.media.normalise import NormalisedTemplate, normalise_template
from include.media.pixels import U8, Yuv420, rgb_to_yuv420
from include.media.shots import shot_starts

Make = Callable[..., Path]
H264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast")
WHITE = "drawbox=color=white:t=fill:enable"
# A picture with one colour in each corner, so that its orientation shows.
CORNERS = {"tl": (200, 40, 40), "tr": (40, 180, 40), "bl": (40, 60, 200), "br": (210, 200, 60)}


def corners(width: int, height: int) -> U8:
    rgb = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    rgb[:h, :w], rgb[:h, w:] = CORNERS["tl"], CORNERS["tr"]
    rgb[h:, :w], rgb[h:, w:] = CORNERS["bl"], CORNERS["br"]
    return rgb


def shown(rgb: U8) -> dict[str, tuple[int, ...]]:
    height, width = rgb.shape[:2]
    places = {"tl": (0.25, 0.25), "tr": (0.25, 0.75), "bl": (0.75, 0.25), "br": (0.75, 0.75)}
    return {
        name: tuple(int(c) for c in rgb[int(height * y), int(width * x)])
        for name, (y, x) in places.items()
    }


def assert_upright(rgb: U8, tolerance: int = 4) -> None:
    for name, colour in shown(rgb).items():
        assert np.abs(np.subtract(colour, CORNERS[name])).max() <= tolerance, (name, colour)


@pytest.fixture(scope="module")
def corner_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corners") / "c.mp4"
    frame = rgb_to_yuv420(corners(128, 96))
    with DeliveryWriter(path, (128, 96), 25, crf=4) as writer:
        for _ in range(15):
            writer.write(frame)
    return path


def first_frame(made: NormalisedTemplate) -> U8:
    with VideoReader(made.video) as reader:
        return next(reader.frames())


class Studio(H264Writer):
    """A lossless video as a studio would deliver it."""

    def _open(self) -> None:
        self._container = av.open(f"file:{self._temporary}", "w", format="matroska")
        self._add_stream()


def test_our_own_video_passes_through_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rgb_to_yuv420(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(12)]
    options = {"preset": "ultrafast", "qp": "0"}
    with Studio(tmp_path / "in.mkv", (96, 64), 25, options) as writer:
        for frame in frames:
            writer.write(frame)
    made = normalise_template(tmp_path / "in.mkv", tmp_path)
    with VideoReader(made.video) as reader:
        assert [f.to_bytes() for f in reader.yuv_frames()] == [f.to_bytes() for f in frames]
    assert made.changes == ("no sound: the template is silent",)


def test_everything_that_is_promised_is_there(tmp_path: Path, clip: Path) -> None:
    made = normalise_template(clip, tmp_path)
    assert (made.clip.size, made.clip.fps, made.clip.frames) == ((160, 120), Fraction(25), 25)
    assert (made.clip.codec, made.clip.pix_fmt) == ("h264", "yuv420p")
    assert made.audio is not None
    assert made.facts.frames == 25
    assert made.shots == (0,)
    assert load_photo(made.thumbnail).shape == (120, 160, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "audio.wav",
        "mezzanine.mkv",
        "thumbnail.jpg",
    ]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_video_comes_out_upright(
    tmp_path: Path, make: Make, corner_clip: Path, degrees: int
) -> None:
    transpose = {90: "transpose=clock", 180: "hflip,vflip", 270: "transpose=cclock"}[degrees]
    lying = make("lying.mkv", "-i", str(corner_clip), "-vf", transpose, *H264, "-crf", "4")
    flagged = make("f.mp4", "-display_rotation", str(degrees), "-i", str(lying), "-c", "copy")
    made = normalise_template(flagged, tmp_path)
    assert made.clip.size == (128, 96)
    assert_upright(first_frame(made))
    assert any("rotation" in change for change in made.changes)


@pytest.mark.parametrize(
    "arguments",
    [
        ("scale=out_color_matrix=bt601:out_range=tv,setparams=colorspace=smpte170m:range=tv", "8"),
        ("scale=out_color_matrix=bt709:out_range=pc,setparams=colorspace=bt709:range=pc", "8"),
        ("scale=out_color_matrix=bt709:out_range=tv,format=yuv420p10le", "10"),
        ("scale=out_color_matrix=bt601:out_range=tv,setparams=colorspace=unknown", "8"),
    ],
    ids=["bt601", "full range", "ten bits", "undeclared small"],
)
def test_colours_come_out_the_same_whatever_the_source_used(
    tmp_path: Path, make: Make, corner_clip: Path, arguments: tuple[str, str]
) -> None:
    graph, bits = arguments
    pixel_format = "yuv420p10le" if bits == "10" else "yuv420p"
    source = make(
        "c.mkv",
        *("-i", str(corner_clip), "-vf", graph),
        *("-c:v", "libx264", "-crf", "4", "-pix_fmt", pixel_format),
    )
    made = normalise_template(source, tmp_path)
    assert_upright(first_frame(made))
    assert made.clip.pix_fmt == "yuv420p"


RGB_OF = {  # chromaticities of red, green, blue and white
    "bt709": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), (0.3127, 0.3290)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), (0.3127, 0.3290)),
    "smpte431": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.314, 0.351)),
    "smpte432": ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.3290)),
}
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def to_xyz(name: str) -> np.ndarray:
    """Linear RGB to XYZ, white brought to D65."""
    columns = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in RGB_OF[name]]
    primaries, white = np.stack(columns[:3], axis=1), columns[3]
    x, y = RGB_OF["bt709"][3]
    daylight = np.array([x / y, 1, (1 - x - y) / y])
    gain = np.diag(BRADFORD @ daylight / (BRADFORD @ white))
    adapt = np.linalg.inv(BRADFORD) @ gain @ BRADFORD
    return adapt @ (primaries * np.linalg.solve(primaries, white))


def in_primaries(rgb: U8, name: str) -> U8:
    """The same colours in other primaries, shown on a display of gamma 2.4."""
    light = (rgb / 255.0) ** 2.4
    other = light @ np.linalg.solve(to_xyz(name), to_xyz("bt709")).T
    return np.uint8(np.round(255 * np.clip(other, 0, 1) ** (1 / 2.4)))


@pytest.mark.parametrize("name", ["bt2020", "smpte431", "smpte432"])
@pytest.mark.parametrize(
    "form", [("yuv420p", "limited"), ("yuv420p", "full"), ("yuv422p10le", "limited")]
)
def test_wide_gamuts_look_as_they_are(
    tmp_path: Path, make: Make, name: str, form: tuple[str, str]
) -> None:
    (pixels, extent), matrix = form, ("bt2020nc" if name == "bt2020" else "bt709")
    raw = tmp_path / "wide.rgb"
    raw.write_bytes(in_primaries(corners(128, 96), name).tobytes() * 15)
    to_yuv = f"scale=out_color_matrix={matrix.removesuffix('nc')}:out_range={extent}"
    said = f"setparams=color_primaries={name}:color_trc=bt709:colorspace={matrix}:range={extent}"
    source = make(
        f"{name}.mp4",
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96", "-i", str(raw)),
        *("-vf", f"{to_yuv}:flags=accurate_rnd,format={pixels},{said}"),
        *("-c:v", "libx264", "-crf", "4"),
    )
    made = normalise_template(source, tmp_path)
    assert made.facts.primaries == name
    assert_upright(first_frame(made), tolerance=4)
    assert any("wide" in change for change in made.changes)


def test_a_variable_rate_becomes_constant_and_keeps_its_time(tmp_path: Path, make: Make) -> None:
    path = make(
        "vfr.mp4",
        *(
            "-f",
            "lavfi",
            "-i",
            "color=black:s=64x64:r=30:d=4,drawbox=color=white:t=fill:enable='gte(t,2)'",
        ),
        *("-vf", "select='not(mod(n,3))+gt(n,20)'", "-fps_mode", "vfr", *H264),
    )
    made = normalise_template(path, tmp_path)
    assert made.facts.vfr
    assert made.clip.fps in (24, 25, 30)
    assert made.clip.duration_s == pytest.approx(4.0, abs=0.1)
    with VideoReader(made.video) as reader:
        light = [f.y.mean() > 128 for f in reader.yuv_frames()]
    assert light.index(True) / made.clip.fps == pytest.approx(2.0, abs=0.05)
    assert any("variable" in change for change in made.changes)


def test_a_recording_that_drops_frames_keeps_the_rate_of_the_others(
    tmp_path: Path, make: Make
) -> None:
    path = make(
        "drops.mp4",
        *("-f", "lavfi", "-i", "testsrc2=s=64x64:r=30:d=4"),
        *("-vf", "select='not(between(mod(n,15),4,6))'", "-fps_mode", "vfr", *H264),
    )
    made = normalise_template(path, tmp_path)
    assert float(made.facts.fps) < 24.5
    assert (made.facts.usual_fps, made.clip.fps) == (30, 30)
    assert made.clip.duration_s == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    ("rate", "nominal"),
    [
        ("30000/1001", "30000/1001"),
        ("60000/1001", "60000/1001"),
        ("18", "18"),
        ("25/2", "25/2"),
        ("60", "60"),
    ],
)
def test_a_constant_rate_stays(tmp_path: Path, make: Make, rate: str, nominal: str) -> None:
    path = make("r.mkv", "-f", "lavfi", "-i", f"testsrc2=s=64x64:r={rate}:d=1", *H264)
    made = normalise_template(path, tmp_path)
    assert made.clip.fps == Fraction(nominal)
    assert made.clip.frames == made.facts.frames


def test_odd_sizes_are_cropped_by_one_pixel(tmp_path: Path, make: Make) -> None:
    path = make(
        "odd.mp4",
        *("-f", "lavfi", "-i", "testsrc=s=131x97:d=1", "-pix_fmt", "yuv444p", "-c:v", "libx264"),
    )
    made = normalise_template(path, tmp_path)
    assert made.clip.size == (130, 96)
    assert normalise._CROP_NOTE in made.changes


def test_stretched_pixels_become_square(tmp_path: Path, make: Make, corner_clip: Path) -> None:
    path = make("sar.mp4", "-i", str(corner_clip), "-vf", "setsar=4/3", *H264, "-crf", "4")
    made = normalise_template(path, tmp_path)
    assert made.clip.size == (170, 96)
    assert_upright(first_frame(made), tolerance=5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sar.mp4", ("-c", "copy", "-aspect", "16:9")),
        ("sar.mkv", ("-c", "copy", "-aspect", "16:9")),
        ("sar.mov", ("-vf", "setsar=4/3", "-c:v", "prores_ks", "-pix_fmt", "yuv422p10le")),
        ("sar.webm", ("-vf", "setsar=4/3", "-c:v", "libvpx-vp9", "-b:v", "2M")),
    ],
)
def test_stretched_pixels_become_square_where_only_the_container_tells(
    tmp_path: Path, make: Make, corner_clip: Path, name: str, arguments: tuple[str, ...]
) -> None:
    made = normalise_template(make(name, "-i", str(corner_clip), *arguments), tmp_path)
    assert made.clip.size == (170, 96)
    assert "stretched pixels: scaled to square ones" in made.changes


def test_sound_is_extracted_in_time_with_the_picture(tmp_path: Path, make: Make) -> None:
    path = make(
        "flash.mp4",
        *(
            "-f",
            "lavfi",
            "-i",
            "color=black:s=64x64:r=25:d=2,drawbox=color=white:t=fill:enable='gte(t,1)'",
        ),
        *("-f", "lavfi", "-i", "aevalsrc='if(gte(t,1),sin(2000*t),0)':s=44100:d=2"),
        *(*H264, "-c:a", "aac", "-b:a", "128k"),
    )
    made = normalise_template(path, tmp_path)
    assert made.audio is not None
    data = np.frombuffer(made.audio.read_bytes()[44:], dtype="<i2").reshape(-1, 2)
    assert len(data) / 48000 == pytest.approx(2.0, abs=0.05)
    onset = int(np.argmax(np.abs(data[:, 0]) > 8000)) / 48000
    assert onset == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("damage", [bytes(2600), os.urandom(2600)], ids=["zeros", "noise"])
def test_a_video_that_does_not_decode_leaves_nothing(
    tmp_path: Path, clip: Path, damage: bytes
) -> None:
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat") + 20_000
    data[start : start + len(damage)] = damage
    path = tmp_path / "bad.mp4"
    path.write_bytes(data)
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(BadMedia) as caught:
        normalise_template(path, target)
    assert caught.value.code == "media.undecodable"
    assert list(target.iterdir()) == []


def test_a_full_disk_is_told(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "mezzanine.mkv").symlink_to("/dev/full")
    with pytest.raises(StoreUnavailable) as caught:
        normalise_template(clip, tmp_path)
    assert caught.value.code == "disk.full"


# --- shots ----------------------------------------------------------------------------------------


def scene(seed: int, count: int, drift: float = 0.0) -> Iterator[U8]:
    """Smooth coloured blobs, panning by ``drift`` pixels a frame, with camera noise."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6.28, (3, 3))
    rate = rng.uniform(0.01, 0.05, (3, 3))
    level = rng.uniform(60, 180, 3)
    y, x = np.mgrid[0:90, 0:160].astype(np.float32)
    for n in range(count):
        planes = [
            level[c]
            + 40 * np.sin(rate[c, 0] * (x + drift * n) + phase[c, 0])
            + 30 * np.sin(rate[c, 1] * y + phase[c, 1])
            for c in range(3)
        ]
        noise = rng.normal(0, 3, (90, 160, 3))
        yield np.clip(np.stack(planes, axis=-1) + noise, 0, 255).astype(np.uint8)


def converted(*scenes: Iterator[U8]) -> Iterator[Yuv420]:
    for frames in scenes:
        for frame in frames:
            yield rgb_to_yuv420(frame)


def test_cuts_are_found_at_their_frame() -> None:
    parts = [scene(1, 25), scene(2, 40, drift=2), scene(3, 12), scene(1, 30, drift=1)]
    assert shot_starts(converted(*parts)) == [0, 25, 65, 77]


def test_a_short_card_before_the_first_cut_is_a_shot() -> None:
    assert shot_starts(converted(scene(1, 3), scene(2, 20))) == [0, 3]


def test_pans_noise_and_fades_are_no_cuts() -> None:
    assert shot_starts(converted(scene(4, 60, drift=8))) == [0]
    fade = ((f * (n / 40)).astype(np.uint8) for n, f in enumerate(scene(5, 40)))
    assert shot_starts(converted(fade)) == [0]


def test_a_camera_flash_is_no_cut() -> None:
    frames = list(scene(6, 40))
    for n in (20, 21):
        frames[n] = np.clip(frames[n].astype(int) + 110, 0, 255).astype(np.uint8)
    assert shot_starts(converted(iter(frames))) == [0]


def test_no_frames_have_no_shots() -> None:
    assert shot_starts([]) == []
