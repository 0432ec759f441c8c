"""What the limited child does with a stranger's file: facts and samples, through PyAV and Pillow.

Runs inside ``include.media.child`` only. Everything here may crash, hang or be taken over by the
file; the parent treats its answer accordingly.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np

from include.media import limits
from include.media.child import Refusal

Answer = tuple[dict[str, Any], Any]

_PRIMARIES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020"} | {
    11: "smpte431",
    12: "smpte432",
}
_TRANSFERS = {1: "bt709", 6: "smpte170m", 7: "smpte240m", 8: "linear", 13: "srgb"} | {
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}
_MATRICES = {0: "rgb", 1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
_RANGES = {1: "tv", 2: "pc"}
_ENCRYPTED = ("ENCRYPTION_INIT_INFO", "ENCRYPTION_INFO")


def _open(path: str, container_format: str) -> Any:
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": container_format,
        "codec_whitelist": limits.DECODERS,
        "probesize": "5000000",
        "analyzeduration": "5000000",
        "max_streams": "100",
    }
    try:
        # Tags in another encoding than UTF-8 are common and none of our business.
        return av.open(
            f"file:{path}", format=container_format, options=options, metadata_errors="replace"
        )
    except (av.FFmpegError, ValueError) as error:
        raise Refusal(
            "media.unreadable", f"it cannot be opened ({error}): export it again"
        ) from error


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _check_streams(container: Any, most: int) -> None:
    if len(container.streams) > most:
        raise Refusal(
            "media.too_many_streams",
            f"it has {len(container.streams)} streams, at most {most} are accepted: "
            "export it with one video and one audio stream",
            unsafe=True,
        )


def probe_video(container_format: str, path: str) -> Answer:
    """Open, look at the first frame, and walk all packets without decoding them."""
    with _open(path, container_format) as container:
        _check_streams(container, limits.VIDEO.max_streams)
        videos = [s for s in container.streams.video if not _is_cover(s)]
        if len(videos) != 1:
            code = "video.no_video_stream" if not videos else "video.several_streams"
            raise Refusal(code, f"it has {len(videos)} video streams, wanted one: export it again")
        stream = videos[0]
        facts = _codec_facts(stream)
        facts |= _audio_of_video(container)
        facts |= _first_frame(container, stream)
        container.seek(0)
        facts |= _timing(container, stream)
    return facts, b""


def _codec_facts(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in limits.VIDEO_CODECS:
        name = "unknown" if context is None else context.codec.canonical_name
        raise Refusal(
            "video.codec", f"its codec {name} is not accepted: export it as H.264", unsafe=True
        )
    width, height = context.width, context.height
    bounds = limits.VIDEO
    if width * height > bounds.max_pixels or max(width, height) > bounds.max_side:
        raise Refusal(
            "video.too_large",
            f"it is {width}x{height}, at most {bounds.max_side} a side and {bounds.max_pixels} "
            "pixels are accepted: export it smaller",
            unsafe=True,
        )
    if min(width, height) < bounds.min_side:
        raise Refusal(
            "video.too_small",
            f"it is {width}x{height}, at least {bounds.min_side} a side is needed: "
            "export it larger",
        )
    return {"codec": context.codec.canonical_name}


def _audio_of_video(container: Any) -> dict[str, Any]:
    for stream in container.streams.audio:
        context = stream.codec_context
        if context is not None and context.codec.canonical_name in limits.AUDIO_CODECS:
            return {
                "has_audio": True,
                "audio_index": stream.index,
                "audio_codec": context.codec.canonical_name,
                "audio_rate": context.sample_rate,
                "audio_channels": context.layout.nb_channels,
            }
    if container.streams.audio:
        raise Refusal(
            "audio.codec", "its sound is in a codec that is not accepted: export it with AAC"
        )
    return {
        "has_audio": False,
        "audio_index": None,
        "audio_codec": None,
        "audio_rate": None,
        "audio_channels": None,
    }


def _first_frame(container: Any, stream: Any) -> dict[str, Any]:
    try:
        frame = next(iter(container.decode(stream)), None)
    except av.FFmpegError as error:
        raise Refusal(
            "media.undecodable", f"its first frame cannot be decoded ({error}): export it again"
        ) from error
    if frame is None:
        raise Refusal("video.too_short", "it has no frame: export it again")
    if any(kind in str(data.type) for data in frame.side_data for kind in _ENCRYPTED):
        raise Refusal(
            "media.encrypted", "it is encrypted: export it without protection", unsafe=True
        )
    rotation = round(frame.rotation) % 360
    if rotation % 90:
        raise Refusal("video.rotation", f"it is rotated by {rotation} degrees: export it upright")
    if _is_mirrored(frame):
        raise Refusal("video.rotation", "a flag in it mirrors the picture: export it upright")
    swapped = rotation in (90, 270)
    # As players do: the container's word counts, and the codec's only where it has none.
    sar = stream.sample_aspect_ratio or Fraction(1)
    return {
        "pix_fmt": frame.format.name,
        "coded_width": frame.width,
        "coded_height": frame.height,
        "width": frame.height if swapped else frame.width,
        "height": frame.width if swapped else frame.height,
        "rotation": rotation,
        "sample_aspect_ratio": str(sar if sar > 0 else Fraction(1)),
        "interlaced": bool(frame.interlaced_frame),
        "primaries": _PRIMARIES.get(int(frame.color_primaries)),
        "transfer": _TRANSFERS.get(int(frame.color_trc)),
        "matrix": _MATRICES.get(int(frame.colorspace)),
        "color_range": _RANGES.get(int(frame.color_range)),
        "stream_index": stream.index,
    }


def _is_mirrored(frame: Any) -> bool:
    """Whether a display matrix turns the picture over: its angle alone would mislead."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
    return a * d - b * c < 0


