"""The ``mesh`` swap of many frames at once, on a GPU or wherever PyTorch computes.

The same steps as in ``models.face_swap.mesh``. Geometry and the outlines of eyes and lips, a few
hundred points a frame, are prepared on the CPU; whatever is done to each pixel is done to all
frames of a batch together. Maps are float32, because half precision does not know a place in a
picture to a fraction of a pixel; colours are joined in half precision on CUDA.

A batch has one rectangle, that of all its faces, where a single frame has its own. The grids of the
map and of the colours' membrane therefore lie elsewhere, and triangles are filled by another rule:
results differ from the CPU's by little (see the tests), but not by nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.face import geometry, topology
from models.face_swap import batch_ops as ops
from models.face_swap import blend, gaze
from models.face_swap.batch_map import Maps, mesh_maps
from models.face_swap.mesh import Image, MeshSwapper, Points, face_box, strength_at
from models.face_swap.reference import ColourReference
from models.face_swap.texture import Texture
from models.upscale.batches import MEMORY_MIB, frames_that_fit, in_halves, open_device

BYTES_A_PIXEL = 700
"""Of a face's rectangle, what a frame takes of the device's memory at most."""

Swapped = tuple[Image, Image]


@dataclass(frozen=True)
class _Face:
    """A frame that is to be swapped."""

    index: int
    points: Points
    strength: float

    @property
    def step(self) -> int:
        """Grid spacing of its map."""
        return 2 if geometry.interocular(self.points) > 60 else 1


class BatchedMeshSwapper(MeshSwapper):
    """``MeshSwapper`` that works on batches.

    Args:
        source_rgb: uint8 [h, w, 3] the recipient's photo.
        source_points: float32 [478, 3] its landmarks.
        device: ``cuda`` with an optional index, or ``cpu``.
        memory_mib: what a batch may take of the device's memory.

    Raises:
        ValueError: shapes are wrong, or the device is not there.
    """

    def __init__(
        self,
        source_rgb: Image,
        source_points: Points,
        *,
        device: str = "cuda",
        memory_mib: int = MEMORY_MIB,
    ) -> None:
        super().__init__(source_rgb, source_points)
        self._device = open_device(device)
        self._memory_mib = memory_mib
        self._kind = torch.float16 if self._device.type == "cuda" else torch.float32
        self._there: tuple[Texture, Tensor, Tensor] | None = None

    def batch(self, height: int, width: int) -> int:
        """How many frames of a window to hand over at once."""
        return frames_that_fit(self._memory_mib, height * width * BYTES_A_PIXEL)

    def swap(
        self, frame: Image, points: Points, reference: ColourReference | None = None
    ) -> Swapped:
        """See ``MeshSwapper.swap``."""
        return self.swap_many([frame], [points], reference)[0]

    def swap_many(
        self,
        frames: Sequence[Image],
        points: Sequence[Points],
        reference: ColourReference | None = None,
    ) -> list[Swapped]:
        """See ``MeshSwapper.swap_many``.

        Raises:
            MemoryError: the device has no room for a single frame.
        """
        if reference is None:
            return super().swap_many(frames, points, None)
        out = [(frame.copy(), np.zeros(frame.shape[:2], np.uint8)) for frame in frames]
        faces = []
        for index, (frame, marks) in enumerate(zip(frames, points, strict=True)):
            strength = strength_at(marks)
            if face_box(marks, frame.shape[1], frame.shape[0]) is not None and strength > 0:
                faces.append(_Face(index, marks.astype(np.float32), strength))
        for step in sorted({face.step for face in faces}):
            alike = [face for face in faces if face.step == step]
            self._swap_alike(frames, alike, reference, step, out)
        return out

    def _swap_alike(
        self,
        frames: Sequence[Image],
        faces: list[_Face],
        reference: ColourReference,
        step: int,
        out: list[Swapped],
    ) -> None:
        height, width = frames[0].shape[:2]
        boxes = np.array([face_box(face.points, width, height) for face in faces])
        (x0, y0), (x1, y1) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        local = []
        for face in faces:
            marks = face.points.copy()
            marks[:, :2] -= np.array([x0, y0], np.float32)
            local.append(_Face(face.index, marks, face.strength))
        parts = [np.ascontiguousarray(frames[face.index][y0:y1, x0:x1]) for face in faces]
        known = {id(part): face for part, face in zip(parts, local, strict=True)}

        def work(some: Sequence[Image]) -> list[Image]:
            with torch.inference_mode():
                return self._render_many(some, [known[id(part)] for part in some], reference, step)

        for face, made in zip(faces, in_halves(work, parts), strict=True):
            swapped, mask = out[face.index]
            changed = made[..., 3] > 0
            swapped[y0:y1, x0:x1][changed] = made[..., :3][changed]
            mask[y0:y1, x0:x1] = made[..., 3]

    def _render_many(
        self, parts: Sequence[Image], faces: list[_Face], reference: ColourReference, step: int
    ) -> list[Image]:
        """New pixels and their opacity: uint8 [h, w, 4] a frame."""
        texture, rgba, zones = self._texture_there(reference)
        height, width = parts[0].shape[:2]
        frame = torch.from_numpy(np.stack(parts)).to(self._device).permute(0, 3, 1, 2).float()
        marks = [face.points for face in faces]
        seen = mesh_maps(marks, reference.points, width, height, step, self._device)
        seen = _look(seen, marks, texture)
        shown = ops.remap(rgba, seen.x, seen.y).round()
        strength = torch.tensor([face.strength for face in faces], device=self._device)
        alpha = (shown[:, 3] * seen.cover * strength[:, None, None] / 255).round()
        eye = float(np.median([geometry.interocular(each) for each in marks]))
        warped, alpha = _match_edges(frame, shown[:, :3], alpha, zones, seen, eye)
        keep = [_kept(each, height, width, reference, texture) for each in marks]
        kept = torch.from_numpy(np.stack(keep)).to(self._device).float()
        alpha = (alpha * kept / 255).round()
        share = (alpha / 255).to(self._kind)[:, None]
        joined = warped.to(self._kind) * share + frame.to(self._kind) * (1 - share)
        made = torch.cat((joined.float().round().clamp(0, 255), alpha[:, None]), 1)
        host = made.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return list(np.asarray(host, np.uint8))

    def _texture_there(self, reference: ColourReference) -> tuple[Texture, Tensor, Tensor]:
        """The shot's texture, and its planes on the device: float32 [1, 4 or 3, h, w]."""
        texture = self.texture(reference)
        if self._there is None or self._there[0] is not texture:
            rgba, zones = (
                torch.from_numpy(picture).to(self._device).permute(2, 0, 1)[None].float()
                for picture in (texture.rgba, texture.zones)
            )
            self._there = (texture, rgba, zones)  # one shot's: they come one after the other
        return self._there


