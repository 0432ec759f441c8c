from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from include.errors import Bug, StoreUnavailable
from include.media import images
from include.media.images import load_photo, save_jpeg, save_png

RAMP = np.random.default_rng(5).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_png_round_trip_is_exact(tmp_path: Path) -> None:
    save_png(RAMP, tmp_path / "a.png")
    assert np.array_equal(load_photo(tmp_path / "a.png"), RAMP)


def test_a_small_png_has_the_bytes_that_opencv_writes(tmp_path: Path) -> None:
    save_png(RAMP, tmp_path / "a.png", small=True)
    cv2.imwrite(str(tmp_path / "b.png"), cv2.cvtColor(RAMP, cv2.COLOR_RGB2BGR))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_jpeg_keeps_colours(tmp_path: Path) -> None:
    flat = np.full((64, 48, 3), (200, 90, 30), np.uint8)
    save_jpeg(flat, tmp_path / "a.jpg", quality=95)
    assert np.abs(load_photo(tmp_path / "a.jpg").astype(int) - flat).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_come_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(np.full((30, 50, 3), 255, np.uint8))
    upright.paste((255, 0, 0), (0, 0, 20, 12))
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(load_photo(tmp_path / "a.png"), np.asarray(upright))


def test_transparency_shows_white(tmp_path: Path) -> None:
    Image.new("RGBA", (10, 10), (200, 0, 0, 0)).save(tmp_path / "a.png")
    assert (load_photo(tmp_path / "a.png") == 255).all()
    Image.new("RGBA", (10, 10), (200, 0, 0, 128)).save(tmp_path / "b.png")
    assert np.abs(load_photo(tmp_path / "b.png")[0, 0].astype(int) - (227, 127, 127)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "CMYK", "I;16"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((12, 9), 128 * 257, np.uint16))
    else:
        image = Image.new("L", (9, 12), 128).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(path)
    rgb = load_photo(path)
    assert rgb.shape == (12, 9, 3)
    if mode not in ("1",):
        assert np.abs(rgb.astype(int) - 128).max() <= 3


def test_an_embedded_profile_is_converted_and_a_broken_one_ignored(tmp_path: Path) -> None:
    lab_free = Image.new("RGB", (8, 8), (120, 200, 40))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile at all"):
        lab_free.save(tmp_path / "a.png", icc_profile=profile)
        assert np.abs(load_photo(tmp_path / "a.png")[0, 0].astype(int) - (120, 200, 40)).max() <= 1


def test_an_animation_gives_its_first_picture(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (16, 16), c) for c in ((10, 200, 30), (200, 10, 30)))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    assert tuple(load_photo(tmp_path / "a.webp")[0, 0]) == (10, 200, 30)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    monkeypatch.setattr(images, "temporary_name", lambda _path: full)
    with pytest.raises(StoreUnavailable) as caught:
        save_png(RAMP, tmp_path / "a.png")
    assert caught.value.code == "disk.full"
    assert list(tmp_path.iterdir()) == []


def test_only_pictures_are_written(tmp_path: Path) -> None:
    with pytest.raises(Bug):
        save_png(RAMP[..., 0], tmp_path / "a.png")