def _timing(container: Any, stream: Any) -> dict[str, Any]:
    """Count packets and read their times; headers may lie about both."""
    times, last = _packet_times(container, stream)
    base = Fraction(stream.time_base)
    steps = np.diff(np.array(times, dtype=np.int64))
    span = Fraction(int(times[-1] - times[0])) * base
    median = float(np.median(steps))
    # Containers round times to a tick (a whole millisecond in Matroska); that is no variation.
    alike = np.abs(steps - median) <= max(1.01, 0.1 * median)
    varying = not alike.all()
    fps = usual = (len(times) - 1) / span
    if 2 * alike.sum() > len(steps):
        # The mean of those alike: each of them is rounded to a tick.
        usual = Fraction(int(alike.sum()), int(steps[alike].sum())) / base
    declared = Fraction(stream.average_rate or 0)
    if not varying and abs(declared - fps) < fps / 200:
        fps = declared  # measured through rounded times, it is only nearly right
    return {
        "frames": len(times),
        "vfr": varying,
        "fps": str(fps.limit_denominator(100_000)),
        "usual_fps": str(usual.limit_denominator(100_000)),
        "duration_s": float(span + (Fraction(last) * base if last else 1 / fps)),
        "tick_s": float(base),
    }


def _packet_times(container: Any, stream: Any) -> tuple[list[int], int]:
    """When each frame is shown, ascending, and how long the last packet says it is; in ticks."""
    most = limits.VIDEO.max_fps * int(limits.VIDEO.max_duration_s) * 2
    times: list[int] = []
    last = 0
    try:
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            times.append(packet.pts)
            last = packet.duration or last
            if len(times) > most:
                raise Refusal(
                    "video.too_long", f"it has over {most} frames: cut it shorter", unsafe=True
                )
    except av.FFmpegError as error:
        raise Refusal("media.truncated", f"it breaks off ({error}): upload it again") from error
    times = sorted(set(times))
    if len(times) < limits.VIDEO.min_frames:
        raise Refusal(
            "video.too_short",
            f"it has {len(times)} frame(s), at least {limits.VIDEO.min_frames} are needed: "
            "use a longer clip",
        )
    return times, last


def probe_audio(container_format: str, path: str) -> Answer:
    """Open and walk all packets of the first audio stream."""
    with _open(path, container_format) as container:
        stream = _audio_stream(container)
        context = stream.codec_context
        end = Fraction(0)
        start: Fraction | None = None
        try:
            for packet in container.demux(stream):
                if packet.pts is None:
                    continue
                time = Fraction(packet.pts) * packet.time_base
                start = time if start is None else min(start, time)
                end = max(end, time + Fraction(packet.duration or 0) * packet.time_base)
        except av.FFmpegError as error:
            raise Refusal("media.truncated", f"it breaks off ({error}): upload it again") from error
        return {
            "codec": context.codec.canonical_name,
            "rate": context.sample_rate,
            "channels": context.layout.nb_channels,
            "duration_s": float(end - (start or 0)),
        }, b""


