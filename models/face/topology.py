"""Which of the 478 landmarks are which: outlines, eyes, lips, rigid points, and the mesh.

Indices are those of MediaPipe FaceMesh with refined landmarks (Kartynnik et al., "Real-time Facial
Surface Geometry from Monocular Video on Mobile GPUs", 2019): 0..467 are the mesh, 468..477 the
irises. *Left* and *right* are the viewer's, that is image left and image right.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int32]


def _indices(*values: int) -> Indices:
    array = np.array(values, np.int32)
    array.setflags(write=False)
    return array


def _load(name: str) -> Indices:
    table = np.loadtxt(Path(__file__).with_name(name), np.int32, delimiter=",")
    table.setflags(write=False)
    return table


POINTS = 478
"""Landmarks of a face, irises included."""

MESH_POINTS = 468
"""Landmarks that belong to the mesh."""

# fmt: off
FACE_OVAL = _indices(
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
"""Outline of the mesh, clockwise on the screen from the top of the forehead."""

INNER_LIPS = _indices(
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)
"""Edge of the mouth opening, from the left corner along the lower lip."""

OUTER_LIPS = _indices(
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)
"""Edge of the red of the lips, from the left corner along the lower lip."""

LEFT_EYE = _indices(
    33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
)
"""Lid edge of the eye on the image's left, from its outer corner along the lower lid."""

RIGHT_EYE = _indices(
    263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466,
)
"""Lid edge of the eye on the image's right, from its outer corner along the lower lid."""

LEFT_IRIS = _indices(468, 469, 470, 471, 472)
"""Centre, then four points of the iris's rim, of the eye on the image's left."""

RIGHT_IRIS = _indices(473, 474, 475, 476, 477)
"""Centre, then four points of the iris's rim, of the eye on the image's right."""

LEFT_BROW = _indices(70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
RIGHT_BROW = _indices(300, 293, 334, 296, 336, 285, 295, 282, 283, 276)

RIGID = _indices(
    10, 67, 297, 109, 338, 33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 127, 356, 234, 454,
    151, 9, 8, 21, 251, 54, 284, 1, 98, 327,
)
"""Upper-face points that neither speech nor expression moves much: they carry the head's pose."""

LIP_PAIRS: tuple[tuple[int, int], ...] = (
    (13, 14), (82, 87), (312, 317), (81, 178), (311, 402), (80, 88), (310, 318), (191, 95),
    (415, 324),
)
"""(upper, lower) points of the inner lips that meet when the mouth closes, centre first."""

LEFT_LID_PAIRS: tuple[tuple[int, int], ...] = (
    (159, 145), (158, 153), (160, 144), (157, 154), (161, 163), (173, 155), (246, 7),
)
"""(upper, lower) points of the left eye's lids that meet in a blink, centre first."""

RIGHT_LID_PAIRS: tuple[tuple[int, int], ...] = (
    (386, 374), (385, 380), (387, 373), (384, 381), (388, 390), (398, 382), (466, 249),
)
"""(upper, lower) points of the right eye's lids that meet in a blink, centre first."""

SYMMETRIC_PAIRS: tuple[tuple[int, int], ...] = (
    (33, 263), (133, 362), (127, 356), (234, 454), (93, 323), (54, 284), (172, 397),
)
"""(left, right) points that mirror each other and keep their distance: the head's own x axis."""
# fmt: on

LEFT_MOUTH_CORNER, RIGHT_MOUTH_CORNER = 61, 291
LEFT_EYE_OUTER, LEFT_EYE_INNER, RIGHT_EYE_INNER, RIGHT_EYE_OUTER = 33, 133, 362, 263
FOREHEAD, CHIN, NOSE_TIP = 10, 152, 1

TRIANGLES: Indices = _load("triangles.csv")
"""int32 [852, 3]: the mesh, with the mouth and both eyes left open.

They are the 3-cliques of FaceMesh's tessellation edges, less two that enclose other triangles.
Winding is clockwise on the screen (y down) where the surface faces the camera, so that
``cross(b - a, c - a) > 0`` there and is negative where the surface is turned away.
"""

MIRROR: Indices = _load("mirror.csv")
"""int32 [468]: the point that a point becomes when the picture is mirrored."""
