"""Photos: strangers' decoded in the limited child, ours written."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from include.errors import Bug, StoreUnavailable
from include.media import limits
from include.media.encode import temporary_name
from include.media.pixels import U8
from include.media.probe import check_image, pillow_format
from include.media.sandbox import run_child
from include.media.structure import unsafe


def load_photo(path: Path) -> U8:
    """Decode a stranger's JPEG, PNG or WebP.

    It comes back upright (EXIF orientation), in sRGB (embedded profile), 8 bits, alpha over white.

    Returns:
        RGB uint8 [h, w, 3], at most 24 million pixels.

    Raises:
        BadMedia: it cannot be used; ``code`` says why.
        UnsafeMedia: it is hostile, disguised or out of bounds.
    """
    arguments = ["image", pillow_format(check_image(path)), os.path.abspath(path)]
    answer, pixels = run_child("decode", arguments, path, limits.DECODE_IMAGE)
    width, height = int(answer["width"]), int(answer["height"])
    if min(width, height) < 1 or len(pixels) != width * height * 3:
        unsafe(path, "media.crashed", "the process that decoded it gave half an answer")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3).copy()


def save_jpeg(rgb: U8, path: Path, quality: int = 92) -> None:
    """Write RGB uint8 [h, w, 3] as a JPEG, without metadata, 4:4:4 from quality 90 on.

    Raises:
        StoreUnavailable: it cannot be written, for one because the disk is full.
    """
    sampling = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        if quality >= 90
        else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    )
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _save(rgb, path, ".jpg", options)


def save_png(rgb: U8, path: Path, *, small: bool = False) -> None:
    """Write RGB uint8 [h, w, 3] as a PNG, quickly: a sixth larger in a quarter of the time.

    Args:
        rgb: the picture.
        path: the file to make.
        small: take the time, as OpenCV does by default.

    Raises:
        StoreUnavailable: it cannot be written, for one because the disk is full.
    """
    _save(rgb, path, ".png", [] if small else [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _save(rgb: U8, path: Path, extension: str, options: list[int]) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise Bug(f"cannot write {rgb.dtype} {list(rgb.shape)} to {path}: want uint8 [h, w, 3]")
    done, data = cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise Bug(f"OpenCV could not encode {path}")
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(data.tobytes())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        full = error.errno == 28
        raise StoreUnavailable(
            f"cannot write {path} ({error.strerror}): free some space or check the folder",
            code="disk.full" if full else None,
            where=str(path),
        ) from error
