"""Backend ``viseme``: moves a real face's mouth by a mesh warp and fills the opening.

Everything about a shot is worked out once (:func:`analyse_mouth`); each frame is then a pure
function of its pixels, its number and its command, so chunks and retries give the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.face import topology
from models.face.geometry import Similarity, head_pose
from models.face.roi import RING, Window, ring_points
from models.lip_sync import basis, warp
from models.lip_sync.curves import MouthCurves
from models.lip_sync.interior import BankInterior, MouthView, PaintedInterior, measure_tones

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

OPEN_RANGE = (0.13, 0.20)
"""What "wide open" may mean, in eye distances, whatever the clip shows."""
OPEN_DEFAULT = 0.15
"""The same for a clip whose mouth never opens."""
_TALKS = 0.07
_MARGIN = 5
_FEATHER = 1.5
_RIM = 0.14  # share of an open mouth's lip, from its inner edge, that is left behind
_SLIT = 0.6  # pixels of gap under which nothing is seen between the lips


@dataclass(frozen=True)
class MouthModel:
    """What one shot tells about a mouth and the head that carries it.

    Attributes:
        points: float32 [n, 478, 3] pixels as given; NaN rows without a face.
        poses: for each frame the similarity head -> pixels, None without a face.
        controls: float32 [n, k, 3] the controls' places in head coordinates, NaN without a face.
        neutral: float32 [478, 3] the face at rest, lips closed, head coordinates.
        basis: how a command moves it.
        open_max: lip gap in eye distances at an ``open`` of 1.
        reference_index: the frame to build the renderer with.
        has_bank: whether that frame shows an open mouth whose inside can be borrowed.
    """

    points: Float32
    poses: tuple[Similarity | None, ...]
    controls: Float32
    neutral: Float32
    basis: basis.Basis
    open_max: float
    reference_index: int
    has_bank: bool

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Reference:
    """The pixels of frame ``reference_index``, or of the part around the face.

    Attributes:
        pixels: uint8 [h, w, 3].
        points: float32 [478, 2 or 3] landmarks in those pixels' own coordinates.
    """

    pixels: UInt8
    points: Float32


def analyse_mouth(points: Float32) -> MouthModel:
    """Learn a shot's resting face, range of opening, head movement and best open mouth.

    Args:
        points: float32 [n, 478, 3] pixels of one shot (no cut inside); NaN where no face was found.

    Raises:
        ValueError: no frame has a face, or the shape is wrong.
    """
    if points.ndim != 3 or points.shape[1:] != (topology.POINTS, 3):
        raise ValueError(f"expected points [n, {topology.POINTS}, 3], got {points.shape}")
    points = np.asarray(points, np.float32)
    poses = basis.head_poses(points)
    heads = basis.heads_in_blocks(points, poses)
    figures = [
        (basis.lip_gap(head), basis.corner_width(head), head[:, basis.CONTROLS]) for head in heads
    ]
    gaps, widths, controls = (np.concatenate(parts) for parts in zip(*figures, strict=True))
    closed = basis.most_closed(gaps)
    neutral = basis.closed_rest(basis.in_head(points[closed], [poses[i] for i in closed]))
    top = float(np.nanpercentile(gaps, 95))
    talks = top > _TALKS
    return MouthModel(
        points=points,
        poses=tuple(poses),
        controls=controls,
        neutral=neutral,
        basis=basis.build_basis(neutral),
        open_max=float(np.clip(top, *OPEN_RANGE)) if talks else OPEN_DEFAULT,
        reference_index=_reference_index(points, gaps, widths),
        has_bank=talks,
    )


def _reference_index(points: Float32, gaps: Float32, widths: Float32) -> int:
    """Choose an open, typical mouth: a wide one would lend the others a clenched grin."""
    present = np.flatnonzero(~np.isnan(gaps))
    target = max(float(np.percentile(gaps[present], 92)), 1e-3)
    yaw = np.radians([head_pose(points[i]).yaw for i in present])
    widths = widths[present]
    badness = (
        np.abs(gaps[present] - target) / target
        + 1.5 * np.abs(yaw - np.median(yaw))
        + np.where(widths < np.median(widths), 12.0, 6.0) * np.abs(widths - np.median(widths))
    )
    return int(present[np.argmin(badness)])


@dataclass(frozen=True)
class _Move:
    """One frame's mesh and ring before and after, in frame pixels."""

    source: Float32
    target: Float32
    depth: Float32
    eye: float
    source_gap: float

    @property
    def gap(self) -> float:
        """Lip gap after the move, in eye distances."""
        return float(np.linalg.norm(self.target[13] - self.target[14])) / self.eye


