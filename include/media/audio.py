"""Sound: read, write, resample, measure loudness, limit, and lay a voice over a bed."""

from __future__ import annotations

import os
import re
import subprocess
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from include.errors import Bug, CorruptArtifact, StoreUnavailable
from include.media import limits, structure
from include.media.encode import temporary_name
from include.media.ffmpeg_process import failure, ffmpeg_binary
from include.media.probe import AudioFacts, check_structure
from include.media.sandbox import run_child
from include.media.structure import bad, unsafe

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]

# ebur128 reports this when nothing passed its absolute gate: silence, or under 0.4 s of sound.
UNMEASURABLE_LUFS = -70.0
# Limiting deeper than this is heard as pumping; the voice stays quieter instead.
_DEEPEST_LIMITING_DB = 6.0
_LIMITER_WINDOW_S = 0.006
_OVERSAMPLING = 4
_LOOP_CROSSFADE_S = 0.25
_TRIM_FADE_S = 0.4
# Samples worked on at a time where a step needs many times the memory of its input.
_BLOCK = 1 << 18
# More of the voice than this must not fall off the end unheard.
_END_TOLERANCE_S = 0.02
# What encoders of sound add at the end of a file.
_PADDING_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A sound.

    Attributes:
        samples: float32 [n, channels], nominally -1 to 1.
        rate: samples a second.
    """

    samples: F32
    rate: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, slots=True)
class Loudness:
    """Integrated loudness and true peak, EBU R 128.

    Attributes:
        lufs: ``UNMEASURABLE_LUFS`` for silence and for less than 0.4 s.
        true_peak_dbtp: minus infinity for digital silence.
    """

    lufs: float
    true_peak_dbtp: float


def read_audio(path: Path) -> Audio:
    """Decode a stranger's sound file, or a video's sound, at its own rate.

    Mono and stereo stay as they are; more channels are mixed down to two.

    Raises:
        BadMedia: it cannot be used; ``code`` says why.
        UnsafeMedia: it is hostile, disguised or out of bounds.
    """
    return read_recording(path)[0]


def read_recording(path: Path) -> tuple[Audio, AudioFacts]:
    """Decode a stranger's sound file, and say what it was; see ``read_audio``."""
    container = check_structure(path, structure.AUDIO_CONTAINERS, limits.AUDIO.max_bytes)
    arguments = ["audio", structure.DEMUXERS[container], os.path.abspath(path)]
    answer, payload = run_child("decode", arguments, path, limits.DECODE_AUDIO)
    rate, channels = int(answer["rate"]), int(answer["channels"])
    if rate < 1 or channels < 1 or len(payload) != 4 * channels * int(answer["samples"]):
        unsafe(path, "media.crashed", "the process that decoded it gave half an answer")
    samples = np.frombuffer(payload, dtype="<f4").reshape(-1, channels)
    if len(samples) < limits.AUDIO.min_duration_s * rate:
        bad(path, "audio.too_short", "it is shorter than a syllable: use a longer recording")
    # A float file may hold anything; what is no number would spread through every filter.
    audio = Audio(np.nan_to_num(samples, posinf=1.0, neginf=-1.0).astype(np.float32), rate)
    codec, source_channels = str(answer["codec"]), int(answer["source_channels"])
    return audio, AudioFacts(container, codec, rate, source_channels, audio.duration_s)


def read_own_wav(path: Path) -> Audio:
    """Read a 16-bit WAV that one of our stages wrote, in this process.

    Raises:
        CorruptArtifact: it is none.
    """
    with _own_wav(path) as reader:
        rate, count = reader.getframerate(), reader.getnframes()
        samples = np.empty((count, reader.getnchannels()), np.float32)
        first = 0
        for block in _read_pcm(reader, count):
            samples[first : first + len(block)] = block
            first += len(block)
    samples /= 32768
    return Audio(samples[:first], rate)


@contextmanager
def _own_wav(path: Path) -> Iterator[wave.Wave_read]:
    """Open a 16-bit WAV of ours; what goes wrong in reading it is a ``CorruptArtifact``."""
    try:
        with wave.open(str(path), "rb") as reader:
            if reader.getsampwidth() != 2:
                raise wave.Error(f"{8 * reader.getsampwidth()} bits a sample")
            yield reader
    except (wave.Error, EOFError, OSError, ValueError) as error:
        raise CorruptArtifact(f"cannot read {path} ({error}): make it again") from error


