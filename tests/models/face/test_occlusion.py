"""What is in front of a face: nothing on faces that talk, and what passes in front of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from include.samples import people, presenter
from include.samples.template import voice_line
from models.face import topology
from models.face.landmarks import FaceMesh
from models.face.occlusion import (
    CONTEXT,
    SAMPLES,
    FaceStatistics,
    keep_occluders,
    occlusion_masks,
    sample_numbers,
)
from models.face.roi import face_window
from tests.models.portraits import hopper, moved

Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
FRAMES = 60
Place = tuple[float, float]
"""From the face's centre, in face heights."""


@dataclass(frozen=True)
class Clip:
    frames: list[Image]
    points: list[Float]

    def learn(self) -> FaceStatistics:
        numbers = sample_numbers(self.points)
        return FaceStatistics.learn([(self.frames[i], self.points[i]) for i in numbers])

    def masks(self, statistics: FaceStatistics, start: int = 0, stop: int = FRAMES) -> list[Image]:
        pairs = zip(self.frames[start:stop], self.points[start:stop], strict=True)
        return list(occlusion_masks(pairs, statistics))

    def oval(self, index: int) -> npt.NDArray[np.bool_]:
        area = np.zeros(self.frames[index].shape[:2], np.uint8)
        outline = np.round(self.points[index][topology.FACE_OVAL, :2]).astype(np.int32)
        cv2.fillPoly(area, [outline], (1,))
        return area > 0

    def shares(self, masks: list[Image]) -> Float:
        """How much of the face is masked in each frame."""
        ovals = [self.oval(i) for i in range(len(masks))]
        parts = [((m > 127) & o).sum() / o.sum() for m, o in zip(masks, ovals, strict=True)]
        return np.array(parts, np.float32)


def tracked(frames: list[Image]) -> Clip:
    with FaceMesh(max_faces=1, video=True) as mesh:
        points = [mesh.detect(frame)[0].points for frame in frames]
    window = face_window(points, (frames[0].shape[1], frames[0].shape[0]))
    parts = [np.ascontiguousarray(frame[window.slice()]) for frame in frames]
    return Clip(parts, [window.to_local(p) for p in points])


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """The sample presenter speaks, blinks and turns her head."""
    scene = presenter.Scene(FRAMES, 25, (960, 540), voice_line(), 0.2)
    return list(presenter.Animator(people.PEOPLE[people.PRESENTER], scene).frames())


@pytest.fixture(scope="module")
def talking(pictures) -> Clip:
    return tracked(pictures)


@pytest.fixture(scope="module")
def learned(talking) -> FaceStatistics:
    return talking.learn()


# Things to hold in front of a face: (RGB, opacity), and the pixel that is placed.


def microphone() -> tuple[Float, Image, Place]:
    alpha = np.zeros((300, 100), np.uint8)
    cv2.rectangle(alpha, (38, 80), (62, 300), (255,), -1)
    cv2.ellipse(alpha, (50, 50), (40, 48), 0, 0, 360, (255,), -1)
    y, x = np.indices(alpha.shape)
    glow = 40 + 30 * np.exp(-((x - 36) ** 2 + (y - 30) ** 2) / 500)
    return np.repeat(glow[..., None], 3, 2).astype(np.float32), alpha, (50, 50)


def box() -> tuple[Float, Image, Place]:
    colours = np.full((180, 140, 3), (40, 120, 90), np.float32)
    colours[40:110] = (230, 225, 210)
    colours[130:] = (190, 60, 40)
    return colours, np.full((180, 140), 255, np.uint8), (70, 90)


def hand() -> tuple[Float, Image, Place]:
    """Skin with creases, shaded round; as bright as the presenter's face."""
    height, width = 300, 174
    shade = np.zeros((height, width), np.float32)
    limbs = (
        ((87, 300), (87, 175), 32), ((82, 185), (90, 135), 39), ((60, 175), (24, 134), 14),
        ((58, 134), (47, 57), 14), ((78, 134), (75, 37), 15), ((98, 134), (103, 43), 14),
        ((117, 134), (130, 73), 12),
    )  # fmt: skip
    for start, stop, radius in limbs:
        limb = np.zeros((height, width), np.uint8)
        cv2.line(limb, start, stop, (255,), 2 * radius)
        depth = cv2.distanceTransform(limb, cv2.DIST_L2, 5)
        rounded = 0.72 + 0.33 * np.sqrt(np.clip(depth / radius, 0, 1))
        shade[limb > 0] = rounded[limb > 0]
    colours = shade[..., None] * np.array((222, 170, 142), np.float32)
    return colours, np.where(shade > 0, 255, 0).astype(np.uint8), (87, 140)


