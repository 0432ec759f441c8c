"""Find faces and their 478 landmarks in stills and in video.

Backend: MediaPipe 0.10.21 (Apache-2.0), whose package carries its networks. FaceMesh's own detector
looks at the whole picture in 128x128 pixels and misses faces under a quarter of its height, so
faces are searched here with the full-range detector over a pyramid of tiles, and FaceMesh only ever
sees a square crop around one of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.face import crops
from models.face.crops import Box

Image = NDArray[np.uint8]

CROP_SIZE = 384
"""Side of the crop that FaceMesh sees; its network looks at 192 pixels of it."""

SEARCH_SIZE = 384
"""Side of the tile that the detector sees; its network looks at 192 pixels of it."""

STILL_LEVELS, VIDEO_LEVELS = 4, 3
"""Levels of the tile pyramid: whole picture, its short side, half of that, ..."""

ENOUGH = 0.4
"""Tiles are skipped once a face is taller than this part of them: others would be far smaller."""

CROP_FACTORS = (2.2, 1.6, 3.2)
"""Crop side over face size, tried in turn until FaceMesh sees the face."""

TRACK_FACTOR = 3.0
"""Side of the fixed window in which a face is tracked, over the face's size."""

RESEARCH_EVERY = 10
"""Frames between searches for further faces while some are being tracked."""

READ_AGAIN = 0.01
"""Mean movement since the last frame, over the face's height, after which a frame is read twice."""

SAME_FACE_IOU = 0.3
"""Boxes that overlap more than this are the same face."""

PART_OF_FACE = 0.5
"""A box with more than this part of it inside a larger one is a part of that face."""