def _audio_stream(container: Any) -> Any:
    _check_streams(container, limits.AUDIO.max_streams)
    if not container.streams.audio:
        raise Refusal("audio.no_audio_stream", "it has no sound: use a sound file")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in limits.AUDIO_CODECS:
        raise Refusal("audio.codec", "its codec is not accepted: export it as WAV", unsafe=True)
    bounds = limits.AUDIO
    rate, channels = context.sample_rate, context.layout.nb_channels
    if not (bounds.min_rate <= rate <= bounds.max_rate and 1 <= channels <= bounds.max_channels):
        raise Refusal(
            "audio.format",
            f"it has {channels} channels at {rate} Hz, accepted are 1 to {bounds.max_channels} "
            f"at {bounds.min_rate} to {bounds.max_rate} Hz: export it as 48 kHz WAV",
        )
    return stream


def decode_audio(container_format: str, path: str) -> Answer:
    """Decode the first audio stream to interleaved float32 at its own rate.

    More than two channels are mixed down to two, by the weights of ITU-R BS.775.
    """
    with _open(path, container_format) as container:
        stream = _audio_stream(container)
        rate = stream.codec_context.sample_rate
        channels = stream.codec_context.layout.nb_channels
        codec = stream.codec_context.codec.canonical_name
        most = int(limits.AUDIO.max_duration_s * rate)
        surround = channels > 2
        # Mixing to whole numbers keeps the sum of all channels under full scale; to float does not.
        form, layout = ("s16", "stereo") if surround else ("flt", stream.codec_context.layout)
        resampler = av.AudioResampler(format=form, layout=layout, rate=rate)
        kept = 2 if surround else channels
        blocks: list[Any] = []
        count = 0
        try:
            for frame in _with_flush(container.decode(stream)):
                for block in resampler.resample(frame):
                    blocks.append(block.to_ndarray().reshape(-1, kept))
                    count += len(blocks[-1])
                if count > most:
                    raise Refusal(
                        "audio.too_long",
                        f"it is longer than {limits.AUDIO.max_duration_s:.0f} s: cut it shorter",
                    )
        except av.FFmpegError as error:
            raise Refusal(
                "media.undecodable", f"it cannot be decoded ({error}): export it again"
            ) from error
    if not count:
        raise Refusal("audio.too_short", "it has no samples: use another file")
    samples = np.ascontiguousarray(np.concatenate(blocks), dtype="<f4")
    if surround:
        samples /= 32768
    facts = {"codec": codec, "rate": rate, "channels": kept, "samples": count}
    facts["source_channels"] = channels
    return facts, samples.data


def _with_flush(frames: Any) -> Any:
    yield from frames
    yield None


def probe_image(image_format: str, path: str) -> Answer:
    """Read the header, then prove that all of it decodes."""
    image = _load_image(image_format, path)
    answer = {"width": image.width, "height": image.height, "mode": image.mode}
    return answer | {"codec": image_format.lower()}, b""


def decode_image(image_format: str, path: str) -> Answer:
    """Decode to 8-bit sRGB, upright, alpha over white."""
    rgb = np.ascontiguousarray(_load_image(image_format, path))
    height, width = rgb.shape[:2]
    return {"width": width, "height": height}, rgb.data


def _load_image(image_format: str, path: str) -> Any:
    from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    # Our own limit comes first; Pillow's would only warn below twice its value.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path, formats=[image_format]) as image:
            if image.width * image.height > limits.IMAGE.max_pixels:
                raise Refusal(
                    "image.too_large", "it has too many pixels: make it smaller", unsafe=True
                )
            image.load()
            return _over_white(_to_srgb(ImageOps.exif_transpose(image)))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        code = "media.truncated" if "truncated" in str(error) else "media.undecodable"
        raise Refusal(code, f"it cannot be decoded ({error}): export it again") from error


def _to_srgb(image: Any) -> Any:
    """Convert an embedded RGB profile to sRGB; a broken profile is ignored."""
    import io

    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode=image.mode
        )
    except (ImageCms.PyCMSError, OSError):
        return image
    return converted or image


def _over_white(image: Any) -> Any:
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # 16-bit grey: Pillow's own conversion clips instead of scaling.
        grey = np.asarray(image, dtype=np.float32) / 257.0
        image = Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layer)
    return image.convert("RGB")


VERBS: dict[tuple[str, str], Callable[[str, str], Answer]] = {
    ("probe", "video"): probe_video,
    ("probe", "audio"): probe_audio,
    ("probe", "image"): probe_image,
    ("decode", "audio"): decode_audio,
    ("decode", "image"): decode_image,
}
