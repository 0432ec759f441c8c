"""The pictures the network learns from, and the ones it is judged on.

Both sets are named here with the sha256 of their files, so that a test can show that they do not
overlap. Every file ships inside a Python package of the worker environment (scikit-image,
scikit-learn, matplotlib), which fixes its licence and makes the training repeatable offline. The
split was made by kind before anything was trained: for each kind of picture in the held-out set
(object, animal, night scene, figure in a landscape, texture, print, flat graphic) another one of
that kind is left for training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Image:
    """One picture file in an installed package."""

    name: str
    """What tables and logs call it."""
    package: str
    """Import name of the package that carries it."""
    path: str
    """File inside the package."""
    sha256: str
    """Of the file's bytes."""


TRAINING: tuple[Image, ...] = (
    Image(
        "china",
        "sklearn",
        "datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    ),
    Image(
        "flower",
        "sklearn",
        "datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    ),
    Image(
        "motorcycle_left",
        "skimage",
        "data/motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    ),
    Image(
        "motorcycle_right",
        "skimage",
        "data/motorcycle_right.png",
        "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
    ),
    Image(
        "retina",
        "skimage",
        "data/retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
    ),
    Image(
        "ihc",
        "skimage",
        "data/ihc.png",
        "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
    ),
    Image(
        "hubble",
        "skimage",
        "data/hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    ),
    Image(
        "brick",
        "skimage",
        "data/brick.png",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    ),
    Image(
        "grass",
        "skimage",
        "data/grass.png",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    ),
    Image(
        "coins",
        "skimage",
        "data/coins.png",
        "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
    ),
    Image(
        "moon",
        "skimage",
        "data/moon.png",
        "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
    ),
    Image(
        "page",
        "skimage",
        "data/page.png",
        "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
    ),
    Image(
        "present",
        "matplotlib",
        "mpl-data/sample_data/Minduka_Present_Blue_Pack.png",
        "5e72868826a7a4329a950e5a9efa393594807833fb7f27e5cd001a8afb9cd081",
    ),
)
"""Seen by ``train.py``, beside the pictures that ``synthetic.py`` draws."""

HELD_OUT: tuple[Image, ...] = (
    Image(
        "coffee",
        "skimage",
        "data/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    ),
    Image(
        "chelsea",
        "skimage",
        "data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    ),
    Image(
        "rocket",
        "skimage",
        "data/rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    ),
    Image(
        "camera",
        "skimage",
        "data/camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    ),
    Image(
        "gravel",
        "skimage",
        "data/gravel.png",
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
    ),
    Image(
        "text",
        "skimage",
        "data/text.png",
        "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1",
    ),
    Image(
        "logo",
        "skimage",
        "data/logo.png",
        "f2c57fe8af089f08b5ba523d95573c26e62904ac5967f4c8851b27d033690168",
    ),
)
"""Never seen in training; what ``benchmarks/upscale.py`` measures on."""

EXCLUDED: tuple[Image, ...] = (
    Image(
        "astronaut",
        "skimage",
        "data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    Image(
        "grace_hopper",
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
    ),
    Image(
        "lfw_subset",
        "skimage",
        "data/lfw_subset.npy",
        "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c",
    ),
)
"""Portraits of real people, kept out of both sets: two are sources of the sample people."""


def locate(image: Image) -> Path:
    """Find a picture's file.

    Args:
        image: an entry of this module's tables.

    Returns:
        The file's path.

    Raises:
        ValueError: the package is not installed, or its file is missing or differs from the digest.
    """
    spec = find_spec(image.package)
    if spec is None or spec.origin is None:
        raise ValueError(f"{image.name}: package {image.package} is not installed")
    path = Path(spec.origin).parent / image.path
    if not path.is_file():
        raise ValueError(f"{image.name}: {image.package} has no {image.path}; pin its version")
    if hashlib.sha256(path.read_bytes()).hexdigest() != image.sha256:
        raise ValueError(f"{image.name}: {path} is not the file that this table describes")
    return path


def read(image: Image) -> npt.NDArray[np.uint8]:
    """Read a picture.

    Args:
        image: an entry of this module's tables.

    Returns:
        RGB uint8 [h, w, 3]; transparency is dropped, grey becomes three equal channels.

    Raises:
        ValueError: see `locate`; or the file does not decode.
    """
    path = locate(image)
    bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"{image.name}: {path} does not decode as a picture")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
