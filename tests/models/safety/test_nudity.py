"""The nudity detector's process: real answers, and no pass when it fails in any way."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from models.safety.nudity import (
    PYTHON_ENV,
    SCRIPT,
    Detection,
    DetectorLost,
    DetectorUnavailable,
    NudityDetector,
    check_nudity,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def detector() -> Iterator[NudityDetector]:
    """The real one; its environment is part of what the tests set up."""
    python = os.environ.get(PYTHON_ENV) or str(ROOT / ".venv/nudity/bin/python")
    with NudityDetector(python) as found:
        yield found


@pytest.fixture(scope="module")
def astronaut() -> npt.NDArray[np.uint8]:
    picture: npt.NDArray[np.uint8] = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    return picture


def test_a_portrait_is_seen_and_passes(
    detector: NudityDetector, astronaut: npt.NDArray[np.uint8]
) -> None:
    seen = detector.detect(astronaut)
    assert any(found.label.startswith("FACE") and found.score > 0.5 for found in seen)
    (finding,) = check_nudity([(0.0, astronaut), (1.0, astronaut[:, ::-1])], detector)
    assert finding.verdict == "pass"
    assert finding.detail == "2 frames"
    assert detector.version.startswith("nudenet")
    assert len(detector.weights_sha256) == 64


def test_a_detector_that_the_system_killed_is_started_again_and_the_verdict_is_the_same(
    detector: NudityDetector, astronaut: npt.NDArray[np.uint8]
) -> None:
    before = check_nudity([(0.0, astronaut)], detector)
    assert detector.process_id is not None
    os.kill(detector.process_id, 9)
    assert check_nudity([(0.0, astronaut)], detector) == before
    assert [finding.verdict for finding in before] == ["pass"]


def test_a_detector_that_dies_each_time_says_nothing_and_the_next_check_works(
    tmp_path: Path,
) -> None:
    with _fake(tmp_path, _answer("FACE_FEMALE", 0.9)) as fake:
        with pytest.raises(DetectorLost, match=r"died .exit status 9.*run the check again"):
            check_nudity([(0.0, DEADLY)], fake)
        assert [f.verdict for f in check_nudity([(0.0, FRAME)], fake)] == ["pass"]


def _fake(tmp_path: Path, *answers: object, ready: bool = True) -> NudityDetector:
    """A detector process that gives these answers, one a frame, and dies of a white one."""
    script = tmp_path / "fake.py"
    lines = [json.dumps(answer) if not isinstance(answer, str) else answer for answer in answers]
    script.write_text(
        "import struct, sys\n"
        f'print(\'{{"ready": {str(ready).lower()}, "detector": "fake"}}\', flush=True)\n'
        f"for line in {lines!r}:\n"
        "    header = sys.stdin.buffer.read(12)\n"
        "    height, width, number = struct.unpack('<III', header)\n"
        "    if sys.stdin.buffer.read(height * width * 3)[:1] == b'\\xff':\n"
        "        sys.exit(9)\n"
        "    print(line.replace('NUMBER', str(number)), flush=True)\n"
    )
    return NudityDetector(sys.executable, script)


FRAME = np.zeros((8, 8, 3), np.uint8)
DEADLY = np.full((8, 8, 3), 255, np.uint8)


def _answer(label: str, score: float) -> str:
    detection = {"class": label, "score": score, "box": [1, 2, 3, 4]}
    return json.dumps({"detections": [detection]})[:-1] + ', "id": NUMBER}'


@pytest.mark.parametrize(
    ("label", "score", "verdict"),
    [
        ("FEMALE_BREAST_EXPOSED", 0.9, "block"),
        ("FEMALE_BREAST_EXPOSED", 0.4, "review"),
        ("FEMALE_BREAST_EXPOSED", 0.2, "pass"),
        ("MALE_GENITALIA_EXPOSED", 0.6, "block"),
        ("BUTTOCKS_EXPOSED", 0.5, "review"),
        ("ANUS_EXPOSED", 0.3, "review"),
        ("MALE_BREAST_EXPOSED", 0.99, "review"),
        ("FACE_FEMALE", 0.99, "pass"),
        ("FEET_EXPOSED", 0.99, "pass"),
    ],
)
def test_each_class_has_its_limits(tmp_path: Path, label: str, score: float, verdict: str) -> None:
    with _fake(tmp_path, _answer(label, score)) as fake:
        (finding,) = check_nudity([(1.5, FRAME)], fake)
    assert finding.verdict == verdict
    if verdict != "pass":
        assert finding.rule == f"nudity.{label.lower()}"
        assert (finding.time_s, finding.box, finding.score) == (1.5, (1, 2, 3, 4), score)


def test_what_was_found_before_a_nonsense_still_counts() -> None:
    class Nonsense(NudityDetector):
        def detect(self, rgb: npt.NDArray[np.uint8]) -> list[Detection]:
            if rgb is DEADLY:
                raise DetectorUnavailable("nonsense")
            return [Detection("ANUS_EXPOSED", 0.9, (1, 2, 3, 4))]

    found = check_nudity([(0.0, FRAME), (1.0, DEADLY)], Nonsense())
    assert [f.verdict for f in found] == ["block", "unavailable"]


@pytest.mark.parametrize(
    "does",
    [
        "os.kill(os.getpid(), 9)",
        "raise MemoryError",
        "time.sleep(60)",
        "print('{', end='', flush=True); os.kill(os.getpid(), 9)",
    ],
)
def test_a_detector_that_cannot_start_for_a_reason_that_may_pass_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    monkeypatch.setattr("models.safety.nudity.START_S", 0.5)
    script = tmp_path / "fails.py"
    script.write_text(f"import os, time\n{does}\n")
    with NudityDetector(sys.executable, script) as fails:
        assert not fails.available()
        with pytest.raises(DetectorLost):
            check_nudity([(0.0, FRAME)], fails)


def test_an_interpreter_that_there_is_no_memory_for_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("models.safety.nudity.subprocess.Popen", refuse)
    with pytest.raises(DetectorLost, match="Cannot allocate memory"):
        check_nudity([(0.0, FRAME)], NudityDetector(sys.executable))


@pytest.mark.parametrize(
    "answer",
    ["not json", "[1]", '{"id": 99, "detections": []}', '{"id": NUMBER}',
     '{"id": NUMBER, "detections": [{"class": "X"}]}'],
)  # fmt: skip
def test_an_answer_that_makes_no_sense_is_unavailable(tmp_path: Path, answer: str) -> None:
    with _fake(tmp_path, answer) as fake:
        assert [f.verdict for f in check_nudity([(0.0, FRAME)], fake)] == ["unavailable"]


def test_a_process_that_is_not_ready_is_unavailable(tmp_path: Path) -> None:
    with _fake(tmp_path, ready=False) as fake, pytest.raises(DetectorUnavailable, match="ready"):
        fake.detect(FRAME)


@pytest.mark.parametrize("python", ["", "/nowhere/python", "/bin/true", sys.executable])
def test_a_missing_environment_is_unavailable(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No interpreter configured, none there, another program, one without the detector."""
    monkeypatch.delenv(PYTHON_ENV, raising=False)
    with NudityDetector(python) as absent:
        assert not absent.available()
        assert [f.verdict for f in check_nudity([(0.0, FRAME)], absent)] == ["unavailable"]


def test_no_frame_is_unavailable(detector: NudityDetector) -> None:
    assert [f.verdict for f in check_nudity([], detector)] == ["unavailable"]


def test_what_is_no_frame_is_refused(detector: NudityDetector) -> None:
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(np.zeros((4, 4), np.uint8))


def test_our_packages_never_import_the_detector() -> None:
    """Its weights are AGPL-3.0: it stays in its own process."""
    imported = re.compile(r"^\s*(import|from)\s+nudenet|import_module\(.nudenet", re.MULTILINE)
    for package in ("models", "include", "dags", "operators", "plugins"):
        for path in (ROOT / package).rglob("*.py"):
            assert not imported.search(path.read_text()), path
    assert "from include" not in SCRIPT.read_text()
    assert "from models" not in SCRIPT.read_text()