PATHS: dict[str, tuple[Callable[[], tuple[Float, Image, Place]], float, Place, Place]] = {
    "microphone": (microphone, 0.9, (-0.05, 0.33), (-0.3, 0.75)),
    "box": (box, 0.65, (-0.2, 0.15), (-0.75, 0.3)),
    "hand": (hand, 1.0, (0.15, 0.2), (0.5, 0.75)),
}
"""What, its height in face heights, where it rests, and from where it comes."""


def held_up(pictures: list[Image], talking_points: list[Float], name: str) -> list[tuple]:
    """Frames with a thing that comes up for the third quarter, and where it is."""
    make, tall, rest, away = PATHS[name]
    colours, alpha, (ref_x, ref_y) = make()
    out = []
    for i, (frame, points) in enumerate(zip(pictures, talking_points, strict=True)):
        aside = float(np.interp(i / FRAMES, [0.40, 0.50, 0.68, 0.78], [1, 0, 0, 1]))
        centre = points[[topology.FOREHEAD, topology.CHIN], :2].mean(0)
        face = float(np.linalg.norm(points[topology.FOREHEAD, :2] - points[topology.CHIN, :2]))
        scale = tall * face / alpha.shape[0]
        x, y = (centre[k] + face * (rest[k] + away[k] * aside) for k in (0, 1))
        matrix = np.array([[scale, 0, x - scale * ref_x], [0, scale, y - scale * ref_y]])
        size = frame.shape[1], frame.shape[0]
        soft = cv2.warpAffine(cv2.GaussianBlur(alpha, (0, 0), 0.7), matrix, size)
        laid = cv2.warpAffine(colours, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        soft *= 0.40 < i / FRAMES < 0.78
        share = soft[..., None] / np.float32(255)
        out.append(((frame * (1 - share) + laid * share).astype(np.uint8), soft))
    return out


@pytest.fixture(scope="module")
def covered(pictures) -> Callable[[str], tuple[Clip, list[Image]]]:
    """The clip with something in front of the face, tracked anew, and where that truly is."""
    with FaceMesh(max_faces=1, video=True) as mesh:
        marks = [mesh.detect(frame)[0].points for frame in pictures]
    made: dict[str, tuple[Clip, list[Image]]] = {}

    def make(name: str) -> tuple[Clip, list[Image]]:
        if name not in made:
            pairs = held_up(pictures, marks, name)
            with FaceMesh(max_faces=1, video=True) as mesh:
                points = [mesh.detect(frame)[0].points for frame, _ in pairs]
            window = face_window(points, (960, 540))
            frames = [np.ascontiguousarray(frame[window.slice()]) for frame, _ in pairs]
            truth = [np.ascontiguousarray(soft[window.slice()]) for _, soft in pairs]
            made[name] = Clip(frames, [window.to_local(p) for p in points]), truth
        return made[name]

    return make


def quality(clip: Clip, masks: list[Image], truth: list[Image]) -> tuple[float, float]:
    """Recall and intersection over union, of the covered face's area over all frames."""
    both = either = wanted = 0
    for i, (mask, real) in enumerate(zip(masks, truth, strict=True)):
        oval = clip.oval(i)
        found, there = (mask > 127) & oval, (real > 127) & oval
        both += int((found & there).sum())
        either += int((found | there).sum())
        wanted += int(there.sum())
    return both / wanted, both / either


@pytest.mark.slow
def test_a_face_that_talks_blinks_and_turns_has_nothing_in_front(talking, learned):
    shares = talking.shares(talking.masks(learned))
    assert np.median(shares) == 0
    assert shares.max() < 0.01


@pytest.mark.slow
def test_glasses_and_a_light_that_wanders_are_not_in_front():
    picture = hopper()
    y, x = np.indices(picture.shape[:2], dtype=np.float32)
    frames = []
    for i in range(FRAMES):
        light = 0.9 + 0.15 * np.sin(i / 7 + x / 150 + y / 200)
        lit = np.clip(picture * light[..., None], 0, 255).astype(np.uint8)
        frames.append(moved(lit, 12 * np.sin(i / 9), 6 * np.sin(i / 5), 5 * np.sin(i / 12)))
    clip = tracked(frames)
    assert clip.shares(clip.masks(clip.learn())).max() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "recall", "overlap"),
    [("microphone", 0.9, 0.7), ("box", 0.9, 0.75), ("hand", 0.8, 0.6)],
)
def test_what_passes_in_front_is_found_though_it_is_in_the_samples(name, recall, overlap, covered):
    clip, truth = covered(name)
    masks = clip.masks(clip.learn())
    found, shared = quality(clip, masks, truth)
    assert found > recall
    assert shared > overlap
    clear = [i for i in range(FRAMES) if not truth[i].any()]
    assert max(masks[i].max() for i in clear) == 0


