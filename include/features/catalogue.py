"""The features of every kind of asset, as data.

Names, types and units are a contract: they are the columns of the feature files, what hard and
drift rules speak of, and what reports print. Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AssetKind = Literal["template", "photo", "audio", "render"]
FeatureType = Literal["number", "category", "flag"]


@dataclass(frozen=True)
class Feature:
    """One measured property of an asset; it can be unknown (null) wherever ``doc`` says so."""

    name: str
    kind: AssetKind
    type: FeatureType
    unit: str
    """``px``, ``s``, ``LUFS`` and the like; empty for what has none."""
    doc: str
    collected: bool = False
    """Not part of the cached artifact (null there): filled in when a run's rows are collected."""


_Line = tuple[str, FeatureType, str, str]

_PICTURE: tuple[_Line, ...] = (
    ("luma", "number", "code", "mean BT.709 luma, 0 to 255 full range"),
    ("contrast", "number", "code", "standard deviation of luma"),
    ("saturation", "number", "", "mean HSV saturation, 0 to 1"),
    (
        "colour_temperature",
        "number",
        "K",
        "correlated colour temperature of the mean chromaticity (McCamy), 1,667 to 25,000",
    ),
    ("tint", "number", "Lab", "mean a* of CIE Lab: below 0 greenish, above 0 magenta"),
    ("warmth", "number", "Lab", "mean b* of CIE Lab: below 0 bluish, above 0 yellowish"),
    ("blur", "number", "", "blur effect at 640 pixels of width (Crete): 0 sharp to 1 blurred"),
    (
        "noise",
        "number",
        "code",
        "standard deviation of noise in luma, where it is calm (Immerkaer)",
    ),
    ("blockiness", "number", "", "steps at 8-pixel borders over steps elsewhere: 1 is none"),
)

_FACE: tuple[_Line, ...] = (
    ("face_count", "number", "", "faces that a second detector sees, the main face included"),
    ("face_size", "number", "", "height of the main face over the picture's; null without a face"),
    ("face_yaw", "number", "deg", "turn to the side, absolute; null without a face"),
    ("face_pitch", "number", "deg", "nod, signed; null without a face"),
    ("face_roll", "number", "deg", "tilt, absolute; null without a face"),
    (
        "face_sharpness",
        "number",
        "",
        "Laplacian variance over grey variance at one face size, times 100; null without a face",
    ),
    ("skin_luminance", "number", "L*", "median CIE L* of the cheeks; null without a face"),
    ("skin_hue", "number", "deg", "CIE Lab hue of the cheeks; null without a face or colour"),
)

_SOUND: tuple[_Line, ...] = (
    ("loudness", "number", "LUFS", "integrated, EBU R 128; null for silence and without sound"),
    ("true_peak", "number", "dBTP", "EBU R 128; null for silence and without sound"),
    (
        "silence",
        "number",
        "",
        "share of 50 ms blocks below -50 dBFS; null without sound",
    ),
    ("clipping", "number", "", "share of samples in flat tops; null without sound"),
    (
        "speech_present",
        "flag",
        "",
        "somebody speaks for 0.3 s and a tenth of it; null without sound",
    ),
)

_TEMPLATE: tuple[_Line, ...] = (
    ("container", "category", "", "container of the file as delivered to us, by its bytes"),
    ("codec", "category", "", "video codec"),
    ("width", "number", "px", "upright, before the sample aspect ratio"),
    ("height", "number", "px", "upright, before the sample aspect ratio"),
    ("aspect_ratio", "number", "", "width over height as shown"),
    ("fps", "number", "1/s", "average frame rate"),
    ("variable_frame_rate", "flag", "", "the time between frames varies"),
    ("duration", "number", "s", "length"),
    ("bits_per_pixel", "number", "bit", "file size over pixels of all frames: how hard compressed"),
    ("pixel_format", "category", "", "as ffmpeg names it"),
    ("colour_primaries", "category", "", "as declared; undeclared where nothing is said"),
    ("colour_range", "category", "", "tv or pc; undeclared where nothing is said"),
    *_PICTURE,
    ("letterbox", "number", "", "share of the picture covered by black bars"),
    ("audio_codec", "category", "", "codec of the sound; none without"),
    ("sample_rate", "number", "Hz", "of the sound; null without"),
    *_SOUND,
    *_FACE,
    ("face_share", "number", "", "share of frames with the presenter's face"),
)

