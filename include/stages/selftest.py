"""Whether this environment can run stages: ``python -m include.stages --self-test``.

What an image's build and its health check ask: every library is really imported, ffmpeg really
encodes and decodes, shipped weights have their declared digests, the scratch disk takes a file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from include.settings import PROJECT

LIBRARIES = (
    "av", "boto3", "c2pa", "cryptography", "cv2", "dlib", "espeakng_loader", "mediapipe", "numpy",
    "pocketsphinx", "pydantic", "scipy", "torch",
)  # fmt: skip
FACE_EMBEDDING = "dlib_face_recognition_resnet_model_v1.dat"


def self_test(libraries: tuple[str, ...] = LIBRARIES) -> list[str]:
    """Try everything; returns what is wrong, empty when all is well."""
    checks: list[Callable[[], None]] = [_scratch, _weights, _ffmpeg]
    faults = []
    for name in libraries:
        try:
            importlib.import_module(name)
        except Exception as error:  # an import can fail in any way
            faults.append(f"{name} cannot be imported: {error}")
    for check in checks:
        try:
            check()
        except Exception as error:
            faults.append(f"{check.__name__.strip('_')}: {error}")
    return faults


def _scratch() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"0" * (1 << 20))
        file.flush()


def _weights() -> None:
    from models.quality import BACKENDS as QUALITY
    from models.upscale import BACKENDS as UPSCALE

    package = importlib.util.find_spec("face_recognition_models")
    if package is None or package.origin is None:
        raise ValueError("face_recognition_models is not installed")
    embedding = Path(package.origin).parent / "models" / FACE_EMBEDDING
    files = {
        PROJECT / "models/upscale/compact_x2.npz": UPSCALE["compact"].weights_sha256,
        embedding: QUALITY["measures"].weights_sha256,
    }
    for path, declared in files.items():
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != declared:
            raise ValueError(f"{path.name} has sha256 {found}, not the declared {declared}")


def _ffmpeg() -> None:
    from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary

    with tempfile.TemporaryDirectory(prefix="understudy-self-test-") as folder:
        video = str(Path(folder) / "test.mp4")
        source = ["-f", "lavfi", "-i", "testsrc2=size=64x64:rate=10:duration=0.5"]
        encode = [*source, "-c:v", "libx264", "-pix_fmt", "yuv420p", video]
        for arguments in (encode, ["-i", video, "-f", "null", "-"]):
            done = subprocess.run(
                [ffmpeg_binary(), *GLOBAL_ARGUMENTS, *arguments],
                check=False,
                capture_output=True,
                text=True,
                timeout=60,
            )
            if done.returncode:
                raise ValueError(f"ffmpeg ended with {done.returncode}: {done.stderr.strip()}")