@pytest.mark.slow
def test_chunks_with_overlap_give_the_masks_of_the_whole(covered, tmp_path):
    clip, _ = covered("hand")
    statistics = clip.learn()
    whole = clip.masks(statistics)
    assert max(mask.max() for mask in whole) == 255
    np.savez(tmp_path / "face.npz", **statistics.arrays())
    with np.load(tmp_path / "face.npz") as stored:
        again = FaceStatistics.from_arrays(stored)
    for start in range(0, FRAMES, 13):
        stop = min(start + 13, FRAMES)
        first, last = max(start - CONTEXT, 0), min(stop + CONTEXT, FRAMES)
        chunk = clip.masks(again, first, last)[start - first :][: stop - start]
        assert all(np.array_equal(a, b) for a, b in zip(chunk, whole[start:stop], strict=True))


@pytest.mark.slow
def test_what_shows_in_one_frame_alone_is_noise(talking, learned, covered):
    clip, truth = covered("microphone")
    peak = int(np.argmax([t.sum() for t in truth]))
    pair = clip.frames[peak], clip.points[peak]
    statistics = clip.learn()
    calm = clip.frames[2], clip.points[2]
    assert next(occlusion_masks([pair], statistics)).max() == 255
    alone = list(occlusion_masks([calm, calm, pair, calm, calm], statistics))
    twice = list(occlusion_masks([calm, calm, pair, pair, calm], statistics))
    assert [mask.max() for mask in alone] == [0] * 5
    assert [mask.max() for mask in twice] == [0, 0, 255, 255, 0]


@pytest.mark.slow
def test_frames_are_left_as_they_were_and_masks_fit_them(talking, learned):
    frame, points = talking.frames[0].copy(), talking.points[0].copy()
    mask = next(occlusion_masks([(frame, points)], learned))
    assert mask.shape == frame.shape[:2]
    assert mask.dtype == np.uint8
    assert np.array_equal(frame, talking.frames[0])
    assert np.array_equal(points, talking.points[0])


@pytest.mark.slow
def test_a_face_partly_or_wholly_outside_the_window_is_no_error(talking, learned):
    for shift in (0.5, 3):
        away = talking.points[0] + np.array([shift * talking.frames[0].shape[1], 0, 0], np.float32)
        mask = next(occlusion_masks([(talking.frames[0], away)], learned))
        assert mask.shape == talking.frames[0].shape[:2]


def test_occluders_are_kept_exactly_and_fade_into_the_change():
    rng = np.random.default_rng(3)
    original, changed = rng.integers(0, 256, (2, 20, 30, 3), np.uint8)
    mask = rng.choice(np.array([0, 100, 255], np.uint8), (20, 30))
    kept = keep_occluders(original, changed, mask)
    assert np.array_equal(kept[mask == 255], original[mask == 255])
    assert np.array_equal(kept[mask == 0], changed[mask == 0])
    low, high = np.minimum(original, changed), np.maximum(original, changed)
    assert ((kept >= low) & (kept <= high)).all()
    untouched = keep_occluders(original, changed, np.zeros((20, 30), np.uint8))
    assert np.array_equal(untouched, changed)
    assert untouched is not changed


def test_samples_are_spread_and_include_unusual_faces():
    rng = np.random.default_rng(1)
    face = rng.normal(100, 30, (478, 3)).astype(np.float32)
    points = [face.copy() for _ in range(300)]
    points[137][topology.OUTER_LIPS, 1] += 9
    numbers = sample_numbers(points)
    assert 137 in numbers
    assert len(numbers) <= SAMPLES
    assert numbers == sorted(set(numbers))
    assert np.diff(numbers).max() <= 300 / (SAMPLES / 2) * 1.5
    assert sample_numbers(points[:5]) == [0, 1, 2, 3, 4]


def test_what_cannot_be_used_is_refused_by_name():
    frame, points = np.zeros((40, 40, 3), np.uint8), np.ones((478, 3), np.float32)
    for wrong_frame, wrong_points, name in (
        (frame.astype(np.float32), points, "frame"),
        (frame[..., 0], points, "frame"),
        (frame, points[:468], "points"),
        (frame, points * np.float32(np.nan), "points"),
    ):
        with pytest.raises(ValueError, match=name):
            FaceStatistics.learn([(wrong_frame, wrong_points)])
    with pytest.raises(ValueError, match="samples"):
        FaceStatistics.learn([])
    with pytest.raises(ValueError, match="usual"):
        FaceStatistics.from_arrays({"points": points})
    with pytest.raises(ValueError, match="mask"):
        keep_occluders(frame, frame, frame[:9, :, 0])
