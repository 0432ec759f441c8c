"""The cast: synthetic people who exist nowhere else, made from two public-domain portraits."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from include.samples import backdrop, body, face_blend, hair, makeup, warp
from include.samples.body import Outfit
from include.samples.face_blend import Features, Head
from include.samples.makeup import Look
from include.samples.warp import Image, Points

Mask = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """Everything that decides how somebody looks."""

    features: Features
    look: Look
    outfit: Outfit
    backdrop: str = "loft"
    seed: int = 0


@dataclass(frozen=True)
class Figure:
    """A person cut out, on the canvas of `face_blend.SIZE`.

    Attributes:
        image: float32 [h, w, 3], RGB 0..255.
        alpha: float32 [h, w].
        points: float32 [478, 3] landmarks.
        head: float32 [h, w], how far a pixel moves with the head rather than with the shoulders.
    """

    image: Image
    alpha: Mask
    points: Points
    head: Mask


def figure(p: Person) -> Figure:
    """Put a person together: head over neck over clothes."""
    head = face_blend.blend(p.features)
    skin = body.neck(head)
    head, skin = makeup.apply(head, skin, p.look)
    chin = head.points[body.CHIN]
    tailor = body.Tailor((float(chin[0]), float(chin[1])), p.outfit.width)
    alpha = tailor.torso()
    top = _join(head, skin, alpha)
    # the two necks meet below the jaw: in octaves, so that neither colour nor detail steps
    jaw = np.asarray(top * (1 - head.hair), np.float32)
    filled = warp.over(warp.masked_blur(head.image, jaw, 9.0), head.image, jaw)
    meet = warp.collage(skin, filled, jaw, 5)
    clothed, _ = body.dress(tailor, p.outfit, meet)
    if p.features.hair_long > 1:
        return _long_haired(p, head, clothed, alpha, top)
    image = warp.over(
        clothed, head.image, np.asarray(np.maximum(top * head.hair, top**3), np.float32)
    )
    return Figure(image, np.maximum(alpha, top), head.points, top)


def _long_haired(p: Person, head: Head, clothed: Image, torso: Mask, top: Mask) -> Figure:
    """Hair behind the neck, then the body and the face, then hair over both."""
    eyes, long = face_blend.EYES_AT, p.features.hair_long
    yy = np.mgrid[0 : face_blend.SIZE[0], 0 : face_blend.SIZE[1]][0]
    oval = face_blend.hull(head.points, face_blend.OVAL, 1.5, 1.0)
    below, above = yy > head.points[61, 1] + 10, yy < eyes[1] + 20
    skin = np.asarray(top * np.maximum(np.maximum(oval, below), above), np.float32)
    strands, cover = hair.lengthen(
        head.image, np.asarray(head.alpha * head.hair, np.float32), eyes, long + 1
    )
    drop = 70 * long
    cover = hair.trim(cover, eyes, drop)
    behind, back = hair.curtain(
        face_blend.SIZE, eyes, drop, np.array(p.look.hair or (96, 76, 50), np.float32)
    )
    image = warp.over(behind, clothed, torso)
    image = warp.over(image, head.image, skin)
    shadow = warp.blur(cover, 7.0) * (1 - cover) * 0.45
    image = np.asarray(image * (1 - shadow[..., None]), np.float32)
    image = warp.over(image, strands, cover)
    moving = np.maximum(np.maximum(skin, cover), back * (1 - torso))
    alpha = np.maximum(np.maximum(torso, skin), np.maximum(cover, back))
    return Figure(image, np.asarray(alpha, np.float32), head.points, np.asarray(moving, np.float32))


def _join(head: Head, skin: Image, torso: Mask) -> Mask:
    """How much of each pixel the head covers: down to a soft seam below the jaw."""
    g = head.points
    chin = g[body.CHIN]
    yy, xx = np.mgrid[0 : face_blend.SIZE[0], 0 : face_blend.SIZE[1]].astype(np.float32)
    seam = chin[1] + 20 - 0.16 * np.abs(xx - chin[0])
    keep = np.clip((seam - yy) / 22 + 0.5, 0, 1)
    face = face_blend.hull(g, face_blend.OVAL, 1.0, 1.01)
    low = np.clip((yy - g[61, 1] + 8) / 16, 0, 1)
    inside = np.maximum(np.maximum(face, torso), 1 - low)
    keep = np.maximum(keep * inside, head.hair > 0.5)
    return np.asarray(head.alpha * keep, np.float32)


PRESENTER = "nora"

PEOPLE: dict[str, Person] = {
    "nora": Person(
        Features(
            geometry=0.407,
            nose_texture=0.597,
            lip_texture=0.242,
            jaw=0.977,
            length=1.006,
            eye=1.062,
            eye_gap=-4.2,
            eye_tilt=-0.71,
            brow_raise=-0.78,
            nose=0.853,
            nose_length=0.923,
            mouth=0.978,
            lips=1.29,
            cheek=0.97,
            chin=4.0,
            hair_wide=0.9,
        ),
        Look(hair=(92, 66, 48), brow=0.6, skin=(1.1, 1.14, 1.16), seed=1),
        Outfit("blazer", (52, 74, 92)),
        "loft",
        1,
    ),
    "maya": Person(
        Features(
            brow_raise=-0.716,
            cheek=1.008,
            chin=12.208,
            eye=1.035,
            eye_gap=5.785,
            eye_tilt=1.635,
            geometry=0.308,
            hair_long=3.2,
            hair_wide=0.92,
            jaw=0.962,
            length=0.99,
            lip_texture=0.3,
            lips=1.529,
            mouth=0.985,
            nose=1.197,
            nose_length=0.934,
            nose_texture=0.448,
        ),
        Look(skin=(2.0, 2.3, 2.45), hair=(44, 36, 33), brow=0.7, brow_colour=(35, 26, 22), seed=2),
        Outfit("blazer", (128, 58, 52), inner=(232, 226, 214)),
        "cafe",
        2,
    ),
    "ingrid": Person(
        Features(
            geometry=0.531,
            nose_texture=1.0,
            lip_texture=0.44,
            lower_texture=0.85,
            smooth=0.496,
            jaw=0.995,
            length=0.95,
            eye=0.876,
            eye_gap=3.846,
            eye_tilt=-4.607,
            brow_raise=-0.343,
            nose=1.15,
            nose_length=1.15,
            mouth=0.86,
            lips=0.85,
            cheek=1.022,
            chin=10.362,
            hair_wide=0.88,
        ),
        Look(
            hair=(154, 151, 148),
            hair_contrast=0.8,
            brow=0.3,
            brow_colour=(120, 110, 105),
            iris=(95, 120, 140),
            seed=3,
        ),
        Outfit("shirt", (150, 172, 200)),
        "garden",
        3,
    ),
    "robin": Person(
        Features(
            brow_raise=-2.195,
            cheek=1.018,
            chin=-5.159,
            eye=1.018,
            eye_gap=-5.615,
            eye_tilt=4.509,
            geometry=0.301,
            hair_wide=0.9,
            jaw=1.104,
            length=1.026,
            lip_texture=0.183,
            lips=1.019,
            mouth=1.121,
            nose=1.029,
            nose_length=1.059,
            nose_texture=0.741,
        ),
        Look(skin=(1.25, 1.32, 1.38), hair=(60, 46, 38), brow=1.0, stubble=0.6, seed=4),
        Outfit("crew", (58, 76, 62), width=1.26),
        "studio",
        4,
    ),
    "lena": Person(
        Features(
            brow_raise=0.466,
            cheek=0.982,
            chin=-8.976,
            eye=1.13,
            eye_gap=-6.874,
            eye_tilt=-5.351,
            geometry=0.65,
            hair_long=4.0,
            hair_wide=0.95,
            jaw=0.971,
            length=1.028,
            lip_texture=0.192,
            lips=0.841,
            mouth=0.858,
            nose=0.84,
            nose_length=1.091,
            nose_texture=0.224,
        ),
        Look(hair=(118, 68, 46), iris=(92, 102, 88), freckles=1.0, seed=5),
        Outfit("crew", (176, 156, 120)),
        "office",
        5,
    ),
}

SIZE = (640, 800)
"""Width and height of a photo."""


def make_person(name: str) -> npt.NDArray[np.uint8]:
    """Take a photo of somebody.

    Args:
        name: one of `PEOPLE`.

    Returns:
        uint8 [800, 640, 3]; the same pixels at every call.
    """
    p = PEOPLE[name]
    f = figure(p)
    h = face_blend.SIZE[0]
    wide = round(h * SIZE[0] / SIZE[1])
    x0 = round(face_blend.EYES_AT[0] - wide / 2)
    area = cv2.INTER_AREA
    body_ = cv2.resize(np.ascontiguousarray(f.image[:, x0 : x0 + wide]), SIZE, interpolation=area)
    alpha = cv2.resize(np.ascontiguousarray(f.alpha[:, x0 : x0 + wide]), SIZE, interpolation=area)
    room = backdrop.draw(p.backdrop, SIZE[0], SIZE[1])
    body_ = body_ + 0.4 * (body_ - warp.blur(body_, 1.2))
    wrap = warp.blur(room, 18.0) * (alpha * (1 - warp.blur(alpha, 4.0)))[..., None]
    picture = warp.over(room, body_, alpha) + 0.07 * wrap
    grain = np.random.default_rng(p.seed).standard_normal((SIZE[1], SIZE[0])).astype(np.float32)
    picture = picture + 1.5 * warp.blur(grain, 0.6)[..., None] / 0.55
    return np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)
