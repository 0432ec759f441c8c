"""``track_face``: where the presenter's face is in every frame of the template."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from include.contracts.brief import FaceLike
from include.errors import BadFace
from include.media.decode import VideoReader
from include.stages.chunked import Part
from include.stages.clips import Image
from include.stages.context import Output, Span, StageContext
from include.stages.likeness import Likeness
from include.stages.presenter import MAX_GAP, MIN_FACE_PX, by_choice, follow
from include.stages.segments import Points, find_segments, runs, shot_ranges
from include.stages.timeline import chunk_spans, plan_gops, template_fps, template_size
from models.face.geometry import head_pose
from models.face.landmarks import Face, FaceMesh
from models.face.roi import Window, face_window

SEARCH_EVERY = 5
"""Frames between two looks for a face where nobody is seen."""
MIN_RUN = 3
"""Runs shorter than this are dropped: a face that flashes up is a false detection."""
WARM_UP_S = 0.6
"""Seconds that a tracker watches before a chunk's first frame, so that it follows as if it had
seen the shot from its beginning."""
SMOOTHING = 0.7
"""Temporal Gaussian, in frames: takes the jitter out of landmarks, leaves blinks and speech."""


def spans(ctx: StageContext) -> list[Span]:
    """Chunks by time: shots, and parts of shots that are too long."""
    facts = ctx.facts("ingest_template")
    longest = int(ctx.shard.chunk_s * template_fps(ctx)) or int(facts["frames"])
    parts: list[tuple[int, int]] = []
    for start, stop in shot_ranges(facts["shots"], int(facts["frames"])):
        count = -(-(stop - start) // longest)
        cuts = [start + (stop - start) * k // count for k in range(count + 1)]
        for a, b in pairwise(cuts):
            if parts and b - parts[-1][0] <= longest:
                parts[-1] = (parts[-1][0], b)
            else:
                parts.append((a, b))
    return [Span(index, a, b) for index, (a, b) in enumerate(parts)]


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Find the faces of every frame of a chunk.

    Outputs: ``faces-NNNN`` (npz: ``counts`` int32 [frames], ``points`` float32 [faces, 478, 3]).
    """
    found = list(_detect(ctx))
    counts = np.array([len(faces) for faces in found], np.int32)
    points = [face.points for faces in found for face in faces]
    path = ctx.scratch / f"faces-{ctx.span.index:04}.npz"
    every = np.stack(points) if points else np.zeros((0, 478, 3), np.float32)
    np.savez_compressed(path, counts=counts, points=every)
    return Output({path.stem: (path, "application/x-npz")})


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """Follow the presenter through the template.

    Choosing, bridging and smoothing look at all frames together, so a chunk's edge is no seam.

    Outputs: ``track`` (npz: ``points`` float32 [n, 478, 3] pixels, ``boxes`` float32 [n, 4]
    x0, y0, x1, y1, ``pose`` float32 [n, 3] yaw, pitch, roll in degrees; NaN without the face;
    ``visible`` bool [n]). Facts: ``segments`` with their windows, share of frames with the face,
    the face's share of the frame.

    Raises:
        BadFace: nobody is seen (``template.no_face``), or nobody who looks like the photo that the
            brief names (``template.not_seen``), or that photo shows nobody (``template.like``).
    """
    facts = ctx.facts("ingest_template")
    size = template_size(ctx)
    points = _presenter(ctx, parts)
    clean(points, facts["shots"])
    windows = [_window(points[a:b], size) for a, b in shot_ranges(facts["shots"], len(points))]
    segments = find_segments(points, facts["shots"], size, windows)
    if not segments:
        name = ctx.shard.template.sources["video"].origin
        raise BadFace(
            f"template {name}: no face of at least {MIN_FACE_PX} pixels is seen in it; use a video "
            "in which the presenter looks towards the camera",
            code="template.no_face",
        )
    gops = plan_gops(len(points), template_fps(ctx), facts["shots"], segments)
    path = ctx.scratch / "track.npz"
    seen = ~np.isnan(points[:, 0, 0])
    places = _boxes_and_poses(points)
    np.savez_compressed(path, points=points, visible=seen, **places)
    sides = places["boxes"][seen, 2:] - places["boxes"][seen, :2]
    share = float(np.median(sides[:, 0] * sides[:, 1]) / (size[0] * size[1]))
    return Output(
        {"track": (path, "application/x-npz")},
        {
            "segments": [segment.as_fact() for segment in segments],
            "chunks": len(chunk_spans(gops, template_fps(ctx), ctx.shard.chunk_s)),
            "frames": len(points),
            "frames_with_face": int(seen.sum()),
            "face_share": round(share, 4),
        },
    )


def _presenter(ctx: StageContext, parts: list[Part]) -> Points:
    """The presenter's landmarks; everybody else's are let go of when it returns."""
    found: list[list[Face]] = []
    for index, part in enumerate(parts):
        found += _load_faces(part.fetch(ctx, f"faces-{index:04}"))
    return presenter_in(ctx, found)


