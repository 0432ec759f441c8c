"""Small real media, an identity, and one signed video for the provenance tests."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from include.provenance.identity import KeyIdentity
from include.provenance.manifest import (
    Agent,
    Captions,
    ConsentClaim,
    Ingredient,
    Provenance,
    SafetyCheck,
    SafetySummary,
)
from include.provenance.pki import development_identity
from include.provenance.sign import sign_video

ANNA = "recipient-0001"


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip.mp4, photo.jpg, photo.png, photo.webp and voice.wav."""
    folder = tmp_path_factory.mktemp("media")
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1"),
            *("-f", "lavfi", "-i", "testsrc2=s=128x72:r=25:d=1"),
            *("-f", "lavfi", "-i", "sine=d=1", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
            *("-c:a", "aac", "-movflags", "+faststart", str(folder / "clip.mp4")),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "photo.jpg"), picture)
    cv2.imwrite(str(folder / "photo.png"), picture)
    cv2.imwrite(str(folder / "photo.webp"), picture)
    with wave.open(str(folder / "voice.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(np.zeros(8000, np.int16).tobytes())
    return folder


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> KeyIdentity:
    return development_identity(state=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return Provenance(
        title=f"spring-sale/{ANNA}",
        run_id="manual__2026-11-20",
        version="0.1.0",
        safety=SafetySummary(
            "understudy-safety/1", "pass", (SafetyCheck("nudity", "pass", 0.01, 0.3),)
        ),
        consents=(ConsentClaim("c-17", "d" * 64, "recipient", "2027-01-01T00:00:00Z"),),
        face_swap=Agent("mesh", "1"),
        lip_sync=Agent("viseme", "1"),
        voice_synthesis=Agent("espeak-ng", "1.52"),
        upscale=Agent("compact", "1", "b" * 64),
        captions=Captions("en", "e" * 64),
        overlays=("AI-generated",),
    )


@pytest.fixture(scope="session")
def ingredients(media: Path) -> list[Ingredient]:
    return [
        Ingredient("template", "parentOf", "template", "video/mp4", media / "clip.mp4"),
        Ingredient(f"{ANNA}-face", "componentOf", "face", "image/jpeg", media / "photo.jpg"),
        Ingredient(f"{ANNA}-voice", "componentOf", "voice", "audio/wav", media / "voice.wav"),
    ]


@pytest.fixture(scope="session")
def signed(
    media: Path, identity: KeyIdentity, provenance: Provenance, ingredients: list[Ingredient]
) -> Path:
    """A signed video; copy it before changing it."""
    path = media / "signed.mp4"
    sign_video(media / "clip.mp4", path, provenance, ingredients, identity)
    return path
