"""Real portraits that ship with libraries (public domain), and little videos made of them."""

from __future__ import annotations

from functools import cache

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image as PillowImage

from models.face.landmarks import FaceMesh

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


@cache
def astronaut() -> Image:
    return np.ascontiguousarray(skimage.data.astronaut())


@cache
def hopper() -> Image:
    with PillowImage.open(
        matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    ) as file:
        return np.array(file.convert("RGB"))


@cache
def landmarks(name: str) -> Points:
    with FaceMesh(max_faces=1) as mesh:
        return mesh.detect({"astronaut": astronaut, "hopper": hopper}[name]())[0].points


def resized(picture: Image, scale: float) -> Image:
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=how), np.uint8)


def placed(picture: Image, x: int, y: int, size: tuple[int, int] = (960, 540)) -> Image:
    """A grey frame of (width, height) with a picture in it, cut off at the frame's edges."""
    frame = np.full((size[1], size[0], 3), 90, np.uint8)
    part = picture[: size[1] - y, : size[0] - x]
    frame[y : y + part.shape[0], x : x + part.shape[1]] = part
    return frame


def moved(picture: Image, dx: float, dy: float, degrees: float = 0.0) -> Image:
    """A picture turned about its middle and shifted."""
    h, w = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 1.0)
    matrix[:, 2] += (dx, dy)
    flags = cv2.INTER_LINEAR
    return np.asarray(
        cv2.warpAffine(picture, matrix, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )
