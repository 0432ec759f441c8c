"""Whose face is it? dlib's 128-d embedding, to measure that a swap looks like the recipient.

Network: dlib_face_recognition_resnet_model_v1 (D. King, 2017; CC0), shipped in the package
``face_recognition_models``. Its author's rule: under 0.6 apart is the same person.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.face.landmarks import FaceMesh

Image = NDArray[np.uint8]
Embedding = NDArray[np.float32]

SAME_PERSON = 0.6
"""Distance under which the network's author takes two pictures for the same person."""


def embed(rgb: Image) -> Embedding | None:
    """Embed the largest face of a picture.

    Args:
        rgb: uint8 [h, w, 3].

    Returns:
        float32 [128], or ``None`` when there is no face.
    """
    with FaceMesh(max_faces=1) as mesh:
        faces = mesh.detect(rgb)
    return embed_points(rgb, faces[0].points) if faces else None


def embed_points(rgb: Image, points: NDArray[np.float32]) -> Embedding:
    """Embed a face whose landmarks are known.

    Args:
        rgb: uint8 [h, w, 3].
        points: float32 [478, 2 or more] pixels.
    """
    import dlib

    predictor, network = _networks()
    # dlib's predictor was trained on its own detector's squares: brows to chin.
    x0, y0 = points[_BOX_POINTS, :2].min(0)
    x1, y1 = points[_BOX_POINTS, :2].max(0)
    half = max(x1 - x0, y1 - y0) / 2
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    box = dlib.rectangle(int(cx - half), int(cy - half), int(cx + half), int(cy + half))
    picture = np.ascontiguousarray(rgb)
    shape = predictor(picture, box)
    return np.array(network.compute_face_descriptor(picture, shape, 1), np.float32)


def distance(a: Embedding, b: Embedding) -> float:
    """Euclidean distance of two embeddings: 0 the same picture, over 0.6 another person."""
    return float(np.linalg.norm(a - b))


_BOX_POINTS = np.array([105, 334, 152, 234, 454])


@cache
def _networks() -> tuple[Any, Any]:
    import dlib

    folder = _weights()
    return (
        dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat")),
        dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat")),
    )


def _weights() -> Path:
    """Folder of the weights, found without importing the package, which needs setuptools."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise ImportError("face_recognition_models is not installed: install the worker's lock")
    return Path(spec.origin).parent / "models"