def write_wav(path: Path, audio: Audio) -> None:
    """Write 16-bit PCM; values beyond full scale are clipped.

    Raises:
        StoreUnavailable: it cannot be written, for one because the disk is full.
    """
    starts = range(0, len(audio.samples), _BLOCK)
    blocks = (np.rint(audio.samples[first : first + _BLOCK] * 32767.0) for first in starts)
    pcm = (np.clip(block, -32768, 32767).astype("<i2") for block in blocks)
    _write_pcm(path, pcm, audio.rate, audio.samples.shape[1])


def _write_pcm(path: Path, blocks: Iterable[I16], rate: int, channels: int) -> None:
    """Write blocks of int16 [n, channels]; the file is there whole or not at all."""
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file, wave.open(file, "wb") as writer:
            writer.setnchannels(channels)
            writer.setsampwidth(2)
            writer.setframerate(rate)
            for block in blocks:
                writer.writeframes(block.tobytes())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreUnavailable(
            f"cannot write {path} ({error.strerror}): free some space or check the folder",
            code="disk.full" if error.errno == 28 else None,
            where=str(path),
        ) from error


def cut_wav(source: Path, path: Path, duration_s: float) -> Path:
    """Cut a 16-bit WAV of ours to a length.

    It fades out where more than an encoder's padding is cut off; before that it stays as it is.

    Returns:
        ``source`` itself when it is no longer than that, else ``path``.

    Raises:
        CorruptArtifact: it is none.
        StoreUnavailable: ``path`` cannot be written.
    """
    with _own_wav(source) as reader:
        rate, channels, total = reader.getframerate(), reader.getnchannels(), reader.getnframes()
        kept = round(duration_s * rate)
        if total <= kept:
            return source
        fade = min(round(_TRIM_FADE_S * rate), kept) if total - kept > _PADDING_S * rate else 0
        blocks = _read_pcm(reader, kept)
        _write_pcm(path, _faded_out(blocks, kept, fade), rate, channels)
    return path


def _read_pcm(reader: wave.Wave_read, count: int) -> Iterator[I16]:
    """The next samples of a WAV in blocks of int16 [n, channels]."""
    for first in range(0, count, _BLOCK):
        raw = reader.readframes(min(_BLOCK, count - first))
        yield np.frombuffer(raw, "<i2").reshape(-1, reader.getnchannels())


def _faded_out(blocks: Iterable[I16], total: int, fade: int) -> Iterator[I16]:
    """Bring the last ``fade`` of ``total`` samples down to silence."""
    first = 0
    for block in blocks:
        left = total - np.arange(first, first + len(block))
        first += len(block)
        if fade and len(block) and left[-1] <= fade:
            block = np.rint(block * np.minimum(left / fade, 1.0)[:, None]).astype("<i2")
        yield block


def resample(audio: Audio, rate: int) -> Audio:
    """Change the sample rate by a polyphase filter (Kaiser window, about 85 dB down)."""
    if rate == audio.rate or not len(audio.samples):
        return Audio(audio.samples, rate)
    ratio = Fraction(rate, audio.rate)
    samples = signal.resample_poly(
        audio.samples, ratio.numerator, ratio.denominator, axis=0, window=("kaiser", 8.6)
    )
    return Audio(np.ascontiguousarray(samples, dtype=np.float32), rate)


def loudness(samples: F32, rate: int) -> Loudness:
    """Measure by ffmpeg's ebur128 (ITU-R BS.1770-4).

    Mono counts as it sounds when both loudspeakers play it.

    Args:
        samples: float32 [n, channels].
        rate: samples a second.
    """
    channels = samples.shape[1]
    command = [ffmpeg_binary(), "-hide_banner", "-nostats", "-loglevel", "info"]
    command += ["-f", "f32le", "-ar", str(rate), "-ac", str(channels), "-i", "pipe:0"]
    command += ["-filter:a", "ebur128=peak=true:framelog=quiet:dualmono=true"]
    command += ["-f", "null", "-"]
    raw = np.ascontiguousarray(samples, "<f4").reshape(-1).view(np.uint8).data  # no copy
    done = subprocess.run(command, input=raw, capture_output=True, check=False)
    if done.returncode:
        raise failure("measuring the loudness of", Path("a sound"), done.returncode, done.stderr)
    said = done.stderr.decode(errors="replace")
    return Loudness(_last_number(said, "I"), _last_number(said, "Peak"))


def loudness_lufs(samples: F32, rate: int) -> float:
    """Integrated loudness in LUFS; see ``loudness``."""
    return loudness(samples, rate).lufs


