"""Hands at a face, by their own network: skin on skin shows little evidence.

Backend: MediaPipe Hands (Zhang et al., "MediaPipe Hands: on-device real-time hand tracking", 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import cv2
import numpy as np

from models.face.landmarks import mediapipe_solutions, quiet_stderr
from models.face.occlusion.arrays import Image, Mask, Points
from models.face.occlusion.evidence import LEAST_AREA
from models.face.occlusion.layout import Layout, View

HAND_SCORE = 0.6
"""Confidence of the hand network below which its answer is dropped."""

PALM = (0, 1, 2, 5, 9, 13, 17)
FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
"""The network's landmarks that go round the palm, and along the thumb and each finger."""


class HandFinder:
    """Hands in single pictures; the network starts when first asked."""

    def __init__(self) -> None:
        self._net: Any = None
        self._silent = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._net is not None:
            self._net.close()

    def __call__(self, rgb: Image) -> Image:
        """Find palms and fingers: uint8 [h, w], 255 in them."""
        height, width = rgb.shape[:2]
        side = max(height, width)
        # The network's landmarks are right in square pictures only.
        pads = (0, side - height, 0, side - width)
        square = cv2.copyMakeBorder(rgb, *pads, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        area = np.zeros((height, width), np.uint8)
        with quiet_stderr() if self._silent else nullcontext():
            result = self._started().process(square)
        for hand, which in zip(
            result.multi_hand_landmarks or [], result.multi_handedness or [], strict=True
        ):
            self._silent = False  # every part of the graph has spoken
            if which.classification[0].score >= HAND_SCORE:
                marks = [(mark.x * side, mark.y * side) for mark in hand.landmark]
                _draw_hand(area, np.array(marks, np.float32))
        return area

    def _started(self) -> Any:
        if self._net is None:
            self._net = mediapipe_solutions().hands.Hands(
                static_image_mode=True,
                max_num_hands=2,
                model_complexity=0,
                min_detection_confidence=HAND_SCORE,
            )
        return self._net


def _draw_hand(area: Image, marks: Points) -> None:
    """Fill a hand's outline by its 21 landmarks, in place."""
    palm = cv2.convexHull(np.round(marks[list(PALM)]).astype(np.int32))
    cv2.fillConvexPoly(area, palm, (255,))
    across = float(np.linalg.norm(marks[5] - marks[17]) + np.linalg.norm(marks[0] - marks[9])) / 2
    thick = max(1, round(0.3 * across))
    cv2.polylines(area, [palm], True, (255,), max(1, thick // 2))
    for finger in FINGERS:
        line = np.round(marks[list(finger)]).astype(np.int32)
        cv2.polylines(area, [line], False, (255,), thick)


def hand_at_face(layout: Layout, view: View, hands: Image) -> Mask:
    """Lay hands (uint8 [h, w] of the frame) out: nothing where they cover little of the face."""
    laid = cv2.remap(hands, view.x, view.y, cv2.INTER_LINEAR) > 127
    laid &= layout.inside
    enough = (laid & layout.oval).sum() > LEAST_AREA * layout.oval.sum()
    return np.asarray(laid if enough else np.zeros_like(laid))


def hands_seen(
    layout: Layout,
    samples: Sequence[tuple[Image, Points]],
    views: list[View],
    find: HandFinder | None = None,
) -> list[Mask]:
    """The hands at the face in each of the samples that the views are of: see `hand_at_face`."""
    with borrowed(find) as net:
        return [
            hand_at_face(layout, view, net(frame))
            for (frame, _), view in zip(samples, views, strict=True)
        ]


def borrowed(find: HandFinder | None) -> AbstractContextManager[HandFinder]:
    """A finder that somebody else closes, or one of one's own."""
    return HandFinder() if find is None else nullcontext(find)