def presenter_in(ctx: StageContext, found: list[list[Face]]) -> Points:
    """The presenter's landmarks as detected, chosen as the brief says.

    Args:
        ctx: of the template, or of a row.
        found: faces of each frame, largest first.

    Returns:
        float32 [n, 478, 3], NaN where the presenter is not seen.

    Raises:
        BadFace: as `join`, for a presenter chosen by a photo.
    """
    shots, choice = ctx.facts("ingest_template")["shots"], ctx.shard.brief.template.face
    if not isinstance(choice, FaceLike):
        return follow(found, shots, by_choice(choice, fps=float(template_fps(ctx))))
    names = {name: ref.origin for name, ref in ctx.shard.template.sources.items()}
    with VideoReader(ctx.fetch("ingest_template", "video"), threads=ctx.threads) as reader:
        likeness = Likeness(ctx.source("like", of_template=True), names["like"], reader)
        points = follow(found, shots, likeness)
    if np.isnan(points).all():
        likeness.nobody(names["video"])
    return points


def _load_faces(path: Path) -> list[list[Face]]:
    with np.load(path, allow_pickle=False) as stored:
        points = iter(stored["points"])
        return [[Face(next(points)) for _ in range(count)] for count in stored["counts"]]


def _boxes_and_poses(points: Points) -> dict[str, NDArray[np.float32]]:
    boxes = np.full((len(points), 4), np.nan, np.float32)
    poses = np.full((len(points), 3), np.nan, np.float32)
    for index in np.flatnonzero(~np.isnan(points[:, 0, 0])):
        boxes[index] = Face(points[index]).box
        pose = head_pose(points[index])
        poses[index] = pose.yaw, pose.pitch, pose.roll
    return {"boxes": boxes, "pose": poses}


def _detect(ctx: StageContext) -> Iterator[list[Face]]:
    facts, span = ctx.facts("ingest_template"), ctx.span
    warm_up = int(WARM_UP_S * template_fps(ctx))
    done = 0
    with VideoReader(ctx.fetch("ingest_template", "video"), threads=ctx.threads) as reader:
        for start, stop in shot_ranges(facts["shots"], int(facts["frames"])):
            first, last = max(start, span.start), min(stop, span.stop)
            if first >= last:
                continue
            early = max(start, first - warm_up)
            # A new tracker for each shot: none follows a face across a cut.
            with FaceMesh(video=True) as mesh:
                faces = watch(mesh.detect, reader.frames(early, last))
                for found in islice(faces, first - early, None):
                    yield found
                    done += 1
                    ctx.progress(done, span.stop - span.start)


def watch(detect: Callable[[Image], list[Face]], frames: Iterable[Image]) -> Iterator[list[Face]]:
    """Detect in every frame, but look for a newcomer only in every fifth while nobody is there.

    Searching a whole picture costs ten times what following a face does, and title cards have
    nobody. When somebody turns up, the frames that were passed over are looked at as well.

    Args:
        detect: of a tracker; called with frames in order.
        frames: of one shot, uint8 [h, w, 3].

    Yields:
        The faces of each frame.
    """
    waiting: list[Image] = []
    alone = False
    for frame in frames:
        waiting.append(frame)
        if alone and len(waiting) < SEARCH_EVERY:
            continue
        found = _look_back(detect, waiting)
        yield from found
        alone, waiting = not found[-1], []
    if waiting:
        yield from _look_back(detect, waiting)


def _look_back(detect: Callable[[Image], list[Face]], frames: list[Image]) -> list[list[Face]]:
    faces = detect(frames[-1])
    if not faces or len(frames) == 1:
        return [[] for _ in frames[:-1]] + [faces]
    return [detect(frame) for frame in frames]


def clean(points: Points, shots: list[int]) -> None:
    """Bridge short gaps, drop flashes, take out jitter; nothing crosses a cut.

    Args:
        points: float32 [n, 478, 3], NaN where the face is not seen; changed in place.
        shots: first frame of each shot.
    """
    for start, stop in shot_ranges(shots, len(points)):
        shot = points[start:stop]
        _bridge(shot)
        for a, b in runs(~np.isnan(shot[:, 0, 0])):
            if b - a < min(MIN_RUN, len(shot)):
                shot[a:b] = np.nan
            else:
                _smooth(shot[a:b])


def _smooth(run: Points) -> None:
    # Landmark by landmark: filtering all of a long run at once holds it three times.
    for k in range(run.shape[1]):
        run[:, k] = gaussian_filter1d(run[:, k], SMOOTHING, axis=0, mode="nearest")


def _bridge(shot: Points) -> None:
    for a, b in list(runs(np.isnan(shot[:, 0, 0]))):
        if a == 0 or b == len(shot) or b - a > MAX_GAP:
            continue
        for index in range(a, b):
            weight = (index - a + 1) / (b - a + 1)
            shot[index] = (1 - weight) * shot[a - 1] + weight * shot[b]


def _window(points: Points, size: tuple[int, int]) -> Window | None:
    seen = [p for p in points if not np.isnan(p[0, 0])]
    return face_window(seen, size) if seen else None
