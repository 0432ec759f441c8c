from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from include.media.ffmpeg_process import ffmpeg_binary
from include.media.gops import join_gops
from tests.include.media.gop_clips import NTSC, write_gops

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Run ffmpeg with the given arguments on a new file of the given name; made once a session."""
    folder = tmp_path_factory.mktemp("made")
    made: dict[tuple[str, ...], Path] = {}

    def run(name: str, *arguments: str) -> Path:
        key = (name, *arguments)
        if key not in made:
            target = folder / f"{len(made)}" / name
            target.parent.mkdir()
            subprocess.run(
                [ffmpeg_binary(), "-v", "error", "-y", *arguments, "-threads", "1", str(target)],
                check=True,
                stdin=subprocess.DEVNULL,
            )
            made[key] = target
        return made[key]

    return run


@pytest.fixture(scope="session")
def clip(make: Make) -> Path:
    """A well-behaved video: 1 s of 160x120 at 25 fps in H.264 with a tone in AAC."""
    return make(
        "clip.mp4",
        *("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=1"),
        *("-f", "lavfi", "-i", "sine=440:r=44100:d=1"),
        *("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"),
    )


@pytest.fixture(scope="session")
def seven(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Seven GOPs of 38 frames; frames of one picture at the start, in the middle and at the end."""
    return write_gops(tmp_path_factory.mktemp("seven"), [1, 1, 2, 7, 1, 25, 1], NTSC)


@pytest.fixture(scope="session")
def joined(seven: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return join_gops(seven, NTSC, tmp_path_factory.mktemp("joined") / "out.mp4")
