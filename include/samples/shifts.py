"""Changes that media go through unannounced: what drift looks like, made on purpose.

Each takes a real photo, sound or video and returns it as another camera, editor or encoder would
have made it; small ones, several at a time, are what sets honest photos apart. Tests and benchmarks
of features and drift use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from include.media.audio import F32
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary, run_ffmpeg

Image = NDArray[np.uint8]


def hue(rgb: Image, degrees: float) -> Image:
    """Turn all hues of uint8 RGB [h, w, 3]."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
    turned = (hsv[..., 0].astype(np.int32) + round(degrees / 2)) % 180
    hsv[..., 0] = turned.astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def white_balance(rgb: Image, warmer: float) -> Image:
    """Make uint8 RGB [h, w, 3] warmer: red times ``1 + warmer``, blue divided by it."""
    gains = np.array([1 + warmer, 1.0, 1 / (1 + warmer)], np.float32)
    return np.asarray(np.clip(np.rint(rgb * gains), 0, 255), np.uint8)


def exposure(rgb: Image, gain: float) -> Image:
    """Make uint8 RGB [h, w, 3] brighter or darker by a factor."""
    return np.asarray(np.clip(np.rint(rgb * np.float32(gain)), 0, 255), np.uint8)


def blurred(rgb: Image, sigma: float) -> Image:
    """Take uint8 RGB [h, w, 3] out of focus; ``sigma`` in pixels."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma), np.uint8)


def noisy(rgb: Image, sigma: float, seed: int = 0) -> Image:
    """Add a sensor's noise to uint8 RGB [h, w, 3]; ``sigma`` in code values."""
    grain = np.random.default_rng(seed).normal(0, sigma, rgb.shape)
    return np.asarray(np.clip(np.rint(rgb + grain), 0, 255), np.uint8)


def wider(rgb: Image, factor: float) -> Image:
    """Stretch uint8 RGB [h, w, 3] to the side."""
    size = (round(rgb.shape[1] * factor), rgb.shape[0])
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def farther(rgb: Image, factor: float) -> Image:
    """Show uint8 RGB [h, w, 3] from farther away: smaller by a factor, its border mirrored."""
    height, width = rgb.shape[:2]
    small = cv2.resize(rgb, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    bottom, right = height - small.shape[0] - top, width - small.shape[1] - left
    border = cv2.copyMakeBorder(small, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return np.asarray(border, np.uint8)


def honest_photo(rgb: Image, rng: np.random.Generator) -> Image:
    """The same person as another phone, room and hand would have taken them."""
    out = exposure(rgb, float(rng.normal(1.0, 0.08)))
    out = white_balance(out, float(rng.normal(0.0, 0.04)))
    out = farther(out, float(rng.uniform(1.0, 1.3)))
    out = wider(out, float(rng.normal(1.0, 0.015)))
    out = blurred(out, float(rng.uniform(0.2, 0.9)))
    out = noisy(out, float(rng.uniform(0.3, 2.5)), int(rng.integers(1 << 30)))
    factor = float(rng.uniform(0.7, 1.2))
    return np.asarray(cv2.resize(out, None, fx=factor, fy=factor), np.uint8)


def taken_again(jpeg: bytes, rng: np.random.Generator) -> bytes:
    """An honest photo of who is in a photo, JPEG in and out, of quality 78 to 95."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    rgb = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    taken = cv2.cvtColor(honest_photo(rgb, rng), cv2.COLOR_RGB2BGR)
    level = int(rng.integers(78, 96))
    return cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, level])[1].tobytes()


def write_jpeg(path: Path, rgb: Image, quality: int) -> Path:
    """Write uint8 RGB [h, w, 3] as a JPEG of any quality, 1 to 100."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    path.write_bytes(data.tobytes())
    return path


def louder(samples: F32, decibels: float) -> F32:
    """Amplify float32 [n, channels], clipped at full scale as a converter does."""
    gain = np.float32(10 ** (decibels / 20))
    return np.asarray(np.clip(samples * gain, -1, 1), np.float32)


VIDEO_SHIFTS: dict[str, tuple[str, ...]] = {
    "hue": ("-vf", "hue=h=40"),
    "white_balance": ("-vf", "colortemperature=temperature=3800"),
    "exposure": ("-vf", "eq=brightness=-0.12"),
    "saturation": ("-vf", "eq=saturation=1.8"),
    "aspect_ratio": ("-vf", "scale=iw*3/4:ih,setsar=1"),
    "letterbox": ("-vf", "pad=iw:ih+96:0:48:black"),
    "blur": ("-vf", "gblur=sigma=3"),
    "noise": ("-vf", "noise=alls=18:allf=t:all_seed=1", "-crf", "12"),
    "fps": ("-r", "12"),
    "codec": ("-c:v", "libvpx-vp9", "-b:v", "2M", "-cpu-used", "8", "-f", "matroska"),
    "compression": ("-crf", "40"),
    "pixel_format": ("-pix_fmt", "yuv444p"),
    "colour_range": ("-vf", "scale=out_range=full", "-color_range", "pc"),
    "loudness": ("-filter:a", "volume=-14dB"),
    "clipping": ("-filter:a", "volume=18dB,alimiter=level=disabled:limit=1,volume=6dB"),
    "sample_rate": ("-ar", "22050"),
    "silent": ("-an",),
    "face_size": ("-vf", "crop=iw*3/4:ih*3/4,scale=2*trunc(iw*2/3):-2"),
}
"""What is done to a video, as ffmpeg's output options, by name."""


def shift_video(source: Path, out: Path, name: str) -> Path:
    """Make one of ``VIDEO_SHIFTS`` of a video.

    Args:
        source: a video of ours.
        out: where to write it.
        name: which shift.

    Raises:
        Bug: ffmpeg failed.
    """
    return export_video(source, out, VIDEO_SHIFTS[name])


def export_video(source: Path, out: Path, options: Sequence[str]) -> Path:
    """Encode a video of ours as an editor would, with some of ffmpeg's output options changed.

    Args:
        source: the video.
        out: where to write it.
        options: over H.264 at a high quality, BT.709 and AAC.

    Raises:
        Bug: ffmpeg failed.
    """
    common = ("-map_metadata", "-1", "-c:v", "libx264", "-preset", "veryfast", "-crf", "16")
    picture = ("-pix_fmt", "yuv420p", "-colorspace", "bt709", "-color_primaries", "bt709")
    command = [ffmpeg_binary(), *GLOBAL_ARGUMENTS, "-i", str(source), *common, *picture]
    command += ["-color_trc", "bt709", "-c:a", "aac", "-threads", "1", *options]
    run_ffmpeg([*command, str(out)], "exporting", source)
    return out
