"""The sampling maps of several frames at once: triangles are filled where PyTorch computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.face_swap import batch_ops as ops
from models.face_swap import warp

Points = NDArray[np.float32]

TESTS_AT_ONCE = 4_000_000
"""Every triangle is tested against every cell of the grid; this many tests take 100 MiB."""
OUTLINE = 0.5
"""Cells that a triangle reaches beyond its edges, as OpenCV's filled polygons do."""


@dataclass(frozen=True)
class Mesh:
    """One frame's triangles in painting order, in cells of the grid."""

    corners: NDArray[np.float32]
    """[t, 3, 2]"""
    visible: NDArray[np.bool_]
    """[t]"""
    forward: NDArray[np.float32]
    """[t, 6] affine maps to the layout."""
    surface: NDArray[np.bool_]
    """[t] False for the ring around the oval, which is never seen."""

    @classmethod
    def of(cls, target: Points, source: Points, step: int) -> Mesh:
        """As in ``warp.mesh_map``, whose arguments these are."""
        to, frm = warp.with_ring(target), warp.with_ring(source)
        order = warp.painting_order(target)
        triangles = warp.ALL[order]
        forward, good = warp.affine(to[triangles], frm[triangles])
        ring = order < warp.RING_COUNT
        visible = good & (warp.facing(target)[order] | ring)
        corners = ((to[triangles] + 0.5) / step - 0.5).astype(np.float32)
        return cls(corners, visible, forward.reshape(-1, 6), ~ring)


@dataclass(frozen=True)
class Maps:
    """Where each pixel of a batch comes from; float32 [n, h, w]."""

    x: Tensor
    y: Tensor
    cover: Tensor
    """0 to 255, as in ``warp.Map``."""


def mesh_maps(
    targets: Sequence[Points],
    source: Points,
    width: int,
    height: int,
    step: int,
    device: torch.device,
) -> Maps:
    """Build the maps of ``warp.mesh_map`` for several frames.

    Args:
        targets: float32 [478, 2 or 3] pixels of the rectangle, one for each frame.
        source: float32 [478, 2 or more] pixels of the layout.
        width: of the rectangle.
        height: of the rectangle.
        step: grid spacing in pixels.
        device: where to.
    """
    meshes = [Mesh.of(target, source, step) for target in targets]
    grid_w, grid_h = -(-width // step), -(-height // step)
    labels = torch.stack([_rasterise(mesh, grid_w, grid_h, device) for mesh in meshes])
    labels = ops.grow(labels, 1)
    nowhere = np.full((1, 6), -1e4, np.float32)
    matrices = [np.concatenate([nowhere, mesh.forward]) for mesh in meshes]
    table = torch.from_numpy(np.stack(matrices)).to(device)
    wide = ops.grow(labels, 4)
    m = torch.stack([table[k][wide[k]] for k in range(len(meshes))])
    y, x = torch.meshgrid(
        torch.arange(grid_h, device=device) * step + (step - 1) / 2,
        torch.arange(grid_w, device=device) * step + (step - 1) / 2,
        indexing="ij",
    )
    map_x = m[..., 0] * x + m[..., 1] * y + m[..., 2]
    map_y = m[..., 3] * x + m[..., 4] * y + m[..., 5]
    planes = ops.gaussian(ops.median5(torch.stack((map_x, map_y), 1)), 0.8)
    shown = [np.concatenate([[0], np.where(mesh.surface, 255, 0)]) for mesh in meshes]
    seen = torch.from_numpy(np.stack(shown).astype(np.float32)).to(device)
    cover = torch.stack([seen[k][labels[k]] for k in range(len(meshes))])[:, None]
    if step > 1:
        planes = ops.resize(planes, grid_h * step, grid_w * step)
        cover = ops.resize(cover, grid_h * step, grid_w * step).round()
    inner = (slice(None), slice(None, height), slice(None, width))
    return Maps(planes[:, 0][inner], planes[:, 1][inner], cover[:, 0][inner])


def _rasterise(mesh: Mesh, width: int, height: int, device: torch.device) -> Tensor:
    """Triangle numbers (from 1) of the grid's cells, the last painted wins; 0 where none is."""
    drawn = np.flatnonzero(mesh.visible)
    corners = torch.from_numpy(mesh.corners[drawn]).to(device)
    numbers = torch.from_numpy(drawn + 1).to(device)
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    x, y = x.reshape(-1, 1), y.reshape(-1, 1)
    labels = torch.zeros(height * width, dtype=torch.int64, device=device)
    at_once = max(8, TESTS_AT_ONCE // len(x))
    for first in range(0, len(drawn), at_once):
        part = slice(first, first + at_once)
        inside = _inside(corners[part], x, y)
        labels = torch.maximum(labels, (inside * numbers[part]).amax(1))
    return labels.reshape(height, width)


def _inside(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Which triangles [t, 3, 2] hold which points [p, 1], their outline included: [p, t]."""
    low, high = corners.amin(1) - OUTLINE, corners.amax(1) + OUTLINE
    inside = (x >= low[:, 0]) & (x <= high[:, 0]) & (y >= low[:, 1]) & (y <= high[:, 1])
    edges = corners.roll(-1, 1) - corners
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    for k in range(3):
        across = edges[:, k, 0] * (y - corners[:, k, 1]) - edges[:, k, 1] * (x - corners[:, k, 0])
        length = edges[:, k].norm(dim=-1).clamp(min=1e-6)
        inside &= across * area.sign() / length >= -OUTLINE
    return inside
