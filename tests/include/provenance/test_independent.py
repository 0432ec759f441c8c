"""A second implementation of C2PA agrees: c2pa-ts, which shares no code with our library.

Needs node and the npm registry; runs where UNDERSTUDY_SYSTEM_TESTS=1 says that system tools may be
used, and there their absence is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from include.provenance import bmff

pytestmark = pytest.mark.skipif(
    os.environ.get("UNDERSTUDY_SYSTEM_TESTS") != "1",
    reason="an independent verifier from npm: set UNDERSTUDY_SYSTEM_TESTS=1",
)
HERE = Path(__file__).parent / "c2pa_ts"


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the verifier and its packages, as locked."""
    folder = tmp_path_factory.mktemp("c2pa_ts") / "app"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        check=True,
        timeout=300,
    )
    return folder


def _verify(verifier: Path, *videos: Path) -> list[dict[str, Any]]:
    command = ["node", "verify.mjs", *map(str, videos)]
    done = subprocess.run(command, cwd=verifier, check=True, capture_output=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_finds_our_video_valid(verifier: Path, signed: Path) -> None:
    (found,) = _verify(verifier, signed)
    assert found["valid"], found
    assert found["failures"] == []


def test_it_finds_a_changed_video_invalid(verifier: Path, signed: Path, tmp_path: Path) -> None:
    boxes, _ = bmff.top_level_boxes(signed)
    mdat = next(box for box in boxes if box.kind == b"mdat")
    data = bytearray(signed.read_bytes())
    data[mdat.offset + mdat.size // 2] ^= 1
    picture = tmp_path / "picture.mp4"
    picture.write_bytes(data)
    claim = tmp_path / "claim.mp4"
    claim.write_bytes(signed.read_bytes().replace(b"gverdictdpass", b"gverdictdPASS"))
    unsigned = tmp_path / "unsigned.mp4"
    unsigned.write_bytes(signed.read_bytes().replace(bmff.C2PA_UUID, bytes(16)))
    found = _verify(verifier, picture, claim, unsigned)
    assert [item["valid"] for item in found] == [False, False, False]
    assert "assertion.bmffHash.mismatch" in found[0]["failures"]
    assert "assertion.hashedURI.mismatch" in found[1]["failures"]
    assert found[2]["manifest"] is False
