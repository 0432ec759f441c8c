"""What both classify stages share: which frames are looked at, and evidence for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from include.errors import CorruptArtifact
from include.media.contact_sheet import contact_sheet
from include.media.decode import Picture, VideoReader
from include.media.flash import FlashMeter, FlashSample
from include.media.images import save_jpeg
from include.settings import Settings
from include.stages.context import Inputs, StageContext
from models.safety.finding import Finding, Verdict
from models.safety.nudity import NudityDetector, check_nudity

Image = NDArray[np.uint8]
EVERY_S = 1.0
"""Seconds between sampled frames, beside the first frame of each shot."""
LONG_SIDE = 960
"""Frames are looked at no larger than this; the detector works at 320 pixels anyway."""
SHEET_FRAMES = 12


def _check_frames(ctx: StageContext, frames: Iterable[tuple[float, Image]]) -> list[Finding]:
    """Look for nudity; the detector's process serves all rows of a shard."""
    if ctx.common is None:
        with NudityDetector(ctx.settings.nudity_python) as detector:
            return check_nudity(frames, detector)
    return check_nudity(frames, shared_detector(ctx.common, ctx.settings))


def shared_detector(common: Inputs, settings: Settings) -> NudityDetector:
    """The detector of a process, started when it is first asked."""
    return common.keep("nudity", lambda: NudityDetector(settings.nudity_python))


