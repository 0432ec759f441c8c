from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from include.errors import BadMedia, Bug, StoreUnavailable
from include.media import audio as audio_module
from include.media.audio import (
    Audio,
    cut_wav,
    limit_peaks,
    loudness,
    loudness_lufs,
    mix_voice_over_bed,
    normalise_loudness,
    read_audio,
    read_own_wav,
    read_recording,
    resample,
    true_peak_dbtp,
    write_wav,
)

Make = Callable[..., Path]
RATE = 48_000


def tone(hertz: float, seconds: float, level: float = 0.25, rate: int = RATE) -> Audio:
    time = np.arange(round(seconds * rate)) / rate
    return Audio((level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)[:, None], rate)


def speech_like(seconds: float, level: float = 0.05, seed: int = 1) -> Audio:
    """Noise in syllables, a few of them much louder: what a peaky voice is to a limiter."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE)
    syllables = np.repeat(rng.uniform(0.2, 1.0, count // 4800 + 1), 4800)[:count]
    samples = rng.laplace(0, level, count) * syllables
    return Audio(samples.astype(np.float32)[:, None], RATE)


@pytest.mark.parametrize("channels", [1, 2])
def test_wav_round_trip_is_exact_to_sixteen_bits(tmp_path: Path, channels: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (5000, channels)).astype(np.float32)
    write_wav(tmp_path / "a.wav", Audio(samples, 22_050))
    back = read_audio(tmp_path / "a.wav")
    assert back.rate == 22_050
    assert back.samples.dtype == np.float32
    assert back.samples.shape == samples.shape
    assert np.abs(back.samples - samples).max() < 1 / 16_000


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("a.mp3", ("-c:a", "libmp3lame", "-b:a", "192k")),
        ("a.flac", ()),
        ("a.m4a", ("-c:a", "aac", "-b:a", "192k")),
        ("a.ogg", ("-c:a", "libopus", "-b:a", "128k")),
        ("a.wav", ("-c:a", "pcm_s24le")),
        ("b.wav", ("-c:a", "pcm_f32le")),
    ],
)
def test_usual_formats_are_read(make: Make, name: str, arguments: tuple[str, ...]) -> None:
    path = make(name, "-f", "lavfi", "-i", "sine=1000:r=48000:d=1", "-ac", "2", *arguments)
    sound = read_audio(path)
    assert sound.rate == RATE
    assert sound.samples.shape[1] == 2
    assert sound.duration_s == pytest.approx(1.0, abs=0.06)
    spectrum = np.abs(np.fft.rfft(sound.samples[:40_000, 0]))
    assert np.argmax(spectrum) * RATE / 40_000 == pytest.approx(1000, abs=2)


def test_a_videos_sound_is_read(clip: Path) -> None:
    sound = read_audio(clip)
    assert sound.rate == 44_100
    assert sound.duration_s == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.m4a", "plain.wav"])
def test_what_only_the_middle_speaker_plays_is_heard(tmp_path: Path, make: Make, name: str) -> None:
    tones = "aevalsrc=0.1*sin(600*t)|0|0.4*sin(6283*t)|0|0|0.1*sin(900*t):c=5.1:s=48000:d=1"
    path = make(name, "-f", "lavfi", "-i", tones, *(["-c:a", "aac"] if "m4a" in name else []))
    if name == "plain.wav":  # channels without a name, as some tools write them
        raw = np.random.default_rng(1).normal(0, 0.1, (RATE, 6)).astype(np.float32) * 0
        raw[:, 2] = tone(1000, 1.0, 0.4).samples[:, 0]
        path = tmp_path / name
        write_wav(path, Audio(raw, RATE))
    sound, facts = read_recording(path)
    assert facts.channels == 6
    assert sound.samples.shape[1] == 2
    for channel in sound.samples[4000:44_000].T:
        spectrum = np.abs(np.fft.rfft(channel))
        assert np.argmax(spectrum) * RATE / 40_000 == pytest.approx(1000, abs=2)
    assert 0.05 < np.abs(sound.samples).max() < 0.5


def test_a_sound_is_cut_to_a_length_and_fades_out(tmp_path: Path) -> None:
    long = np.concatenate([tone(440, 7.0).samples, tone(660, 7.0).samples], axis=1)
    write_wav(tmp_path / "a.wav", Audio(long, RATE))
    whole = read_own_wav(tmp_path / "a.wav").samples
    assert cut_wav(tmp_path / "a.wav", tmp_path / "b.wav", 14.0) == tmp_path / "a.wav"
    assert not (tmp_path / "b.wav").exists()
    short = read_own_wav(cut_wav(tmp_path / "a.wav", tmp_path / "b.wav", 6.5)).samples
    assert len(short) == 6.5 * RATE
    faded = round(0.4 * RATE)
    assert (short[:-faded] == whole[: len(short) - faded]).all()
    assert np.abs(short[-100:]).max() < 0.01
    assert np.abs(short[-faded // 2 :]).max() < 0.6 * np.abs(whole).max()


def test_an_encoders_padding_is_cut_off_without_a_fade(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(440, 2.05))
    whole = read_own_wav(tmp_path / "a.wav").samples
    short = read_own_wav(cut_wav(tmp_path / "a.wav", tmp_path / "b.wav", 2.0)).samples
    assert (short == whole[: 2 * RATE]).all()


def test_broken_sounds_are_refused(tmp_path: Path, make: Make) -> None:
    flac = make("x.flac", "-f", "lavfi", "-i", "anoisesrc=r=48000:d=1:seed=1")
    data = bytearray(flac.read_bytes())
    data[5000:9000] = np.random.default_rng(1).bytes(4000)
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    (tmp_path / "text.wav").write_text("hello")
    for file, codes in [
        (path, {"media.undecodable"}),
        (tmp_path / "text.wav", {"media.magic"}),
    ]:
        with pytest.raises(BadMedia) as caught:
            read_audio(file)
        assert caught.value.code in codes
        assert str(file) in caught.value.message


def test_numbers_that_are_none_do_not_get_in(tmp_path: Path, make: Make) -> None:
    wav = make("f.wav", "-f", "lavfi", "-i", "sine=440:d=0.5", "-c:a", "pcm_f32le")
    data = bytearray(wav.read_bytes())
    data[-4000:] = np.full(1000, np.nan, np.float32).tobytes()
    (tmp_path / "a.wav").write_bytes(data)
    assert np.isfinite(read_audio(tmp_path / "a.wav").samples).all()


@pytest.mark.parametrize(
    ("before", "after"), [(16_000, 48_000), (44_100, 48_000), (48_000, 16_000)]
)
def test_resampling_keeps_pitch_level_and_length(before: int, after: int) -> None:
    low = resample(tone(1000, 1.0, rate=before), after)
    assert low.rate == after
    assert len(low.samples) == after
    expected = tone(1000, 1.0, rate=after).samples
    assert np.abs(low.samples - expected)[2000:-2000].max() < 2e-3


def test_resampling_down_lets_no_alias_through() -> None:
    high = resample(tone(15_000, 1.0), 16_000)
    assert np.abs(high.samples[1000:-1000]).max() < 0.25 * 10 ** (-60 / 20)


def test_loudness_is_that_of_the_standard() -> None:
    # EBU Tech 3341, case 1: a stereo 1 kHz sine at -23 dBFS is -23 LUFS.
    stereo = np.repeat(tone(1000, 5.0, level=10 ** (-23 / 20)).samples, 2, axis=1)
    measured = loudness(stereo, RATE)
    assert measured.lufs == pytest.approx(-23.0, abs=0.1)
    assert measured.true_peak_dbtp == pytest.approx(-23.0, abs=0.2)
    assert loudness_lufs(stereo[:, :1], RATE) == pytest.approx(-23.0, abs=0.1)


def test_silence_has_no_loudness() -> None:
    silent = np.zeros((RATE, 1), np.float32)
    assert loudness_lufs(silent, RATE) == audio_module.UNMEASURABLE_LUFS
    assert np.array_equal(normalise_loudness(silent, RATE, -16, -1.5), silent)


@pytest.mark.parametrize("level", [0.003, 0.05, 0.3])
def test_loudness_is_normalised_under_the_ceiling(level: float) -> None:
    voice = speech_like(4.0, level)
    result = normalise_loudness(voice.samples, RATE, -18.0, -1.5)
    assert loudness_lufs(result, RATE) == pytest.approx(-18.0, abs=0.6)
    assert true_peak_dbtp(result, RATE) <= -1.4
    assert result.shape == voice.samples.shape


def test_what_is_too_short_to_measure_is_kept_under_the_ceiling() -> None:
    blip = tone(300, 0.1, level=1.5).samples
    assert true_peak_dbtp(normalise_loudness(blip, RATE, -16, -1.5), RATE) <= -1.4


def test_limiting_leaves_quiet_sound_alone_and_keeps_the_stereo_picture() -> None:
    quiet = tone(440, 0.5, level=0.2).samples
    assert limit_peaks(quiet, RATE, -1.0) is quiet
    loud = np.concatenate([tone(440, 0.5, 1.4).samples, tone(440, 0.5, 0.7).samples], axis=1)
    held = limit_peaks(loud, RATE, -1.0)
    assert true_peak_dbtp(held, RATE) <= -0.95
    assert np.allclose(held[:, 1], held[:, 0] / 2, atol=1e-4)


@pytest.mark.parametrize("at", [0.0, 0.5, 1.23456])
def test_the_voice_lands_on_its_sample(at: float) -> None:
    click = np.zeros((RATE // 10, 1), np.float32)
    click[0] = 0.5
    mixed = mix_voice_over_bed(Audio(click, RATE), None, at_s=at, duration_s=2.0)
    assert mixed.samples.shape == (2 * RATE, 2)
    assert np.flatnonzero(mixed.samples[:, 0]).tolist() == [round(at * RATE)]


@pytest.mark.parametrize("duration", [8.0, 7.96, 241 / 30, 200 * 1001 / 30000])
def test_a_mix_has_exactly_its_length(duration: float) -> None:
    bed = Audio(np.full((5 * 44_100, 2), 0.1, np.float32), 44_100)
    mixed = mix_voice_over_bed(tone(300, 1.0), bed, at_s=1.0, duration_s=duration)
    assert len(mixed.samples) == round(duration * RATE)


def test_the_bed_steps_back_for_the_voice_and_comes_back_gently() -> None:
    bed = Audio(tone(3000, 8.0, level=0.1).samples, RATE)
    mixed = mix_voice_over_bed(tone(200, 2.0, level=0.3), bed, at_s=3.0, duration_s=8.0)

    def bed_level(at: float) -> float:
        part = mixed.samples[round(at * RATE) : round((at + 0.1) * RATE), 0]
        window = np.hanning(len(part))
        return float(
            np.abs((part * window * np.exp(-2j * np.pi * 3000 * np.arange(len(part)) / RATE)).sum())
        )

    free = bed_level(1.0)
    assert bed_level(4.0) == pytest.approx(free * 10 ** (-12 / 20), rel=0.05)
    assert bed_level(7.0) == pytest.approx(free, rel=0.02)
    # Between free and ducked just after the voice: no jump.
    assert free * 0.27 < bed_level(5.2) < free * 0.9
    envelope = [bed_level(t) for t in np.arange(2.0, 6.5, 0.05)]
    steps = np.abs(np.diff(20 * np.log10(envelope)))
    assert steps.max() < 4.0


def test_a_short_bed_is_looped_without_a_gap() -> None:
    rng = np.random.default_rng(2)
    bed = Audio(rng.normal(0, 0.05, (2 * RATE, 2)).astype(np.float32), RATE)
    silence = Audio(np.zeros((100, 1), np.float32), RATE)
    mixed = mix_voice_over_bed(silence, bed, at_s=0.0, duration_s=7.0)
    blocks = mixed.samples[: 6 * RATE].reshape(-1, RATE // 20, 2).std(axis=(1, 2))
    assert blocks.min() > 0.03


def test_a_long_bed_fades_out_and_a_fitting_one_does_not() -> None:
    bed = Audio(np.full((4 * RATE, 2), 0.1, np.float32), RATE)
    silence = Audio(np.zeros((100, 1), np.float32), RATE)
    cut = mix_voice_over_bed(silence, bed, at_s=0.0, duration_s=2.0)
    whole = mix_voice_over_bed(silence, bed, at_s=0.0, duration_s=4.0)
    assert abs(cut.samples[-1, 0]) < 1e-3
    assert whole.samples[-1, 0] == pytest.approx(0.1, abs=1e-6)


def test_a_mix_never_clips() -> None:
    loud = Audio(np.repeat(tone(500, 3.0, 0.9).samples, 2, axis=1), RATE)
    mixed = mix_voice_over_bed(tone(500, 2.0, 0.9), loud, at_s=0.5, duration_s=3.0)
    assert true_peak_dbtp(mixed.samples, RATE) <= -0.9


def test_speech_is_never_cut_off_silently() -> None:
    with pytest.raises(Bug, match="does not fit"):
        mix_voice_over_bed(tone(300, 2.0), None, at_s=1.0, duration_s=2.5)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    monkeypatch.setattr(audio_module, "temporary_name", lambda _path: full)
    with pytest.raises(StoreUnavailable) as caught:
        write_wav(tmp_path / "a.wav", tone(440, 1.0))
    assert caught.value.code == "disk.full"
    assert list(tmp_path.iterdir()) == []
