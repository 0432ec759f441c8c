"""x264's bytes are decided by pixels and parameters, not by what memory held before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from include.media import x264
from include.settings import PROJECT

pytestmark = pytest.mark.worker

Make = Callable[..., Path]

ENCODE = """
import hashlib, os, sys
from pathlib import Path
from include.media import mux, sandbox
from tests.include.media.gop_clips import pictures, write_gop
for size in [(240, 180), (480, 270), (720, 1280)]:
    path = write_gop(Path(sys.argv[1]) / "gop.mp4", pictures(14, size=size))
    print(size, hashlib.sha256(path.read_bytes()).hexdigest())
sandbox._environment = lambda: dict(os.environ)  # the limited child's would be empty
path = mux.remux_mp4(Path(sys.argv[2]), Path(sys.argv[1]) / "foreign.mp4")
print("foreign", hashlib.sha256(path.read_bytes()).hexdigest())
"""


def encoded(folder: Path, fill: int, foreign: Path) -> str:
    """Digests of GOPs, and of a stranger's video encoded for a tool that reads MP4 only.

    From a process whose memory holds something when it is handed out.
    """
    folder.mkdir()
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "MALLOC_PERTURB_": str(fill)}
    command = [sys.executable, "-c", ENCODE, str(folder), str(foreign)]
    done = subprocess.run(command, env=env, cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout


def test_what_memory_held_before_does_not_count(make: Make, tmp_path: Path) -> None:
    source = ("-f", "lavfi", "-i", "testsrc2=s=720x1280:d=1", "-c:v", "libvpx")
    foreign = make("foreign.webm", *source)
    first, *others = (encoded(tmp_path / str(fill), fill, foreign) for fill in (0, 85, 170))
    assert first.count("\n") == 4
    assert others == [first, first]


@pytest.mark.parametrize(
    ("has", "expected"), [(True, "threads=1:asm=AVX2,FMA3,BMI2,LZCNT"), (False, "threads=1")]
)
def test_only_a_processor_with_avx_512_is_told_what_to_use(monkeypatch, has, expected) -> None:
    monkeypatch.setattr(x264.cv2, "checkHardwareSupport", lambda feature: has)
    x264._of_processor.cache_clear()
    assert x264.x264_params("threads=1") == expected
    x264._of_processor.cache_clear()