@dataclass(frozen=True)
class Face:
    """The landmarks of one face."""

    points: NDArray[np.float32]
    """[478, 3] pixels: x right, y down; z in the same scale as x, smaller is nearer."""

    @property
    def box(self) -> Box:
        """(x0, y0, x1, y1) in pixels around the mesh: brow-high forehead to chin, ear to ear."""
        low, high = self.points[:, :2].min(0), self.points[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


class FaceMesh:
    """Detects faces with landmarks; use as a context manager, from one thread.

    Limits: finds faces down to about 24 pixels tall in stills, and in video those taller than about
    a tenth of the frame's short side; landmarks are trustworthy from about 60 pixels and up to
    about 60 degrees of yaw. Heads on their side or upside down are missed. Covered parts are
    guessed, not reported. Once a face is found, others under a quarter of it may be left out. Video
    mode follows each face from frame to frame, so its answers depend on the frames before: use a
    new one for each clip and feed every frame in order.

    Args:
        max_faces: the most faces to return.
        video: frames of one clip follow each other; tracking is faster and steadier.
        min_confidence: of the detector and of the tracker, 0..1.
    """

    def __init__(
        self, max_faces: int = 4, video: bool = False, min_confidence: float = 0.5
    ) -> None:
        if max_faces < 1:
            raise ValueError(f"max_faces must be at least 1, got {max_faces}")
        self._max_faces = max_faces
        self._video = video
        self._confidence = min_confidence
        self._since_search = 0
        self._tracks: list[_Track] = []
        self._idle: list[_MeshGraph] = []
        self._still = _MeshGraph(static=True, confidence=min_confidence)
        self._detector = _Detector(min_confidence)

    def __enter__(self) -> FaceMesh:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the networks; the object cannot be used afterwards."""
        graphs = [self._still, *self._idle, *(track.graph for track in self._tracks)]
        for graph in graphs:
            graph.close()
        self._detector.close()
        self._tracks, self._idle = [], []

    def detect(self, rgb: Image) -> list[Face]:
        """Find the faces of a picture, or of the clip's next frame.

        Args:
            rgb: uint8 [h, w, 3].

        Returns:
            At most ``max_faces`` faces, the largest box first.

        Raises:
            ValueError: not an RGB picture.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
            raise ValueError(f"expected uint8 [h, w, 3], got {rgb.dtype} {rgb.shape}")
        faces = self._follow(rgb) if self._video else self._search(rgb, STILL_LEVELS, [])
        return sorted(faces, key=_area, reverse=True)[: self._max_faces]

    def restart(self) -> None:
        """Forget the clip: the next frame is the first of another one, read as by a new object."""
        self._idle += [track.graph for track in self._tracks]
        self._tracks, self._since_search = [], 0

    def _search(self, rgb: Image, levels: int, known: list[Face]) -> list[Face]:
        """Find faces by the detector that overlap none of ``known``."""
        found: list[Face] = []
        for box in self._detector.find(rgb, levels):
            if any(_inside(box, other) for other in (*known, *found)):
                continue
            face = self._still.read(rgb, box)
            if face and not any(_same(face, other) for other in (*known, *found)):
                found.append(face)
        return found

    def _follow(self, rgb: Image) -> list[Face]:
        alive: list[_Track] = []
        for track in self._tracks:
            if track.step(rgb) and not any(_same(track.face, other.face) for other in alive):
                alive.append(track)
            else:
                self._idle.append(track.graph)
        lost = len(alive) < len(self._tracks) or not alive
        self._tracks = alive
        self._since_search += 1
        due = len(alive) < self._max_faces and self._since_search >= RESEARCH_EVERY
        if lost or due:
            self._since_search = 0
            # While something is tracked, newcomers are looked for in the whole frame only.
            levels = VIDEO_LEVELS if lost else 1
            found = self._search(rgb, levels, [track.face for track in alive])
            for face in sorted(found, key=_area, reverse=True)[: self._max_faces - len(alive)]:
                self._start(rgb, face)
        return [track.face for track in self._tracks]

    def _start(self, rgb: Image, face: Face) -> None:
        graph = self._idle.pop() if self._idle else _MeshGraph(False, self._confidence)
        track = _Track(graph, face)
        track.step(rgb)
        self._tracks.append(track)


class _Detector:
    """MediaPipe's full-range face detector over a pyramid of square tiles."""

    def __init__(self, confidence: float) -> None:
        solutions = mediapipe_solutions()
        with quiet_stderr():
            self._net = solutions.face_detection.FaceDetection(
                model_selection=1, min_detection_confidence=confidence
            )
            self._net.process(np.zeros((SEARCH_SIZE, SEARCH_SIZE, 3), np.uint8))

    def close(self) -> None:
        self._net.close()

    def find(self, rgb: Image, levels: int) -> list[Box]:
        """Boxes (brow to chin) in pixels, the largest first, each face once."""
        boxes: list[Box] = []
        for x, y, side in crops.tiles(rgb.shape[1], rgb.shape[0], levels):
            if any(box[3] - box[1] > ENOUGH * side for box in boxes):
                break
            tile = crops.square(rgb, x, y, side, SEARCH_SIZE)
            for detection in self._net.process(tile).detections or []:
                rel = detection.location_data.relative_bounding_box
                x0, y0 = x + rel.xmin * side, y + rel.ymin * side
                box = (x0, y0, x0 + rel.width * side, y0 + rel.height * side)
                boxes.append(box)
        kept: list[Box] = []
        # The largest first: a tile that cuts a face in two shows a smaller, wrong one.
        for box in sorted(boxes, key=crops.size, reverse=True):
            if not any(_one_face(box, other) for other in kept):
                kept.append(box)
        return kept


class _MeshGraph:
    """One FaceMesh graph that reads one face from a square crop."""

    def __init__(self, static: bool, confidence: float) -> None:
        solutions = mediapipe_solutions()
        with quiet_stderr():
            self._net = solutions.face_mesh.FaceMesh(
                static_image_mode=static,
                refine_landmarks=True,
                max_num_faces=1,
                min_detection_confidence=confidence,
                min_tracking_confidence=confidence,
            )
            self._net.process(np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8))
        self._new = True

    def close(self) -> None:
        self._net.close()

    def reset(self) -> None:
        """Forget the face that was being tracked."""
        with quiet_stderr():
            self._net.reset()
            # The graph restarts in threads of its own: wait for it here, where it is not heard.
            self._net.process(np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8))
        self._new = True

    def read(self, rgb: Image, box: Box) -> Face | None:
        """Read the face in ``box``, trying several crops around it."""
        for factor in CROP_FACTORS:
            x, y, side = crops.window(box, factor)
            face = self.read_window(rgb, x, y, side)
            # A neighbour in the crop may be clearer than the face that was asked for.
            if face and crops.iou(face.box, box) > SAME_FACE_IOU:
                return face
        return None

    def read_window(self, rgb: Image, x: int, y: int, side: int) -> Face | None:
        """Read the face in a square window of the picture."""
        crop = crops.square(rgb, x, y, side, CROP_SIZE)
        with quiet_stderr() if self._new else nullcontext():
            result = self._net.process(crop)
        if result.multi_face_landmarks:
            self._new = False  # every part of the graph has spoken
        if not result.multi_face_landmarks:
            return None
        marks = result.multi_face_landmarks[0].landmark
        points = np.array([(m.x, m.y, m.z) for m in marks], np.float32) * np.float32(side)
        points[:, :2] += np.array([x, y], np.float32)
        return Face(points)