def _look(seen: Maps, marks: Sequence[Points], texture: Texture) -> Maps:
    """``gaze.follow`` for a batch."""
    x, y = seen.x.clone(), seen.y.clone()
    for k, points in enumerate(marks):
        for outline, centre, iris in zip(gaze.EYES, gaze.IRIS_CENTRES, texture.irises, strict=True):
            lids, looks = points[outline, :2], points[centre, :2]
            reach = float(np.linalg.norm(lids[0] - lids[8]))
            window = gaze.eye_window(lids, reach * 0.1, (x.shape[1], x.shape[2]))
            if window is None or reach < 4:
                continue
            x0, y0, x1, y1 = window
            part = (k, slice(y0, y1), slice(x0, x1))
            now = torch.stack([_at(plane[k], looks) for plane in (seen.x, seen.y)])
            shift = now - torch.from_numpy(iris).to(now)
            most = gaze.MOST * (seen.x[part].amax() - seen.x[part].amin())
            shift = shift * (most / shift.norm().clamp(min=1e-6)).clamp(max=1.0)
            weight = torch.from_numpy(gaze.iris_weight(lids, looks, reach, window)).to(now)
            x[part] -= shift[0] * weight
            y[part] -= shift[1] * weight
    return Maps(x, y, seen.cover)


def _at(plane: Tensor, place: Points) -> Tensor:
    """A plane's value between pixels, bilinear."""
    height, width = plane.shape
    x = float(np.clip(place[0], 0, width - 1.001))
    y = float(np.clip(place[1], 0, height - 1.001))
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    fx, fy = x - left, y - top
    upper = plane[top, left] * (1 - fx) + plane[top, right] * fx
    lower = plane[bottom, left] * (1 - fx) + plane[bottom, right] * fx
    return upper * (1 - fy) + lower * fy


def _match_edges(
    frame: Tensor, warped: Tensor, alpha: Tensor, zones: Tensor, seen: Maps, eye: float
) -> tuple[Tensor, Tensor]:
    """``blend.sample_small`` and ``blend.match_edges`` for a batch."""
    height, width = alpha.shape[1:]
    small_w, small_h = blend.small_size(width, height, eye)
    x, y = (ops.nearest(plane[:, None], small_h, small_w)[:, 0] for plane in (seen.x, seen.y))
    smooth, inside, skin = (ops.remap(zones, x, y).round() / 255).unbind(1)
    own, other = (ops.area(planes, small_h, small_w).round() for planes in (frame, warped))
    valid = (ops.area(seen.cover[:, None], small_h, small_w)[:, 0].round() > 250).float()
    amount = (own - other).abs().mean(1)
    low, high = blend.OCCLUDED
    hidden = ((amount - low) / (high - low)).clamp(0, 1)
    hidden = ops.gaussian((hidden * smooth)[:, None], 0.8)
    weight = valid * skin * (1 - inside).square() * torch.exp(-(amount / blend.LIKE_SKIN).square())
    weight = weight[:, None]
    ratio = (own + blend.DARK) / (other + blend.DARK)
    mean = (ratio.clamp(*blend.GAIN_RANGE) * weight + blend.TRUST) / (weight + blend.TRUST)
    factor = ops.pull_push(mean, weight + blend.TRUST)
    shifted = (warped * ops.resize(factor, height, width)).round().clamp(0, 255)
    shown = ops.resize((255 * (1 - hidden)).floor(), height, width)[:, 0].round()
    dimmed = (alpha * shown / 255).round()
    anything = hidden.amax((1, 2, 3)) > 0.01
    return shifted, torch.where(anything[:, None, None], dimmed, alpha)


def _kept(
    points: Points, height: int, width: int, reference: ColourReference, texture: Texture
) -> Image:
    """What the presenter's own lips, lids and eyeballs leave of the face: uint8 [h, w]."""
    eye = geometry.interocular(points)
    keep = np.full((height, width), 255, np.uint8)
    blend.cut(keep, points[topology.INNER_LIPS], 0.012 * eye, rim=0.010 * eye)
    gaze.cut_eyes(keep, points, reference, texture.eyes_open)
    return keep
