"""Nudity, by a detector in another process: its weights' licence (AGPL-3.0) stays outside.

The process is ``docker/nudity/detect.py``, run by the interpreter that ``UNDERSTUDY_NUDITY_PYTHON``
names. A missing environment or answers that make no sense mean ``unavailable``, which never passes
where the check is required. A process that dies or is silent says nothing: it is tried again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import struct
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from include.errors import Transient
from models.safety.finding import Box, Finding, unavailable
from models.safety.policy import DEFAULT_POLICY, Limits, Policy

PYTHON_ENV = "UNDERSTUDY_NUDITY_PYTHON"
SCRIPT = Path(__file__).resolve().parents[2] / "docker/nudity/detect.py"
CHECK = "nudity"
START_S, ANSWER_S = 120.0, 60.0
"""Time limits in seconds, generous for a loaded machine: they end a hang, nothing else."""

NO_FRAME = "there was no frame to look at"

_HEADER = struct.Struct("<III")
_ABSENT = {
    0: "is another program",
    2: "has no script that its interpreter can open",
    69: "is not installed in its environment",
}
"""What the exit status of a process says that was never ready; any other may pass."""
_DYING_S = 2.0
_NO_PROGRAM = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC, errno.ELOOP, errno.EISDIR}


class DetectorUnavailable(RuntimeError):
    """The detector is not installed, or makes no sense: it stays so until somebody mends it."""


class DetectorLost(Transient):
    """The detector's process died, did not answer in time, or could not be started for now."""

    default_code = "nudity.lost"


@dataclass(frozen=True)
class Detection:
    """One region that the detector named."""

    label: str
    score: float
    box: Box
    """x, y, width, height in pixels."""


