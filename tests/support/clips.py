"""A face that moves and speaks, for a second: as small as a template can be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from include.media.audio import Audio, write_wav
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary, run_ffmpeg
from models.speech.synthesis import synthesise
from tests.support.tiny import astronaut, write_video


def voice() -> Audio:
    speech = synthesise("Hello there, come and see what we made.", locale="en-US")
    return Audio(speech.samples.astype(np.float32)[:, None] / 32768, speech.sample_rate)


def speaking_clip(folder: Path, fps: int = 10, size: tuple[int, int] = (320, 240)) -> Path:
    """One second of scikit-image's astronaut, drifting, with a synthetic voice."""
    picture = cv2.resize(astronaut()[0:360, 0:480], size, interpolation=cv2.INTER_AREA)
    moves = [np.float32([[1, 0, 2 * np.sin(n / 3)], [0, 1, np.cos(n / 4)]]) for n in range(fps)]
    frames = [cv2.warpAffine(picture, m, size, borderMode=cv2.BORDER_REPLICATE) for m in moves]
    silent = write_video(folder / "silent.mp4", frames, fps)
    write_wav(folder / "voice.wav", voice())
    out = folder / "clip.mp4"
    inputs = ["-i", str(silent), "-i", str(folder / "voice.wav")]
    command = [ffmpeg_binary(), *GLOBAL_ARGUMENTS, *inputs, "-c:v", "copy", "-c:a", "aac"]
    run_ffmpeg([*command, "-ar", "48000", "-shortest", str(out)], "joining", out)
    return out