_PHOTO: tuple[_Line, ...] = (
    ("container", "category", "", "container by the file's bytes"),
    ("width", "number", "px", "upright"),
    ("height", "number", "px", "upright"),
    ("aspect_ratio", "number", "", "width over height"),
    ("bits_per_pixel", "number", "bit", "file size over pixels: how hard compressed"),
    *_PICTURE,
    *_FACE,
    ("eye_distance", "number", "px", "between the outer eye corners; null without a face"),
)

_AUDIO: tuple[_Line, ...] = (
    ("origin", "category", "", "recording, synthesis, or none: the row does not speak"),
    ("container", "category", "", "of the recording; none without"),
    ("codec", "category", "", "of the recording; none without"),
    ("sample_rate", "number", "Hz", "of the recording or the synthesiser; null without a voice"),
    ("channels", "number", "", "of the recording or the synthesiser; null without a voice"),
    ("duration", "number", "s", "null without a voice"),
    *_SOUND,
)

_QUALITY: tuple[_Line, ...] = (
    (
        "identity_recipient",
        "number",
        "",
        "median distance (dlib, 128-d) of sampled faces to the photo; under 0.6: the same person",
    ),
    ("identity_actor", "number", "", "median distance of sampled faces to the presenter's own"),
    (
        "outside_difference",
        "number",
        "code",
        "mean absolute luma difference to the plate outside the recipient's window",
    ),
    (
        "flicker",
        "number",
        "",
        "frame-to-frame change of the face's brightness over the template's own: 1 is alike",
    ),
    (
        "mouth_error",
        "number",
        "",
        "mean absolute difference of lip openness, shown and commanded; closed lips are seen as a "
        "little open, so it is never nought",
    ),
    (
        "mouth_correlation",
        "number",
        "",
        "of lip openness with the command at the best lag; null for a row without a voice",
    ),
    ("mouth_lag", "number", "ms", "lips behind the command; null for a row without a voice"),
    (
        "av_offset",
        "number",
        "ms",
        "sound behind where it belongs, by correlation; null for a row without a voice",
    ),
    ("sharpness_ratio", "number", "", "the face's sharpness over the plate's at the same frames"),
    ("dropped_frames", "number", "", "frames missing against the template's"),
    ("doubled_frames", "number", "", "frames shown twice where the template moves on"),
)

_COLLECTED: tuple[_Line, ...] = (
    ("verdict", "category", "", "pass, review or block"),
    ("nudity_score", "number", "", "of the safety check; null where it was not available"),
    ("script_score", "number", "", "of the safety check; null where it was not available"),
    ("flash_score", "number", "", "of the safety check; null where it was not available"),
    ("seconds", "number", "s", "wall time of all stages that worked on the row"),
    ("cpu_seconds", "number", "s", "processor time of all stages that worked on the row"),
    ("cpu_face_swap", "number", "s", "processor time of the stage"),
    ("cpu_lip_sync", "number", "s", "processor time of the stage"),
    ("cpu_upscale", "number", "s", "processor time of the stage"),
    ("cpu_compose", "number", "s", "processor time of the stage"),
    ("cpu_classify", "number", "s", "processor time of the stage"),
    ("peak_memory", "number", "MiB", "most resident memory of any stage that worked on the row"),
    ("cost", "number", "", "processor time at the configured price of a core hour"),
)

_RENDER: tuple[_Line, ...] = (
    ("codec", "category", "", "video codec"),
    ("width", "number", "px", "of the delivered picture"),
    ("height", "number", "px", "of the delivered picture"),
    ("aspect_ratio", "number", "", "width over height"),
    ("fps", "number", "1/s", "frame rate"),
    ("duration", "number", "s", "length"),
    ("bits_per_pixel", "number", "bit", "file size over pixels of all frames"),
    *_PICTURE,
    *_SOUND,
    *_FACE,
    *_QUALITY,
)


def _features(
    kind: AssetKind, lines: tuple[_Line, ...], collected: bool = False
) -> tuple[Feature, ...]:
    return tuple(Feature(name, kind, form, unit, doc, collected) for name, form, unit, doc in lines)


FEATURES: dict[AssetKind, tuple[Feature, ...]] = {
    "template": _features("template", _TEMPLATE),
    "photo": _features("photo", _PHOTO),
    "audio": _features("audio", _AUDIO),
    "render": _features("render", _RENDER) + _features("render", _COLLECTED, collected=True),
}
"""Features by kind of asset, in the order in which they are shown."""


def feature_names(kind: AssetKind) -> tuple[str, ...]:
    """The columns of a kind's feature rows."""
    return tuple(feature.name for feature in FEATURES[kind])