class NudityDetector:
    """A client of one detector process, good for many frames; use it in a ``with`` statement.

    Args:
        python: interpreter of the detector's environment; by default ``UNDERSTUDY_NUDITY_PYTHON``.
        script: the program it runs.
    """

    def __init__(self, python: str | Path | None = None, script: Path = SCRIPT) -> None:
        self._python = str(python or os.environ.get(PYTHON_ENV, ""))
        self._script = script
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._count = 0
        self.version = ""
        """Name and version of the detector, once started."""
        self.weights_sha256 = ""

    def __enter__(self) -> NudityDetector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The process that answers, None while there is none."""
        return self._process.pid if self._process else None

    def detect(self, rgb: npt.NDArray[np.uint8]) -> list[Detection]:
        """Detect in one frame; the process is started when the first one comes.

        Args:
            rgb: uint8 [h, w, 3].

        Raises:
            DetectorUnavailable, DetectorLost: see the classes.
            ValueError: the array is no frame.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"a frame is uint8 [h, w, 3], not {rgb.dtype} {rgb.shape}")
        process = self._process or self._start()
        self._count += 1
        height, width = rgb.shape[:2]
        try:
            stdin = process.stdin
            if stdin is None:
                raise BrokenPipeError
            stdin.write(_HEADER.pack(height, width, self._count))
            stdin.write(np.ascontiguousarray(rgb).tobytes())
            stdin.flush()
        except OSError as error:
            raise self._lost("died") from error
        answer = self._answer(ANSWER_S)
        if answer.get("id") != self._count:
            raise self._senseless("answered out of turn")
        try:
            return [_detection(item) for item in answer["detections"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._senseless("gave an answer that makes no sense") from error

    def available(self) -> bool:
        """Whether a frame would be looked at now; starts the process."""
        try:
            self._process or self._start()
        except (DetectorUnavailable, DetectorLost):
            return False
        return True

    def close(self) -> None:
        """End the process; it is started again if another frame comes."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if not self._python:
            raise DetectorUnavailable(
                f"there is no nudity environment; set {PYTHON_ENV} to its interpreter"
            )
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONNOUSERSITE": "1",
        }
        try:
            process = subprocess.Popen(
                [self._python, "-I", str(self._script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            why = f"{self._python} cannot be run: {error.strerror}"
            if error.errno in _NO_PROGRAM:
                raise DetectorUnavailable(why) from error
            raise DetectorLost(f"{why}; run the check again") from error
        self._process, self._count = process, 0
        answers: queue.Queue[bytes | None] = queue.Queue()
        self._answers = answers
        if process.stdout is not None:
            threading.Thread(target=_pump, args=(process.stdout, answers), daemon=True).start()
        try:
            ready = self._answer(START_S)
        except DetectorLost as error:
            if process.returncode in _ABSENT:
                what = _ABSENT[process.returncode]
                raise DetectorUnavailable(f"the nudity detector {what}") from error
            raise
        self.version = str(ready.get("detector", ""))
        self.weights_sha256 = str(ready.get("weights_sha256", ""))
        if not ready.get("ready"):
            raise self._senseless("did not say that it is ready")
        return process

    def _answer(self, limit_s: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=limit_s)
        except queue.Empty as error:
            raise self._lost(f"did not answer within {limit_s:.0f} s") from error
        if line is None or not line.endswith(b"\n"):  # cut off as it was written
            raise self._lost("died")
        try:
            value = json.loads(line)
        except ValueError as error:
            raise self._senseless("gave an answer that is no JSON") from error
        if not isinstance(value, dict):
            raise self._senseless("gave an answer that makes no sense")
        return value

    def _lost(self, how: str) -> DetectorLost:
        return DetectorLost(f"the nudity detector {how}{self._end()}; run the check again")

    def _senseless(self, how: str) -> DetectorUnavailable:
        return DetectorUnavailable(f"the nudity detector {how}{self._end()}; install it again")

    def _end(self) -> str:
        """End what is left of the process; the next frame starts another."""
        process, self._process = self._process, None
        status = ""
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_DYING_S)  # one that closed its output is about to say its status
            process.kill()
            status = f" (exit status {process.wait()})"
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        return status


def check_nudity(
    frames: Iterable[tuple[float, npt.NDArray[np.uint8]]],
    detector: NudityDetector,
    policy: Policy = DEFAULT_POLICY,
) -> list[Finding]:
    """Look at frames.

    A detector whose process dies is given the frame once more: a process that the system killed
    says nothing about the frame.

    Args:
        frames: time in seconds and uint8 RGB [h, w, 3].
        detector: the client.
        policy: thresholds per class.

    Returns:
        What crossed a limit, worst first; else one ``pass`` with the highest score; or
        ``unavailable`` when the detector is not there or makes no sense (after what had been found
        until then) or when there was no frame to look at.

    Raises:
        DetectorLost: the detector failed in a way that may pass; nothing is known then.
    """
    findings: list[Finding] = []
    best, count = 0.0, 0
    try:
        for time_s, rgb in frames:
            count += 1
            for detection in _detect(detector, rgb):
                limits = policy.nudity.get(detection.label)
                if limits is None:
                    continue
                best = max(best, detection.score)
                if detection.score >= limits.review:
                    findings.append(_finding(detection, time_s, limits))
    except DetectorUnavailable as error:
        return [*_worst_first(findings), unavailable(CHECK, str(error))]
    if count == 0:
        return [unavailable(CHECK, NO_FRAME)]
    if findings:
        return _worst_first(findings)
    lowest = min((limits.review for limits in policy.nudity.values()), default=1.0)
    return [Finding(f"{CHECK}.none", "pass", best, lowest, detail=f"{count} frames")]


def _detect(detector: NudityDetector, rgb: npt.NDArray[np.uint8]) -> list[Detection]:
    try:
        return detector.detect(rgb)
    except (DetectorUnavailable, DetectorLost):
        return detector.detect(rgb)


def _finding(detection: Detection, time_s: float, limits: Limits) -> Finding:
    return Finding(
        rule=f"{CHECK}.{detection.label.lower()}",
        verdict=limits.verdict(detection.score),
        score=detection.score,
        threshold=limits.crossed(detection.score),
        time_s=time_s,
        detail=detection.label.replace("_", " ").lower(),
        box=detection.box,
    )


def _worst_first(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: (f.verdict != "block", -f.score))


def _detection(item: dict[str, Any]) -> Detection:
    x, y, width, height = (float(value) for value in item["box"])
    return Detection(str(item["class"]), float(item["score"]), (x, y, width, height))


def _pump(stream: IO[bytes], answers: queue.Queue[bytes | None]) -> None:
    """Move lines into the queue; None marks the end."""
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            answers.put(line)
    answers.put(None)
