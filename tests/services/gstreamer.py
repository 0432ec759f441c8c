"""GStreamer as a second opinion on MP4 files: its own reader, and FAAD2 for AAC.

It does not decode pictures: Debian's OpenH264 2.3.1 loses B-frames of any file.

Needs root and Debian's packages, which ``install`` fetches; so only where the system may be
changed (``UNDERSTUDY_SYSTEM_TESTS=1``). What is missing or fails is an error, never a skip.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.services import debian

PACKAGES = (
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
    "python3-gi",
    "gir1.2-gstreamer-1.0",
    "gir1.2-gst-plugins-base-1.0",
)
# Debian's own Python: the bindings are made for it and no other.
_PYTHON = "/usr/bin/python3"
_SCRIPT = Path(__file__).with_name("gstreamer_decode.py")
_READY = """
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
names = ("qtdemux", "h264parse", "aacparse", "faad", "appsink")
raise SystemExit(not all(map(Gst.ElementFactory.find, names)))
"""


def install() -> None:
    """Install GStreamer from Debian's archive unless it is there.

    Raises:
        RuntimeError: apt-get failed, or a plugin is still missing.
    """
    debian.install(PACKAGES, _is_ready)


def _is_ready() -> bool:
    try:
        return not subprocess.run(
            [_PYTHON, "-c", _READY], check=False, capture_output=True
        ).returncode
    except FileNotFoundError:
        return False


def read(path: Path, stream: Path, *, sound: bool = False) -> dict[str, Any]:
    """Read a file to its end.

    Args:
        path: an MP4 with H.264, and AAC when ``sound``.
        stream: where its pictures are written as an H.264 byte stream (Annex B).
        sound: decode the sound as well.

    Returns:
        ``pictures``: for each one in decoding order when it is ``shown`` and ``decoded`` and how
        long it ``lasts``, in nanoseconds after edit lists. ``sound``, when asked for: its
        ``rate``, and in nanoseconds how long it ``lasts`` by its edit list, when the units that
        were read start and end (``starts``, ``ends``), and when the first loud sample sounds
        (``onset``).
    """
    command = [_PYTHON, str(_SCRIPT), str(path), str(stream), *(["--sound"] if sound else [])]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"GStreamer cannot read {path}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