class _Track:
    """Follows one face inside a window that stays put until the face nears its edge.

    FaceMesh keeps last frame's position relative to its picture, so a window that moved with the
    face would mislead it; one that rests gives steady landmarks.
    """

    def __init__(self, graph: _MeshGraph, face: Face) -> None:
        self.graph = graph
        self.face = face
        self._aim(face)

    def _aim(self, face: Face) -> None:
        self._window = crops.window(face.box, TRACK_FACTOR)
        self.graph.reset()
        self._fresh = True

    def step(self, rgb: Image) -> bool:
        """Go on to the next frame; false when the face is lost."""
        face = self.graph.read_window(rgb, *self._window)
        if face and (self._fresh or _moved(self.face, face) > READ_AGAIN):
            # FaceMesh looks where the face was a frame ago: after a move, or from the detector's
            # box, its points lag (by 0.5-1.5% of the face's height when it moves by 5-20%).
            face = self.graph.read_window(rgb, *self._window)
            self._fresh = False
        if face is None:
            return False
        self.face = face
        if not self._fits(face):
            self._aim(face)
        return True

    def _fits(self, face: Face) -> bool:
        x, y, side = self._window
        x0, y0, x1, y1 = face.box
        ratio = side / max(x1 - x0, y1 - y0, 1.0)
        away = max(abs((x0 + x1) / 2 - x - side / 2), abs((y0 + y1) / 2 - y - side / 2))
        return 0.6 < ratio / TRACK_FACTOR < 1.6 and away < side / 5


def mediapipe_solutions() -> Any:
    """Import MediaPipe's solutions with its chatter turned off; slow, so only when needed."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    with quiet_stderr():
        from mediapipe.python import solutions
    return solutions


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what native libraries write to file descriptor 2 meanwhile.

    TensorFlow Lite and absl announce themselves there when a graph starts and heed no setting.
    """
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _area(face: Face) -> float:
    return crops.size(face.box)


def _moved(before: Face, after: Face) -> float:
    """Mean distance of the points, over the face's height."""
    shift = np.linalg.norm(after.points[:, :2] - before.points[:, :2], axis=1).mean()
    return float(shift / max(after.box[3] - after.box[1], 1.0))


def _one_face(a: Box, b: Box) -> bool:
    part = crops.shared(a, b) / max(min(crops.size(a), crops.size(b)), 1e-6)
    return crops.iou(a, b) > SAME_FACE_IOU or part > PART_OF_FACE


def _same(a: Face, b: Face) -> bool:
    return _one_face(a.box, b.box)


def _inside(box: Box, face: Face) -> bool:
    """The box's centre lies in the middle of the face: the same face at another scale."""
    x0, y0, x1, y1 = face.box
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    dx, dy = (x1 - x0) / 4, (y1 - y0) / 4
    return x0 + dx < cx < x1 - dx and y0 + dy < cy < y1 - dy
