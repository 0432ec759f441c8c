"""From the layout back into the frame."""

from __future__ import annotations

import cv2
import numpy as np

from models.face import topology
from models.face.occlusion.arrays import Image, Mask
from models.face.occlusion.layout import Layout
from models.face.occlusion.mesh import mesh_vertices, paint
from models.face.occlusion.persistence import Found
from models.face_swap import warp

STEP = 2
"""Pixels of the frame between two that are looked up in the layout."""


def to_window(layout: Layout, cover: Mask, found: Found) -> Image:
    """A mask of the layout in its frame, fading outwards: uint8 [h, w], 255 in it."""
    height, width = found.size
    if not cover.any():
        return np.zeros((height, width), np.uint8)
    soft = cv2.GaussianBlur(cover.astype(np.uint8) * 255, (0, 0), 0.8)
    vertices = (mesh_vertices(found.points) + 0.5) / STEP - 0.5
    size = -(-width // STEP), -(-height // STEP)
    triangles = warp.ALL
    if found.points.shape[1] > 2:
        depth = np.concatenate([found.points[: topology.MESH_POINTS, 2], np.full(36, np.inf)])
        triangles = triangles[np.argsort(-depth[triangles].mean(1), kind="stable")]
    pixels, corners, shares = paint(vertices, triangles, *size)
    at = np.full((size[1] * size[0], 2), -10, np.float32)
    at[pixels] = np.einsum("nk,nkd->nd", shares, mesh_vertices(layout.points)[corners])
    at = at.reshape(size[1], size[0], 2)
    shown = cv2.remap(soft, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    full = cv2.resize(shown, (size[0] * STEP, size[1] * STEP), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(full[:height, :width], np.uint8)
