"""What an API sent back holds every frame, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from include.errors import RemoteUnavailable
from include.media.lossless import LosslessRgbWriter
from include.remote.outputs import check_complete
from include.stages.context import Span
from include.stages.specs import STAGES

WINDOW = [16, 8, 32, 24]
TEMPLATE = {
    "ingest_template": {"frames": 30, "fps": [10, 1], "shots": [0, 10], "width": 96, "height": 64},
    "track_face": {"segments": [{"index": 0, "start": 10, "stop": 30, "window": WINDOW}]},
    "face_swap": {"clips": [{"gop": 1, "clip": WINDOW, "changed": WINDOW}]},
}
"""A title card of one second, then a face for two: one GOP each."""


@dataclass
class Row:
    """What the check reads of a row's context."""

    spec: Any
    chunk_s: float = 0.0
    chunk: Span | None = None
    known: dict[str, Any] = field(default_factory=lambda: dict(TEMPLATE))

    @property
    def shard(self) -> Any:
        return self

    @property
    def span(self) -> Span | None:
        return self.chunk

    def facts(self, artifact: str) -> Any:
        return self.known[artifact]


Made = tuple[dict[str, Path], dict[str, Any]]


def swapped(folder: Path, frames: int = 20, width: int = 32) -> Made:
    path = folder / "roi-00001.avi"
    with LosslessRgbWriter(path, (width, 24), 10) as writer:
        for _ in range(frames):
            writer.write(np.zeros((24, width, 3), np.uint8))
    return {"roi-00001": path}, {"clips": [{"gop": 1, "clip": WINDOW, "changed": WINDOW}]}


def larger(folder: Path, left: list[dict[str, Any]] | None = None) -> Made:
    path = folder / "big-00001.avi"
    with LosslessRgbWriter(path, (64, 48), 10) as writer:
        for _ in range(20):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    clips = [{"gop": 1, "clip": WINDOW}]
    return {"big-00001": path}, {"clips": clips, "left": left or [], "scale": 2}


def refused(stage: str, made: Made, index: int | None = None, **more: Any) -> str:
    with pytest.raises(RemoteUnavailable) as caught:
        check_complete(Row(STAGES[stage], **more), index, *made)  # type: ignore[arg-type]
    assert caught.value.code == "remote.output"
    return caught.value.message


@pytest.mark.parametrize(
    ("stage", "make"), [("face_swap", swapped), ("upscale", larger)], ids=["swap", "upscale"]
)
def test_what_is_complete_is_taken_whole_or_by_chunk(
    stage: str, make: Callable[[Path], Made], tmp_path: Path
) -> None:
    check_complete(Row(STAGES[stage]), None, *make(tmp_path))  # type: ignore[arg-type]
    row = Row(STAGES[stage], chunk_s=2.0)
    check_complete(row, 0, {}, {"clips": []})  # type: ignore[arg-type]
    check_complete(row, 1, *make(tmp_path))  # type: ignore[arg-type]


def test_a_clip_that_is_too_short_or_of_another_size_is_refused(tmp_path: Path) -> None:
    said = refused("face_swap", swapped(tmp_path, frames=16))
    assert "16 frames of 32x24, it should have 20 of 32x24" in said
    assert "20 frames of 30x24" in refused("face_swap", swapped(tmp_path, width=30))


def test_a_clip_that_is_missing_is_refused(tmp_path: Path) -> None:
    files, facts = swapped(tmp_path)
    assert "no clip of frames 10 to 30" in refused("face_swap", ({}, {"clips": []}))
    assert "no clip of frames 10 to 30" in refused("face_swap", ({}, {"clips": []}), 1, chunk_s=2.0)
    assert "no clip of frames 10 to 30" in refused("upscale", ({}, {"clips": []}))
    assert "roi-00001 is missing" in refused("face_swap", ({}, facts))
    assert "none of face_swap's" in refused("face_swap", (files, {}))
    assert "none of face_swap's" in refused("face_swap", (files, {"clips": [{"gop": "one"}]}))


def test_an_upscaler_may_leave_to_compose_what_it_names_and_what_did_not_change() -> None:
    left = {"clips": [], "left": [{"gop": 1, "window": WINDOW}], "scale": 2}
    check_complete(Row(STAGES["upscale"]), None, {}, left)  # type: ignore[arg-type]
    unchanged = {"clips": [{"gop": 1, "clip": WINDOW, "changed": None}]}
    row = Row(STAGES["upscale"], known={**TEMPLATE, "face_swap": unchanged})
    check_complete(row, None, {}, {"clips": [], "left": [], "scale": 2})  # type: ignore[arg-type]
