"""What a stage writes without a video encoder, on a disk that is full."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from include.errors import StoreUnavailable
from include.media import images
from include.stages import face_swap
from include.stages.segments import Segment
from include.stages.timeline import Gop
from models.face.roi import Window


def test_a_mouth_that_cannot_be_written_is_worth_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segment(0, 0, 10, Window(0, 0, 8, 8))
    picture = np.zeros((8, 8, 3), np.uint8)
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    (tmp_path / "open-000.png").symlink_to("/dev/full")
    monkeypatch.setattr(images, "temporary_name", lambda _path: full)
    monkeypatch.setattr(face_swap, "mouth_frame", lambda *_: 3)
    monkeypatch.setattr(face_swap, "gops_of", lambda _: [Gop(0, 0, 10, segment)])
    monkeypatch.setattr(face_swap, "_swapped", lambda *_: [(picture, picture, picture)])
    ctx = SimpleNamespace(scratch=tmp_path)
    with pytest.raises(StoreUnavailable) as caught:
        face_swap._open_mouth(ctx, segment, None, None, "open-000")  # type: ignore[arg-type]
    assert caught.value.code == "disk.full"
