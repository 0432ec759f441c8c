"""Masks of what is in front of a face, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from models.face.occlusion.arrays import Image, Points
from models.face.occlusion.evidence import face_features, reaching_in
from models.face.occlusion.hands import HandFinder, borrowed, hand_at_face
from models.face.occlusion.layout import check_frame
from models.face.occlusion.learning import FaceStatistics
from models.face.occlusion.light import match_light
from models.face.occlusion.persistence import Found, keep_supported, neighbours
from models.face.occlusion.window import to_window

CONTEXT = 2
"""Frames on both sides that a frame's mask depends on."""

HAND_EVIDENCE = 0.25
"""Part of a hand over the face that must differ from the face."""


def occlusion_masks(
    frames: Iterable[tuple[Image, Points]],
    statistics: FaceStatistics,
    find: HandFinder | None = None,
) -> Iterator[Image]:
    """Find what is in front of the face, frame by frame.

    A frame's mask depends on the statistics and on `CONTEXT` frames on both sides, so chunks that
    overlap by that many frames give the masks of the whole. What is seen in one frame alone counts
    as noise, unless it is the only frame.

    Limits: thin strands of hair and what covers less than about 1% of the face are left out; what
    covers a place most of the time is found only when it is a hand; a fringe or a lock that swings
    into the face is something in front of it. Beyond about 45 degrees of yaw the far cheek is not
    judged.

    Args:
        frames: (uint8 [h, w, 3] RGB, float32 [478, 2 or 3] pixels) of consecutive frames.
        statistics: of the segment that they belong to.
        find: finds hands; a process that works on several parts starts the network only once.

    Yields:
        uint8 [h, w] for each frame: 255 where something is in front, fading over a few pixels
        outside; 0 everywhere when there is nothing.

    Raises:
        ValueError: a frame or its points have the wrong shape or type.
    """
    with borrowed(find) as net:
        found = (_find(frame, points, statistics, net) for frame, points in frames)
        supported = (keep_supported(*trio) for trio in neighbours(found))
        for before, now, after in neighbours(supported):
            cover = now.cover
            if before is not None and after is not None:
                cover = cover | (before.cover & after.cover)
            yield to_window(statistics.layout, cover, now)


def _find(
    frame: Image, points: Points, statistics: FaceStatistics, find_hands: Callable[[Image], Image]
) -> Found:
    check_frame(frame, points)
    layout = statistics.layout
    view = layout.view(frame, points)
    lit = match_light(layout, view, statistics.usual, statistics.light)
    evidence = reaching_in(layout, statistics.bounds, view, face_features(layout, lit))
    cover = evidence.cover
    if evidence.enough or statistics.hands:
        hand = hand_at_face(layout, view, find_hands(frame))
        # The network also sees hands in faces: some of it must differ from the face.
        at_face = hand & layout.oval
        if (at_face & evidence.differs).sum() > HAND_EVIDENCE * at_face.sum():
            cover = cover | hand
    return Found(cover, points, (frame.shape[0], frame.shape[1]))
