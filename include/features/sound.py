"""What a sound is in figures: loudness, peaks, silence, clipping, whether somebody speaks."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from scipy import signal

from include.errors import CorruptArtifact
from include.media.audio import UNMEASURABLE_LUFS, Audio, loudness
from models.speech.phonemes import to_model_rate

Figures = dict[str, float | bool | None]

SOUND_FIGURES = ("loudness", "true_peak", "silence", "clipping", "speech_present")
SILENT_DBFS = -50.0
BLOCK_S = 0.05
CLIP_RUN, FULL_SCALE = 3, 0.97
"""Samples in a row, at this level, from which on they are counted as clipped."""
SPEECH_S, SPEECH_SHARE = 0.3, 0.1
"""Seconds of speech, and share of the whole, from which on somebody speaks."""
MODULATION = 0.65
"""Standard deviation of the speech band's level over its mean, within a second."""
_VAD_RATE, _VERY_STRICT, _FRAME_S = 16_000, 3, 0.03
_MANY_S = 10.0
"""Seconds worked on at a time where a step needs several times the memory of its input."""


def measure_sound(audio: Audio | None) -> Figures:
    """Measure a sound: ``SOUND_FIGURES``, all null without one."""
    if audio is None or not len(audio.samples):
        return dict.fromkeys(SOUND_FIGURES)
    loud = loudness(audio.samples, audio.rate)
    heard = loud.lufs > UNMEASURABLE_LUFS
    peak = loud.true_peak_dbtp
    return {
        "loudness": loud.lufs if heard else None,
        "true_peak": peak if np.isfinite(peak) else None,
        "silence": silence(audio),
        "clipping": clipping(audio),
        "speech_present": speech_seconds(audio) >= max(SPEECH_S, SPEECH_SHARE * audio.duration_s),
    }


def silence(audio: Audio) -> float:
    """Share of blocks of ``BLOCK_S`` whose level is under ``SILENT_DBFS``, 0 to 1."""
    size = max(1, round(BLOCK_S * audio.rate))
    step = size * round(_MANY_S / BLOCK_S)
    quiet = blocks = 0
    for first in range(0, len(audio.samples), step):
        mono = audio.samples[first : first + step].mean(axis=1, dtype=np.float64)
        mono = np.pad(mono, (0, -len(mono) % size))
        level = np.sqrt((mono.reshape(-1, size) ** 2).mean(axis=1))
        quiet += int((level < 10 ** (SILENT_DBFS / 20)).sum())
        blocks += len(level)
    return quiet / blocks


def clipping(audio: Audio) -> float:
    """Share of samples that lie in flat tops, 0 to 1.

    A flat top is ``CLIP_RUN`` or more samples in a row at full scale (a lossy codec rounds its
    corners) or at the sound's own peak, so that clipping is seen as well in a recording that was
    turned down afterwards.
    """
    samples = audio.samples
    peak = max(float(samples.max(initial=0.0)), -float(samples.min(initial=0.0)))
    if peak < 0.05:
        return 0.0
    clipped, top = 0, min(FULL_SCALE, 0.999 * peak)
    for channel in samples.T:
        flat = (channel >= top) | (channel <= -top)
        edges = np.diff(np.concatenate([[False], flat, [False]]).view(np.int8))
        runs = np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)
        clipped += int(runs[runs >= CLIP_RUN].sum())
    return clipped / samples.size


def speech_seconds(audio: Audio) -> float:
    """Seconds in which somebody speaks: a voice's spectrum, and level that moves with syllables.

    The first is WebRTC's detector in its strictest mode, which takes much music for speech; the
    second (after Scheirer and Slaney, "Construction and evaluation of a robust multifeature
    speech/music discriminator", ICASSP 1997) is the spread of the speech band's level within a
    second, which is 1 and more for speech and under a half for a music bed.
    """
    from pocketsphinx import Vad

    detector = Vad(mode=_VERY_STRICT, sample_rate=_VAD_RATE, frame_length=_FRAME_S)
    pcm = to_model_rate(audio.samples, audio.rate)
    size = round(_FRAME_S * _VAD_RATE)
    if len(pcm) < size:
        return 0.0
    frames = pcm[: len(pcm) // size * size].reshape(-1, size)
    voiced = np.array([bool(detector.is_speech(frame.tobytes())) for frame in frames], bool)
    level = _speech_band_level(frames)
    spoken = np.zeros(len(frames), bool)
    window = round(1.0 / _FRAME_S)
    for start in range(0, max(1, len(frames) - window // 2), window // 2):
        part = slice(start, start + window)
        mean = float(level[part].mean()) if len(level[part]) else 0.0
        if mean > 0 and float(level[part].std()) / mean >= MODULATION:
            spoken[part] |= voiced[part]
    return float(spoken.sum() * _FRAME_S)


def _speech_band_level(frames: NDArray[np.int16]) -> NDArray[np.float64]:
    """Level of 300 to 3,400 Hz in each frame."""
    band = signal.butter(4, [300, 3400], "bandpass", fs=_VAD_RATE, output="sos")
    filtered = signal.sosfilt(band, frames.reshape(-1).astype(np.float64))
    return np.asarray(np.sqrt((filtered.reshape(frames.shape) ** 2).mean(axis=1)))


def read_own_sound(path: Path) -> Audio | None:
    """Decode the sound of a video that we wrote, in this process; None where it has none.

    The samples begin at the video's time 0: what a decoder drops or adds at the start is undone.

    Raises:
        CorruptArtifact: it cannot be decoded.
    """
    try:
        with av.open(f"file:{path}") as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[0]
            rate, layout = stream.codec_context.sample_rate, stream.codec_context.layout
            resampler = av.AudioResampler(format="flt", layout=layout, rate=rate)
            # One buffer that grows where it lies: joining blocks at the end holds everything twice.
            raw = bytearray()
            start: float | None = None
            for frame in container.decode(stream):
                start = frame.time if start is None else start
                for block in resampler.resample(frame):
                    raw += block.to_ndarray().astype(np.float32, copy=False).tobytes()
    except (av.FFmpegError, OSError) as error:
        raise CorruptArtifact(f"the sound of {path} cannot be decoded ({error})") from error
    if start is None:
        return None
    shift = round(start * rate)
    raw[:0] = bytes(max(0, shift) * layout.nb_channels * 4)
    samples = np.frombuffer(raw, np.float32).reshape(-1, layout.nb_channels)
    return Audio(samples[max(0, -shift) :], rate)