def true_peak_dbtp(samples: F32, rate: int) -> float:
    """True peak in dBTP; see ``loudness``."""
    return loudness(samples, rate).true_peak_dbtp


def _last_number(said: str, name: str) -> float:
    found = re.findall(rf"^\s*{name}:\s+(-?[\d.]+|-?inf)\s", said, flags=re.MULTILINE)
    if not found:
        raise Bug(f"ffmpeg's loudness summary has no {name}: {said[-500:]}")
    return float(found[-1])


def normalise_loudness(samples: F32, rate: int, target_lufs: float, peak_dbtp: float) -> F32:
    """Bring a sound to a loudness without letting its true peak pass a ceiling.

    Peaks are limited by up to 6 dB; a sound that would need more stays quieter than the target.
    What is too short or silent to be measured is only held under the ceiling.

    Args:
        samples: float32 [n, channels].
        rate: samples a second.
        target_lufs: such as -16.
        peak_dbtp: such as -1.5.

    Returns:
        Float32 [n, channels].
    """
    before = loudness(samples, rate)
    if before.lufs <= UNMEASURABLE_LUFS:
        return limit_peaks(samples, rate, peak_dbtp)
    most = peak_dbtp - before.true_peak_dbtp + _DEEPEST_LIMITING_DB
    gain = min(target_lufs - before.lufs, most)
    result = limit_peaks(_amplified(samples, gain), rate, peak_dbtp)
    # Limiting takes some loudness away; one correction brings it back to a few tenths.
    missing = target_lufs - loudness_lufs(result, rate)
    if missing > 0.1 and gain < most:
        gain = min(gain + missing, most)
        result = limit_peaks(_amplified(samples, gain), rate, peak_dbtp)
    return result


def limit_peaks(samples: F32, rate: int, peak_dbtp: float) -> F32:
    """Hold a sound's true peak under a ceiling with a look-ahead limiter.

    The gain that each moment needs (from a four times oversampled peak) is taken at its minimum
    over a window and smoothed over the same window, so it is down before the peak comes and never
    above what is needed. All channels get the same gain, so the stereo picture stays.

    Args:
        samples: float32 [n, channels].
        rate: samples a second.
        peak_dbtp: the ceiling.
    """
    if not len(samples):
        return samples
    ceiling = 10.0 ** ((peak_dbtp - 0.1) / 20.0)
    peak = _true_peak_envelope(samples)
    if peak.max() <= ceiling:
        return samples
    needed = np.divide(ceiling, np.maximum(peak, ceiling, out=peak), out=peak)
    window = 2 * round(_LIMITER_WINDOW_S * rate / 2) + 1
    held = ndimage.minimum_filter1d(needed, window, mode="nearest")
    hann = np.hanning(window + 2)[1:-1]
    gain = ndimage.convolve1d(held, hann / hann.sum(), output=needed, mode="nearest")
    limited = np.empty(samples.shape, np.float32)
    for first in range(0, len(samples), _BLOCK):
        block = slice(first, first + _BLOCK)
        limited[block] = samples[block] * gain[block, None]
    return limited


def _true_peak_envelope(samples: F32) -> npt.NDArray[np.float64]:
    """Largest magnitude of all channels around each sample, between samples included."""
    count, margin = len(samples), 16  # the filter between samples reaches ten to each side
    loudest = np.empty(count, np.float64)
    for first in range(0, count, _BLOCK):
        stop, begin = min(first + _BLOCK, count), max(first - margin, 0)
        part = samples[begin : min(stop + margin, count)]
        between = signal.resample_poly(part, _OVERSAMPLING, 1, axis=0)
        inner = slice((first - begin) * _OVERSAMPLING, (stop - begin) * _OVERSAMPLING)
        peaks = np.abs(between[inner]).max(axis=1).reshape(-1, _OVERSAMPLING)
        loudest[first:stop] = peaks.max(axis=1)
    return np.asarray(ndimage.maximum_filter1d(loudest, 3, mode="nearest"), dtype=np.float64)


def _amplified(samples: F32, gain_db: float) -> F32:
    return np.asarray(samples * np.float32(10.0 ** (gain_db / 20.0)), dtype=np.float32)