def _move(model: MouthModel, index: int, opening: float, width: float) -> _Move | None:
    """Work out where the mesh goes; None where the frame has no face."""
    pose = model.poses[index]
    if pose is None:
        return None
    gap = float(np.clip(opening, 0.0, 1.0)) * model.open_max
    wider = basis.width_change(float(np.clip(width, -1.0, 1.0)))
    wanted = model.basis.targets(model.neutral, gap, wider)
    shift = model.basis.extension @ (wanted - model.controls[index])
    before = model.points[index, : topology.MESH_POINTS]
    after = before[:, :2] + (pose.scale * shift @ pose.rotation.T)[:, :2]
    ring = ring_points(model.points[index], RING)
    depth = np.concatenate([before[:, 2], np.full(len(ring), before[:, 2].max() + 1.0)])
    lips = before[[13, 14], :2]
    source_gap = float(np.linalg.norm(lips[0] - lips[1])) / pose.scale
    source = before[:, :2].copy()
    # The landmarks of an open mouth lie in the dark rim of the lips: the lip proper is a bit
    # outside, and only that may be moved, or the rim is drawn along as an outline.
    inner, outer = topology.INNER_LIPS, topology.OUTER_LIPS
    source[inner] += _RIM * min(source_gap / 0.06, 1.0) * (source[outer] - source[inner])
    return _Move(
        np.concatenate([source, ring]).astype(np.float32),
        np.concatenate([after, ring]).astype(np.float32),
        depth.astype(np.float32),
        pose.scale,
        source_gap,
    )


def mouth_window(
    model: MouthModel, curves: MouthCurves, frame_size: tuple[int, int]
) -> Window | None:
    """Find one window that holds every pixel that rendering these curves changes.

    Args:
        model: of the shot.
        curves: one command a frame of the shot.
        frame_size: (width, height).

    Returns:
        An even-aligned window, constant over the shot; None when the mouth is never inside the
        frame.

    Raises:
        ValueError: more commands than frames.
    """
    if len(curves) > len(model):
        raise ValueError(f"{len(curves)} commands for a shot of {len(model)} frames")
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for i in range(len(curves)):
        move = _move(model, i, float(curves.open[i]), float(curves.width[i]))
        if move is None:
            continue
        used = np.unique(warp.moving_triangles(move.source, move.target))
        if len(used):
            low = np.minimum(low, move.target[used].min(0))
            high = np.maximum(high, move.target[used].max(0))
    if not np.isfinite(low).all():
        return None
    low, high = low - _MARGIN, high + _MARGIN
    if (high <= 0).any() or (low >= np.array(frame_size)).any():
        return None
    return Window.around(float(low[0]), float(low[1]), float(high[0]), float(high[1]), frame_size)


