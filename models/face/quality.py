"""Is a photo good enough to put its face into a video? Clear reasons where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from include.errors import BadFace
from models.face import geometry, topology
from models.face.crops import Box
from models.face.landmarks import Face, FaceMesh

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class PhotoLimits:
    """What a usable photo must reach."""

    picture_px: int = 64
    """Shorter side of the picture."""
    interocular_px: float = 40.0
    """Distance of the outer eye corners: a face about 75 pixels tall."""
    sharpness: float = 35.0
    """See `sharpness`. Ordinary portraits measure 80 to 900, the same ones blurred by 4% of the eye
    distance (a plain loss of focus) 7 to 33."""
    yaw_deg: float = 40.0
    pitch_deg: float = 30.0
    roll_deg: float = 45.0
    bystander_ratio: float = 0.25
    """Faces smaller than this part of the main one's height are background: a poster, a crowd."""
    eyes_open: float = 0.12
    """Lid gap over eye width below which an eye counts as closed (a warning)."""


LIMITS = PhotoLimits()

ADVICE = MappingProxyType(
    {
        "face.none": "use a photo that shows one face from the front, uncovered, upright",
        "face.several": "crop the photo so that only the recipient is in it",
        "face.too_small": "use a larger photo or one taken from closer",
        "face.too_soft": "use a photo that is in focus and not enlarged from a smaller one",
        "face.turned": "use a photo in which the face looks at the camera",
        "face.eyes_closed": "use a photo with open eyes if there is one",
    }
)
"""What to do about each code."""


@dataclass(frozen=True)
class PhotoFace:
    """A usable face in a photo."""

    points: NDArray[np.float32]
    """[478, 3] pixels of the photo."""
    box: Box
    interocular: float
    """Distance of the outer eye corners in pixels."""
    sharpness: float
    yaw: float
    pitch: float
    roll: float
    """Degrees, as in `models.face.geometry.Pose`."""
    eyes: tuple[float, float]
    """Lid gap over eye width, (left, right)."""
    warnings: tuple[str, ...] = ()
    """Codes of what is not ideal, yet no reason to refuse: ``face.eyes_closed``."""


def assess_photo(
    rgb: Image, mesh: FaceMesh | None = None, limits: PhotoLimits = LIMITS
) -> PhotoFace:
    """Find the one usable face of a photo.

    Faces much smaller than the main one (`PhotoLimits.bystander_ratio`) are taken for background
    and ignored.

    Args:
        rgb: uint8 [h, w, 3], already turned upright.
        mesh: a still-picture detector for several faces to reuse; one is made without it.
        limits: thresholds.

    Raises:
        BadFace: code ``face.none``, ``face.several``, ``face.too_small``, ``face.too_soft`` or
            ``face.turned``; the message says what was measured and what to do.
    """
    height, width = rgb.shape[:2]
    if min(height, width) < limits.picture_px:
        raise _bad(
            "face.too_small",
            f"the photo is {width}x{height} pixels, at least {limits.picture_px} a side are needed",
        )
    if mesh is None:
        with FaceMesh(max_faces=8) as own:
            faces = own.detect(rgb)
    else:
        faces = mesh.detect(rgb)
    face = _only_face(faces, limits)
    return _judge(rgb, face, limits)


def _only_face(faces: list[Face], limits: PhotoLimits) -> Face:
    if not faces:
        raise _bad("face.none", "no face was found in the photo")
    main = faces[0]
    rivals = [f for f in faces[1:] if _height(f) >= limits.bystander_ratio * _height(main)]
    if rivals:
        raise _bad("face.several", f"the photo shows {len(rivals) + 1} faces")
    return main


def _judge(rgb: Image, face: Face, limits: PhotoLimits) -> PhotoFace:
    eye = geometry.interocular(face.points)
    if eye < limits.interocular_px:
        raise _bad(
            "face.too_small",
            f"the face's eyes are {eye:.0f} pixels apart, at least {limits.interocular_px:.0f} "
            "are needed",
        )
    pose = geometry.head_pose(face.points)
    angles = (("yaw", pose.yaw, limits.yaw_deg), ("pitch", pose.pitch, limits.pitch_deg))
    for name, angle, most in (*angles, ("roll", pose.roll, limits.roll_deg)):
        if abs(angle) > most:
            raise _bad(
                "face.turned",
                f"the face is turned by {angle:.0f} degrees of {name}, over {most:.0f}",
            )
    sharp = sharpness(rgb, face.points)
    if sharp < limits.sharpness:
        raise _bad(
            "face.too_soft",
            f"the face is blurred: sharpness {sharp:.0f}, the least is {limits.sharpness:.0f}",
        )
    eyes = geometry.eye_openness(face.points)
    warnings = ("face.eyes_closed",) if min(eyes) < limits.eyes_open else ()
    return PhotoFace(
        face.points, face.box, eye, sharp, pose.yaw, pose.pitch, pose.roll, eyes, warnings
    )


SHARPNESS_SIZE = 96
"""Side in pixels of the picture in which sharpness is measured: two eye distances."""


def sharpness(rgb: Image, points: NDArray[np.float32]) -> float:
    """Measure a face's sharpness, independent of its size and contrast.

    Variance of the Laplacian (Pertuz et al., "Analysis of focus measure operators", Pattern
    Recognition 46, 2013) inside the face oval, over the variance of the grey levels there, times
    100, after resampling to 48 pixels of eye distance. That size is the least we accept, so that
    what is measured does not depend on the photo's resolution.

    Args:
        rgb: uint8 [h, w, 3].
        points: float32 [478, 2 or more] pixels.
    """
    size = SHARPNESS_SIZE
    scale = size / (2 * max(geometry.interocular(points), 1.0))
    centre = points[topology.FACE_OVAL, :2].mean(0)
    picture = rgb
    if scale < 1:
        picture = np.asarray(
            cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
        )
    zoom = 1.0 if scale < 1 else scale
    shift = size / 2 - scale * centre
    place = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float32)
    crop = cv2.warpAffine(picture, place, (size, size), flags=cv2.INTER_CUBIC)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = np.zeros((size, size), np.uint8)
    oval = (points[topology.FACE_OVAL, :2] - centre) * (scale * 0.9) + size / 2
    cv2.fillConvexPoly(inside, np.round(oval).astype(np.int32), (1,))
    detail = cv2.Laplacian(grey, cv2.CV_32F, ksize=3)[inside > 0]
    return float(100 * detail.var() / max(float(grey[inside > 0].var()), 1.0))


def _height(face: Face) -> float:
    return face.box[3] - face.box[1]


def _bad(code: str, what: str) -> BadFace:
    return BadFace(f"{what}; {ADVICE[code]}", code=code)