def mix_voice_over_bed(
    voice: Audio,
    bed: Audio | None,
    at_s: float,
    duration_s: float,
    *,
    duck_db: float = 12.0,
    attack_s: float = 0.25,
    release_s: float = 0.6,
    peak_dbtp: float = -1.0,
) -> Audio:
    """Lay a voice over a bed that steps back while the voice speaks.

    A bed that is too short is looped with a cross-fade, one that is too long is faded out at the
    end.

    Args:
        voice: mono or stereo.
        bed: music or room tone at any rate; None for the voice alone.
        at_s: when the voice begins.
        duration_s: length of the result.
        duck_db: how much the bed steps back.
        attack_s: how long before speech the bed starts to step back.
        release_s: how long after speech it takes to come back.
        peak_dbtp: ceiling of the result.

    Returns:
        Stereo at the voice's rate, exactly ``round(duration_s * rate)`` samples.

    Raises:
        Bug: the voice would be cut off at the end.
    """
    rate, total = voice.rate, round(duration_s * voice.rate)
    start = round(at_s * rate)
    end = start + len(voice.samples)
    if start < 0 or end > total + _END_TOLERANCE_S * rate:
        raise Bug(
            f"a voice of {voice.duration_s:.2f} s from {at_s:.2f} s on does not fit into "
            f"{duration_s:.2f} s: place it before mixing"
        )
    spoken = np.zeros((total, 2), np.float32)
    spoken[start:end] = _stereo(voice.samples)[: total - start]
    if bed is not None and len(bed.samples):
        under = _fitted(_stereo(resample(bed, rate).samples), total, rate)
        points = _ducking(spoken, rate, duck_db, attack_s, release_s)
        for first in range(0, total, _BLOCK):
            times = np.arange(first, min(first + _BLOCK, total)) / rate
            gain = (10.0 ** (_gain_at(times, points) / 20.0)).astype(np.float32)
            spoken[first : first + _BLOCK] += under[first : first + _BLOCK] * gain[:, None]
    return Audio(limit_peaks(spoken, rate, peak_dbtp), rate)


def _stereo(samples: F32) -> F32:
    if samples.shape[1] == 1:
        return np.repeat(samples, 2, axis=1)
    return samples[:, :2]


def _fitted(bed: F32, total: int, rate: int) -> F32:
    """Loop or trim a bed to a length in samples."""
    fade = min(round(_LOOP_CROSSFADE_S * rate), len(bed) // 2)
    out = np.zeros((total, bed.shape[1]), np.float32)
    filled = min(len(bed), total)
    out[:filled] = bed[:filled]
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)[:, None]
    while filled < total and fade:
        joint = bed[-fade:] * np.sqrt(1 - ramp) + bed[:fade] * np.sqrt(ramp)
        out[filled - fade : filled] = joint
        more = bed[fade : fade + total - filled]
        out[filled : filled + len(more)] = more
        filled += len(more)
    length = len(bed)
    while length < total and fade:
        length = 2 * length - fade  # as if what there is were doubled until it is long enough
    fade = min(round(_TRIM_FADE_S * rate), total)
    if length - total > fade // 4 and fade:
        out[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)[:, None]
    return out


def _ducking(
    spoken: F32, rate: int, duck_db: float, attack_s: float, release_s: float
) -> list[tuple[float, float]]:
    """The bed's gain: down where there is speech, pauses shorter than a breath kept.

    Returns:
        Corner points of the gain: seconds and decibels; straight lines in decibels sound even.
    """
    hop = max(1, rate // 100)
    blocks = spoken[: len(spoken) // hop * hop].mean(axis=1).reshape(-1, hop)
    level = np.sqrt((blocks.astype(np.float64) ** 2).mean(axis=1)) if len(blocks) else np.zeros(1)
    speech = level > max(level.max() * 10.0 ** (-35 / 20), 1e-5)
    bridge = max(1, round(0.5 * rate / hop))
    speech = ndimage.binary_closing(np.pad(speech, bridge), np.ones(bridge))[bridge:-bridge]
    times = np.flatnonzero(np.diff(np.concatenate([[0], speech.astype(np.int8), [0]]))) * hop / rate
    points: list[tuple[float, float]] = [(0.0, 0.0)]
    for begin, stop in times.reshape(-1, 2):
        opening = max(begin - attack_s, 0.0)
        back = float(_gain_at(np.array([opening]), points)[0])
        points = [point for point in points if point[0] < opening]
        points += [(opening, back), (max(begin, 1e-6), -duck_db)]
        points += [(stop, -duck_db), (stop + release_s, 0.0)]
    return points


def _gain_at(
    times: npt.NDArray[np.float64], points: list[tuple[float, float]]
) -> npt.NDArray[np.float64]:
    corners = np.array(points, dtype=np.float64)
    return np.interp(times, corners[:, 0], corners[:, 1])
