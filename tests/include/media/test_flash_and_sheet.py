from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from include.errors import Bug
from include.media.contact_sheet import contact_sheet
from include.media.flash import measure, worst

Make = Callable[..., Path]
H264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast")


def strobe(make: Make, when: str) -> Path:
    box = f"drawbox=color=white:t=fill:enable='{when}'"
    return make("s.mp4", "-f", "lavfi", "-i", f"color=black:s=160x90:r=25:d=3,{box}", *H264)


def test_a_strobe_is_told_from_an_ordinary_picture(make: Make) -> None:
    flashing = measure(strobe(make, "between(t,1,2)*mod(n,2)"))
    calm = measure(make("c.mp4", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=2", *H264))
    assert len(flashing) == 75
    assert worst(flashing).badness > 28
    assert 1.0 < worst(flashing).time_s < 2.2
    assert worst(calm).badness < 3


def test_a_bright_first_frame_is_no_flash(make: Make) -> None:
    still = measure(make("w.mp4", "-f", "lavfi", "-i", "color=white:s=160x90:r=25:d=2", *H264))
    assert worst(still).badness < 0.1
    assert still[0].time_s == pytest.approx(0.0, abs=1e-6)


def test_the_sheet_holds_every_frame_in_its_cell() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (0, 200, 200)]
    frames = [np.full((90, 160, 3), colour, np.uint8) for colour in colours]
    sheet = contact_sheet(frames, columns=3, cell_width=80, labels=[f"00:0{n}" for n in range(5)])
    found = {tuple(int(c) for c in pixel) for pixel in sheet.reshape(-1, 3)}
    assert set(colours) <= found
    assert sheet.shape[1] == 3 * 80 + 4 * 6
    assert sheet.dtype == np.uint8


def test_labels_are_drawn_and_never_leave_their_cell() -> None:
    frames = [np.full((90, 160, 3), 128, np.uint8)] * 2
    plain = contact_sheet(frames, 2, 100, ["", ""])
    long = contact_sheet(frames, 2, 100, ["a label that is far too long for its cell 春", ""])
    assert (plain != long).any()
    assert np.array_equal(plain[:, 112:], long[:, 112:])


def test_sheets_that_make_no_sense_are_refused() -> None:
    frame = np.zeros((9, 16, 3), np.uint8)
    for frames, labels in [([], None), ([frame], ["a", "b"])]:
        with pytest.raises(Bug):
            contact_sheet(frames, 2, 100, labels)