class VisemeRenderer:
    """Renders a shot's frames with a commanded mouth.

    Limits: upright faces up to about 30 degrees of yaw; a hand or microphone before the mouth is
    warped with it; beards stretch; the tongue does not articulate.

    Args:
        model: of the shot.
        reference: pixels of the model's reference frame, as they will be rendered (after a face
            swap, the swapped ones): the inside of the mouth and the tones come from it.
    """

    def __init__(self, model: MouthModel, reference: Reference) -> None:
        self.model = model
        tones = measure_tones(reference.pixels, reference.points)
        painted = PaintedInterior(tones)
        self._line = (0.45 * tones.lip).astype(np.float32)
        self._interior: BankInterior | PaintedInterior = painted
        if model.has_bank:
            self._interior = BankInterior(reference.pixels, reference.points, painted)

    def render(
        self,
        frame: UInt8,
        index: int,
        opening: float,
        width: float,
        origin: tuple[int, int] = (0, 0),
    ) -> tuple[UInt8, UInt8]:
        """Render one frame.

        Args:
            frame: uint8 [h, w, 3], the whole frame or a window of it; not modified.
            index: the frame's number in the shot.
            opening: 0..1, see :class:`~models.lip_sync.curves.MouthCurves`.
            width: -1..1.
            origin: (x, y) of the window in the frame.

        Returns:
            The picture, uint8 [h, w, 3], and the mask of changed pixels, uint8 [h, w]: 0 where the
            picture is the frame bit for bit, up to 255 where it is wholly new.
        """
        out, mask = frame.copy(), np.zeros(frame.shape[:2], np.uint8)
        move = _move(self.model, index, opening, width)
        if move is None:
            return out, mask
        triangles = warp.moving_triangles(move.source, move.target)
        box = _box(move.target, triangles, origin, frame.shape[:2])
        if box is None:
            return out, mask
        x0, y0, x1, y1 = box
        shift = np.array([origin[0] + x0, origin[1] + y0], np.float32)
        local = _Move(
            move.source - shift, move.target - shift, move.depth, move.eye, move.source_gap
        )
        picture, alpha = self._compose(frame, (x0, y0), (y1 - y0, x1 - x0), local, triangles)
        area = out[y0:y1, x0:x1]
        mixed = area + alpha[..., None] * (picture - area)
        out[y0:y1, x0:x1] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
        mask[y0:y1, x0:x1] = np.ceil(alpha * 255).astype(np.uint8)
        return out, mask

    def _compose(
        self,
        frame: UInt8,
        corner: tuple[int, int],
        shape: tuple[int, int],
        move: _Move,
        triangles: npt.NDArray[np.int32],
    ) -> tuple[Float32, Float32]:
        """Return the new pixels of a box and how much of them to take, 0..1."""
        map_x, map_y, covered = warp.backward_map(
            move.source, move.target, move.depth, triangles, shape
        )
        # cv2.remap reads at 32nds of a pixel. Rounded here, the corner adds nothing to that, and
        # the pixels do not depend on where the window lies in the frame.
        warped = cv2.remap(
            frame,
            np.round(map_x * 32) / np.float32(32) + np.float32(corner[0]),
            np.round(map_y * 32) / np.float32(32) + np.float32(corner[1]),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        ).astype(np.float32)
        hole = warp.fill(warp.closed_curve(move.target[topology.INNER_LIPS]), shape)
        self._open(warped, hole, covered, move)
        # The template's own mouth must not show through the new opening: the hole is ours as well.
        around = cv2.dilate((hole > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
        covered |= np.asarray(around, np.uint8)
        return warped, _feathered(covered)

    def _open(self, picture: Float32, hole: UInt8, covered: UInt8, move: _Move) -> None:
        """Paint the inside of the mouth over the warped picture, in place."""
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        if not len(rows):
            return
        y0, y1 = max(rows[0] - 3, 0), min(rows[-1] + 4, hole.shape[0])
        x0, x1 = max(columns[0] - 3, 0), min(columns[-1] + 4, hole.shape[1])
        y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        view = MouthView(move.target, move.eye, x, y)
        inside = self._interior.paint(view)
        part = hole[y0:y1, x0:x1]
        deep = cv2.distanceTransform((part > 127).astype(np.uint8), cv2.DIST_L2, 3) / move.eye
        # Lips overhang: their edge shades what is behind, and a small gap lets little light in.
        light = (0.68 + 0.32 * np.clip(deep / 0.016, 0, 1)) * np.clip(
            0.72 + 0.28 * view.gap / 0.05, 0, 1
        )
        soft = cv2.GaussianBlur(part, (0, 0), max(0.7, 0.008 * move.eye)).astype(np.float32) / 255
        gap = view.gap * move.eye
        area = picture[y0:y1, x0:x1]
        self._seam(area, part, covered[y0:y1, x0:x1], move, (x0, y0))
        soft *= np.clip((gap - 0.5 * _SLIT) / _SLIT, 0, 1)
        area += soft[..., None] * (inside * light[..., None] - area)

    def _seam(
        self, area: Float32, hole: UInt8, covered: UInt8, move: _Move, corner: tuple[int, int]
    ) -> None:
        """Draw the line where lips meet that were apart in the frame, in place.

        Lips that met in the frame brought their own line along; those that did not would look
        welded. Pixels between them that no triangle reaches get the line's colour as well.
        """
        bare = (hole > 0) & (covered == 0)
        area[bare] = self._line
        inner = topology.INNER_LIPS
        upper, lower = move.target[inner[10:]], move.target[inner[10:0:-1]]
        middle = (upper + lower) / 2 - np.array(corner, np.float32)
        middle = np.concatenate([middle, move.target[inner[:1]] - np.array(corner, np.float32)])
        line = np.zeros(hole.shape, np.uint8)
        path = np.round(middle * 16).astype(np.int32)
        cv2.polylines(line, [path], False, (255,), 1, cv2.LINE_AA, 4)
        width = max(0.6, 0.006 * move.eye)
        blurred = cv2.GaussianBlur(line.astype(np.float32), (0, 0), width)
        apart = np.clip((move.source_gap - 0.015) / 0.03, 0, 1)
        meets = np.clip(1.5 - move.gap / max(0.02, 1.5 / move.eye), 0, 1)
        strength = np.clip(blurred / 255 * 2.0 * width, 0, 1) * 0.45 * apart * meets
        area += strength[..., None] * (self._line - area)


def _box(
    target: Float32,
    triangles: npt.NDArray[np.int32],
    origin: tuple[int, int],
    shape: tuple[int, ...],
) -> tuple[int, int, int, int] | None:
    """Return (x0, y0, x1, y1) of the moved triangles inside the window, or None."""
    if not len(triangles):
        return None
    used = target[np.unique(triangles)] - np.array(origin, np.float32)
    low = np.maximum(np.floor(used.min(0)) - _MARGIN + 1, 0).astype(int)
    high = np.minimum(np.ceil(used.max(0)) + _MARGIN - 1, (shape[1], shape[0])).astype(int)
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _feathered(covered: UInt8) -> Float32:
    """Soften a mask inwards only: 0 stays 0."""
    padded = cv2.copyMakeBorder(covered, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    inner = cv2.erode(padded, np.ones((5, 5), np.uint8))[1:-1, 1:-1]
    soft = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), _FEATHER)
    return np.asarray(soft * (covered > 0), np.float32)