def sample_indices(
    frames: int, fps: float, shots: Iterable[int], spans: Iterable[tuple[int, int]]
) -> list[int]:
    """Frames to look at: one a second within the spans, and just after each cut in them.

    Args:
        frames: length of the video.
        fps: frames per second.
        shots: first frame of each shot.
        spans: (start, stop) in which the video can differ; the whole video for a template.
    """
    step = max(1, round(fps * EVERY_S))
    chosen: set[int] = set()
    cuts = set(shots)
    for start, stop in spans:
        stop = min(stop, frames)
        chosen.update(range(min(start + step // 2, stop - 1), stop, step))
        chosen.update(min(cut + 2, stop - 1) for cut in cuts if start <= cut < stop)
    return sorted(chosen)


@dataclass(frozen=True)
class Looked:
    """What one pass over a video found, and the little of it that is kept."""

    findings: list[Finding]
    """Of nudity."""
    flashes: list[FlashSample]
    shown: list[tuple[float, Image]]
    """Frames for the contact sheet: time in seconds and RGB uint8 [h, w, 3]."""


def look_through(
    ctx: StageContext,
    path: Path,
    indices: list[int],
    seen: Callable[[Picture], None] | None = None,
) -> Looked:
    """Decode a video of ours once, for everything that is looked for in it.

    Args:
        ctx: the unit.
        path: the video.
        indices: frames in which nudity is looked for, in order.
        seen: called with every picture, for what somebody else looks for.

    Raises:
        CorruptArtifact: a frame cannot be decoded, or the video ends before one of ``indices``.
    """
    wanted = set(indices)
    sheet = set(indices[:: max(1, len(indices) // SHEET_FRAMES)][:SHEET_FRAMES])
    shown: list[tuple[float, Image]] = []
    with VideoReader(path, threads=ctx.threads) as reader:
        if wanted and max(wanted) >= reader.facts.frames:
            raise CorruptArtifact(f"{path} has no frame {max(wanted)}: make it again")
        meter = FlashMeter(reader.facts)

        def passing() -> Iterator[tuple[float, Image]]:
            for picture in reader.pictures():
                meter.add(picture)
                if seen is not None:
                    seen(picture)
                if picture.index in wanted:
                    frame = float(picture.index / reader.facts.fps), _shrink(picture.rgb())
                    if picture.index in sheet:
                        shown.append(frame)
                    yield frame

        frames = passing()
        findings = _check_frames(ctx, frames)
        for _ in frames:
            pass  # a detector that failed stops looking; the rest is looked at all the same
    return Looked(findings, meter.samples(), shown)


def _shrink(frame: Image) -> Image:
    factor = LONG_SIDE / max(frame.shape[:2])
    if factor >= 1:
        return frame
    size = (round(frame.shape[1] * factor), round(frame.shape[0] * factor))
    small: Image = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return small


def as_checks(findings: list[Finding]) -> list[dict[str, Any]]:
    """One line per check, the worst finding of each: what a report or claim says."""
    order = {"block": 0, "review": 1, "unavailable": 2, "pass": 3}
    worst: dict[str, Finding] = {}
    for finding in findings:
        held = worst.get(finding.check)
        if held is None or order[finding.verdict] < order[held.verdict]:
            worst[finding.check] = finding
    return [
        {
            "name": name,
            "verdict": finding.verdict,
            "score": round(float(finding.score), 4),
            "threshold": float(finding.threshold),
        }
        for name, finding in sorted(worst.items())
    ]


def as_reasons(findings: list[Finding], required: Iterable[str]) -> list[str]:
    """What a person is told: the rule, when, and what was seen."""
    reasons = []
    for finding in findings:
        if finding.verdict == "pass":
            continue
        if finding.verdict == "unavailable" and finding.check not in set(required):
            continue
        when = "" if finding.time_s is None else f" at {_time_code(finding.time_s)}"
        reasons.append(f"{finding.rule}{when}: {finding.detail or finding.verdict}")
    return reasons


def _time_code(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):02}:{rest:06.3f}"


def as_facts(findings: list[Finding]) -> list[dict[str, Any]]:
    """Findings for a manifest's facts."""
    return [asdict(finding) for finding in findings]


def judged(verdict: Verdict, review: str) -> Verdict:
    """Apply the brief's ``policy.review``: everybody, nobody, or borderline rows."""
    if review == "all" and verdict == "pass":
        return "review"
    if review == "none" and verdict == "review":
        return "block"
    return verdict


def write_evidence(
    folder: Path, video: Path, looked: Looked, findings: list[Finding]
) -> dict[str, tuple[Path, str]]:
    """The contact sheet of the sampled frames, and a crop of each finding that has a place.

    Args:
        folder: where to write.
        video: what was looked through.
        looked: what is kept of it.
        findings: of all checks.

    Returns:
        Output files: ``contact_sheet`` and ``crop-NN``.
    """
    sheet = contact_sheet(
        [frame for _, frame in looked.shown],
        columns=4,
        cell_width=240,
        labels=[_time_code(time_s) for time_s, _ in looked.shown],
    )
    path = folder / "contact_sheet.jpg"
    save_jpeg(sheet, path, 80)
    files = {"contact_sheet": (path, "image/jpeg")}
    flagged = [f for f in findings if f.verdict in ("review", "block") and f.box is not None]
    for number, (finding, frame) in enumerate(_at_findings(video, flagged[:8])):
        if finding.box is not None:
            crop = folder / f"crop-{number:02}.jpg"
            save_jpeg(_crop(frame, finding.box), crop, 85)
            files[f"crop-{number:02}"] = (crop, "image/jpeg")
    return files


def _at_findings(video: Path, findings: list[Finding]) -> Iterator[tuple[Finding, Image]]:
    """The findings that have a time, each with its frame, shrunk."""
    with VideoReader(video) as reader:
        at: dict[int, list[Finding]] = {}
        for finding in findings:
            if finding.time_s is not None:
                at.setdefault(round(finding.time_s * reader.facts.fps), []).append(finding)
        for index, frame in reader.pick(at):
            small = _shrink(frame)
            yield from ((finding, small) for finding in at[index])


def _crop(frame: Image, box: tuple[float, float, float, float]) -> Image:
    x, y, w, h = box
    x0, y0 = max(0, int(x - w / 2)), max(0, int(y - h / 2))
    x1, y1 = int(x + 1.5 * w) + 1, int(y + 1.5 * h) + 1
    return np.ascontiguousarray(frame[y0:y1, x0:x1])
