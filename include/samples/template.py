"""The template ad: opening card, presenter, product shot, end card; music under a voice."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from include.media.encode import DeliveryWriter
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary, run_ffmpeg
from include.media.pixels import rgb_to_yuv420
from include.samples import cards, music, people, presenter
from models.speech.synthesis import Speech, synthesise

UInt8 = npt.NDArray[np.uint8]

SIZE = (960, 540)
FPS = 25
OPENING, TALK, PRODUCT, END = 25, 120, 28, 27
FRAMES = OPENING + TALK + PRODUCT + END
VOICE_AT = 1.2
"""Seconds into the ad at which anybody's voice line begins."""
WINDOW = (OPENING + TALK) / FPS - VOICE_AT
"""Seconds a voice line may last before the presenter is gone."""
LINE = "Spring is here, and we made something new for you. Come and have a look."
CRF = 16
VOICE_GAIN = 0.66
"""Brings a mono line at -17 LUFS to -18 when both channels carry it."""


@dataclass(frozen=True)
class Template:
    """What was made.

    Attributes:
        video: H.264 and AAC in MP4.
        bed: the music alone, 48 kHz stereo WAV.
    """

    video: Path
    bed: Path


def voice_line() -> Speech:
    """The presenter's own line."""
    return synthesise(LINE, locale="en-US", voice="female", rate_wpm=165)


def pictures(speech: Speech) -> Iterator[UInt8]:
    """All frames of the ad, uint8 [540, 960, 3]."""
    hw = (SIZE[1], SIZE[0])
    scene = presenter.Scene(TALK, FPS, SIZE, speech, VOICE_AT - OPENING / FPS, "loft")
    for i in range(OPENING):
        yield cards.opening(i, OPENING, hw)
    yield from presenter.Animator(people.PEOPLE[people.PRESENTER], scene).frames()
    for i in range(PRODUCT):
        yield cards.product_shot(i, PRODUCT, hw)
    for i in range(END):
        yield cards.end(i, END, hw)


def mix(speech: Speech, bed: music.Sound) -> music.Sound:
    """Lay the voice over the bed, float64 [2, n] at 48 kHz."""
    voice = resample_poly(speech.samples / 32768.0, music.RATE, speech.sample_rate) * VOICE_GAIN
    out = bed.copy()
    start = round(VOICE_AT * music.RATE)
    voice = voice[: out.shape[1] - start]
    out[:, start : start + len(voice)] += voice
    peak = float(np.abs(out).max())
    return out if peak < 0.97 else out * (0.97 / peak)


def write_wav(path: Path, sound: npt.NDArray[np.float64], rate: int) -> None:
    """Write 16-bit PCM.

    Args:
        path: the file.
        sound: float64 [channels, n] in -1..1.
        rate: Hz.
    """
    pcm = np.clip(np.round(sound * 32767), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(len(pcm))
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.ascontiguousarray(pcm.T).tobytes())


def make_template(folder: Path) -> Template:
    """Render the ad into a folder that exists.

    Returns:
        Paths of ``presenter.mp4`` and ``music.wav`` inside it.
    """
    speech = voice_line()
    bed = music.compose(FRAMES / FPS, (VOICE_AT, (OPENING + TALK) / FPS))
    made = Template(folder / "presenter.mp4", folder / "music.wav")
    write_wav(made.bed, bed, music.RATE)
    silent, sound = folder / ".silent.mp4", folder / ".mix.wav"
    write_wav(sound, mix(speech, bed), music.RATE)
    cuts = (0, OPENING, OPENING + TALK, OPENING + TALK + PRODUCT)
    with DeliveryWriter(silent, SIZE, FPS, crf=CRF, preset="medium", keyframes=cuts) as writer:
        for picture in pictures(speech):
            writer.write(rgb_to_yuv420(picture))
    _join(silent, sound, made.video)
    silent.unlink()
    sound.unlink()
    return made


def _join(video: Path, sound: Path, target: Path) -> None:
    output = ffmpeg.output(
        ffmpeg.input(f"file:{video}").video,
        ffmpeg.input(f"file:{sound}").audio,
        f"file:{target}",
        format="mp4",
        vcodec="copy",
        acodec="aac",
        audio_bitrate="160k",
        movflags="+faststart",
        map_metadata=-1,
        fflags="+bitexact",
        shortest=None,
        **{"flags:a": "+bitexact"},
    )
    arguments = ffmpeg.compile(output.global_args(*GLOBAL_ARGUMENTS), cmd=ffmpeg_binary())
    run_ffmpeg(list(arguments), "joining picture and sound", target)
