"""The nudity detector, in a process of its own because its weights are AGPL-3.0.

It is run by the interpreter of its own environment and speaks a small protocol with whoever
started it; nothing of Understudy is imported here, nothing of this is imported by Understudy.

stdin, per frame: three little-endian uint32 (height, width, id), then height x width x 3 bytes RGB.
stdout: one JSON object a line. First ``{"ready": true, "detector": ..., "weights_sha256": ...}``,
then per frame ``{"id": ..., "detections": [{"class": ..., "score": ..., "box": [x, y, w, h]}]}``.
End of input ends the process. Exit status 69: what it needs is not installed.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

HEADER = struct.Struct("<III")
MAX_SIDE = 8192
ABSENT = 69


def load() -> tuple[Any, str]:
    """The detector on one thread, and the digest of its weights."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # read when the libraries are loaded, so before that
    try:
        cv2, nudenet, onnxruntime = map(importlib.import_module, ("cv2", "nudenet", "onnxruntime"))
    except ImportError as error:
        # The loader says so too when it cannot map a library that is there.
        raise SystemExit(1 if "memory" in str(error) else ABSENT) from error
    weights = Path(str(nudenet.__file__)).parent / "320n.onnx"
    if not weights.is_file():
        raise SystemExit(ABSENT)
    cv2.setNumThreads(1)
    detector = nudenet.NudeDetector()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    detector.onnx_session = onnxruntime.InferenceSession(
        str(weights), sess_options=options, providers=["CPUExecutionProvider"]
    )
    return detector, hashlib.sha256(weights.read_bytes()).hexdigest()


def read_frame(stream: BinaryIO) -> tuple[int, Any] | None:
    """The next frame (id, RGB uint8 [h, w, 3]); None at the end of input."""
    import numpy as np

    header = stream.read(HEADER.size)
    if not header:
        return None
    if len(header) < HEADER.size:
        raise SystemExit("the frame header is cut off")
    height, width, number = HEADER.unpack(header)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise SystemExit(f"a frame of {width}x{height} is out of range")
    data = stream.read(height * width * 3)
    if len(data) < height * width * 3:
        raise SystemExit("the frame is cut off")
    return number, np.frombuffer(data, np.uint8).reshape(height, width, 3)


def main() -> int:
    """Answer frames until the input ends."""
    # Whatever a library prints must not land between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value, separators=(",", ":")) + "\n")
        answers.flush()

    detector, digest = load()
    version = importlib.metadata.version("nudenet")
    answer({"ready": True, "detector": f"nudenet {version}", "weights_sha256": digest})
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        number, rgb = frame
        bgr = rgb[:, :, ::-1].copy()
        answer({"id": number, "detections": detector.detect(bgr)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
