"""Delta rendering makes the pixels of the linear renderer.

What is compared are the yuv420p frames that would go to the encoder: at
most one code value apart anywhere, and the same outside the output windows, which are what a
recipient's upscaled pixels are pasted into.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.linear import linear_frames, planned_rows
from include.contracts.plan import CampaignPlan, ShardPlan, UnitPlan
from include.contracts.stage import StageRequest
from include.media.decode import VideoReader
from include.media.pixels import Yuv420, paste_yuv, rgb_to_yuv420
from include.media.preview import PreviewMark
from include.planning import plan_campaign
from include.settings import Settings
from include.stages.clips import clip_facts, clip_name
from include.stages.compose import delivered_frames, mouth_region
from include.stages.context import Events, StageContext
from include.stages.runner import run_stage
from include.stages.specs import STAGES
from include.stages.timeline import Gop, gops_of, template_size
from include.stages.upscale_plate import plate_frames
from include.stages.upscaling import reach_of, upscale_crop, upscaler_for
from include.store import open_store
from include.store.cache import ArtifactCache
from models.face.roi import Window
from models.upscale import load_upscaler
from tests.support.tiny import (
    Tiny,
    astronaut,
    hopper,
    make_tiny,
    tiny_environment,
    tiny_settings,
    write_video,
)

MOST = 1
"""Code values that the two may be apart."""


def planes_of(frame: Yuv420):
    return frame.y, frame.u, frame.v


def apart(a: Yuv420, b: Yuv420) -> int:
    """The largest difference between two frames in any plane, code values."""
    pairs = zip(planes_of(a), planes_of(b), strict=True)
    return max(int(np.abs(x.astype(int) - y.astype(int)).max()) for x, y in pairs)


def blanked(frame: Yuv420, window: Window) -> Yuv420:
    """The frame with the window's pixels taken out of the comparison."""
    out = frame.copy()
    hole = out.crop(window.x, window.y, window.w, window.h)
    for plane in planes_of(hole):
        plane[...] = 0
    return out


@cache
def portrait(name: str):
    picture = {"astronaut": astronaut, "hopper": hopper}[name]()
    return cv2.resize(picture, (420, 420), interpolation=cv2.INTER_AREA)


@cache
def upscaler(name: str, scale: int):
    return load_upscaler(name, scale)


@dataclass(frozen=True)
class Change:
    """A frame of a template, and where a face and a mouth are somebody else's."""

    template: np.ndarray
    face: Window
    mouth: Window
    seed: int

    def face_pixels(self):
        """The template with the other face."""
        other = portrait("hopper")[self.seed % 97 :, self.seed % 89 :]
        return self._with(self.template, self.face, other)

    def mouth_pixels(self):
        """The same with another mouth."""
        other = 255 - portrait("astronaut")[self.seed % 83 :, self.seed % 79 :]
        return self._with(self.face_pixels(), self.mouth, other)

    @staticmethod
    def _with(frame, window: Window, other):
        out = frame.copy()
        out[window.slice()] = other[: window.h, : window.w]
        return out


@st.composite
def inside(draw: st.DrawFn, low: int, high: int) -> tuple[int, int]:
    """A range of at least one pixel between two edges, either of which it often touches."""
    start = draw(st.just(low) | st.integers(low, high - 1))
    stop = draw(st.just(high) | st.integers(start + 1, high))
    return start, stop


@st.composite
def changes(draw: st.DrawFn, most: int = 120) -> Change:
    """Real pictures of any size, odd ones too, with windows that touch the frame's edges."""
    width, height = draw(st.integers(8, most)), draw(st.integers(8, most))
    x, y = draw(st.integers(0, 420 - width)), draw(st.integers(0, 420 - height))
    frame = np.ascontiguousarray(portrait("astronaut")[y : y + height, x : x + width])
    (x0, x1), (y0, y1) = draw(inside(0, width)), draw(inside(0, height))
    face = Window.around(x0, y0, x1, y1, (width, height))
    (x0, x1), (y0, y1) = draw(inside(0, width)), draw(inside(0, height))
    mouth = Window.around(x0, y0, x1, y1, (width, height))
    return Change(frame, face, mouth, draw(st.integers(0, 10_000)))


def check_windows(change: Change, name: str, scale: int) -> None:
    """Paste what the windows' upscaling gives, and compare with whole frames."""
    big = upscaler(name, scale)
    size = (change.template.shape[1], change.template.shape[0])
    plate = rgb_to_yuv420(big.upscale(change.template))
    whole = rgb_to_yuv420(big.upscale(change.mouth_pixels()))
    pasted, outside = plate.copy(), (plate, whole)
    layers = (change.face, change.face_pixels()), (change.mouth, change.mouth_pixels())
    for changed, frame in layers:
        reach = reach_of(big, changed, size)
        crop = np.ascontiguousarray(frame[reach.input.slice()])
        at = reach.output.scaled(scale)
        paste_yuv(pasted, rgb_to_yuv420(upscale_crop(big, crop, reach)), at.x, at.y)
        outside = blanked(outside[0], at), blanked(outside[1], at)
    assert apart(pasted, whole) <= MOST
    assert apart(*outside) == 0


@pytest.mark.parametrize("scale", [2, 4])
@settings(deadline=None, max_examples=60)
@given(change=changes())
def test_pasted_windows_are_the_whole_frames_pixels_by_lanczos(scale: int, change: Change) -> None:
    check_windows(change, "lanczos", scale)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4])
@settings(deadline=None, max_examples=40)
@given(change=changes())
def test_pasted_windows_are_the_whole_frames_pixels_by_compact(scale: int, change: Change) -> None:
    check_windows(change, "compact", scale)


def test_the_comparison_sees_a_window_without_its_margin() -> None:
    big = upscaler("lanczos", 2)
    frame = np.ascontiguousarray(portrait("astronaut")[:100, :100])
    change = Change(frame, Window(30, 30, 40, 40), Window(40, 40, 10, 10), 7)
    plate = rgb_to_yuv420(big.upscale(change.template))
    whole = rgb_to_yuv420(big.upscale(change.face_pixels()))
    careless = big.upscale(np.ascontiguousarray(change.face_pixels()[change.face.slice()]))
    paste_yuv(plate, rgb_to_yuv420(careless), 60, 60)
    assert apart(plate, whole) > 10 * MOST


# From here on: whole campaigns on templates of a few frames.

SIZE = (320, 240)
Shown = Iterator[np.ndarray]


def person(
    x: float,
    y: float,
    zoom: float,
    number: int,
    size: tuple[int, int] = SIZE,
    border: int = cv2.BORDER_REFLECT_101,
):
    """The astronaut's head with its centre at (x, y), moving by fractions of a pixel."""
    still = astronaut()
    dx, dy = 1.5 * np.sin(number / 3), np.cos(number / 4)
    move = np.float32([[zoom, 0, x - 224 * zoom + dx], [0, zoom, y - 115 * zoom + dy]])
    return cv2.warpAffine(still, move, size, flags=cv2.INTER_AREA, borderMode=border)


def card(size: tuple[int, int] = SIZE, at: int = 90):
    picture = np.full((size[1], size[0], 3), (28, 40, 66), np.uint8)
    cv2.putText(picture, "SALE", (at, 140), cv2.FONT_HERSHEY_DUPLEX, 2, (240, 240, 240), 3)
    return picture


def in_the_middle() -> Shown:
    yield from (card() for _ in range(2))
    yield from (person(160, 120, 0.8, n) for n in range(6))


def cut_by_the_left_edge() -> Shown:
    yield from (person(38, 120, 0.9, n) for n in range(6))


def cut_by_the_top_right_corner() -> Shown:
    yield from (person(276, 48, 0.9, n) for n in range(6))


def cut_by_the_bottom_edge() -> Shown:
    yield from (person(150, 186, 0.9, n) for n in range(6))


def of_odd_size() -> Shown:
    size = (321, 243)
    yield from (person(300, 130, 0.8, n, size) for n in range(6))


def of_two_shots_and_a_card() -> Shown:
    yield from (person(90, 120, 0.7, n) for n in range(5))
    yield from (card() for _ in range(2))
    yield from (person(230, 130, 1.0, n) for n in range(5))


def with_the_face_leaving() -> Shown:
    """The presenter walks out of the picture, all in one shot."""
    for number, x in enumerate([140] * 5 + [130, 110, 80, 40, 0, -50] + [-150] * 7):
        yield person(x, 120, 0.7, number, border=cv2.BORDER_REPLICATE)


def with_something_in_front() -> Shown:
    """A striped board comes in from the side, covers half the mouth and leaves."""
    for number in range(20):
        frame = person(160, 120, 0.9, number)
        edge = 60 + round(85 * np.sin(np.pi * max(0, number - 5) / 11)) if number < 17 else 60
        frame[110:190, :edge] = (30, 90, 160)
        frame[110:190:8, :edge] = (240, 240, 240)
        yield frame


SCENES = {
    "in the middle": (in_the_middle, 2, "final"),
    "in the middle, four times": (in_the_middle, 4, "final"),
    "cut by the left edge": (cut_by_the_left_edge, 2, "final"),
    "cut by the top right corner, four times": (cut_by_the_top_right_corner, 4, "preview"),
    "cut by the bottom edge": (cut_by_the_bottom_edge, 2, "final"),
    "of odd size": (of_odd_size, 2, "final"),
    "of odd size, four times": (of_odd_size, 4, "preview"),
    "of two shots and a card": (of_two_shots_and_a_card, 2, "final"),
    "with something in front": (with_something_in_front, 2, "preview"),
    "with the face leaving": (with_the_face_leaving, 2, "preview"),
}
"""Name to frames, scale and tier: previews are upscaled by ``lanczos``, finals by ``compact``."""


def plan_scene(root: Path, name: str) -> tuple[Tiny, CampaignPlan]:
    show, scale, tier = SCENES[name]
    tiny = make_tiny(root)
    video = tiny.root / "scene.mkv"
    write_video(video, show(), 10, "-pix_fmt", "yuv444p")
    tiny.brief["template"]["video"] = video.name
    tiny.brief |= {"tier": tier, "output": {"scale": scale}, "voice": {"at": 0, "longer": "trim"}}
    return tiny, plan_campaign(str(tiny.write()), tiny.settings)


def run_stages(plan: CampaignPlan, where: Settings) -> None:
    """Everything that ``compose`` needs, in this process."""
    for spec in STAGES.values():
        if spec.name == "compose":
            return
        if spec.name in ("classify_template", "encode_plate"):
            continue
        for ref in [plan.template] if spec.scope == "template" else plan.shards:
            shard = ShardPlan.model_validate_json(open_store(plan.store).get(ref.plan))
            request = StageRequest(
                stage=spec.name,
                store=where.store,
                tenant=plan.tenant,
                plan=ref.plan,
                units=tuple(row.id for row in shard.rows) or (shard.template.id,),
                run_id="equality",
                result=f"{plan.tenant}/result/equality/{spec.name}.json",
            )
            run_stage(request, Events(spec.name, io.StringIO()))


def context(shard: ShardPlan, unit: UnitPlan, where: Settings, scratch: Path) -> StageContext:
    return StageContext(
        spec=STAGES["compose"],
        shard=shard,
        unit=unit,
        cache=ArtifactCache(open_store(where.store), shard.brief.tenant),
        scratch=scratch,
        settings=where,
        events=Events("compose", io.StringIO()),
        run_id="equality",
    )


def delta_frames(ctx: StageContext) -> Iterator[tuple[Yuv420, Yuv420, list[Window]]]:
    """Each frame of the plate and of the recipient, and the output windows in delivery pixels."""
    upscaler = upscaler_for(ctx.unit.materials["compose"], 1)
    for gop in gops_of(ctx):
        if gop.segment is None:
            for plate in marked(ctx, plate_frames(ctx, gop, upscaler)):
                yield plate, plate.copy(), []
            continue
        windows = output_windows(ctx, gop)
        with VideoReader(ctx.fetch("upscale_plate", clip_name("plate", gop))) as reader:
            plates = marked(ctx, reader.yuv_frames())
            for plate, pasted in zip(plates, delivered_frames(ctx, gop), strict=True):
                yield plate, pasted, windows


def output_windows(ctx: StageContext, gop: Gop) -> list[Window]:
    """Where a GOP's upscaled face and mouth are pasted."""
    material = ctx.unit.materials["compose"]
    windows = []
    face = clip_facts(ctx, "upscale", gop)
    if face is not None:
        windows.append(Window(*face["clip"]))
    mouth = mouth_region(ctx, gop)
    if mouth is not None:
        reach = reach_of(upscaler_for(material, 1), mouth, template_size(ctx))
        windows.append(reach.output)
    return [window.scaled(int(material.params["scale"])) for window in windows]


def marked(ctx: StageContext, frames: Iterable[Yuv420]) -> Iterator[Yuv420]:
    """The frames with the mark of a preview, where it is one."""
    preview = ctx.unit.materials["compose"].params["tier"] == "preview"
    for frame in frames:
        if preview:
            PreviewMark((frame.width, frame.height)).draw(frame)
        yield frame


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_a_recipient_is_the_same_by_delta_and_on_whole_frames(name: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in tiny_environment(tmp_path).items():
            patch.setenv(variable, value)
        _, plan = plan_scene(tmp_path, name)
        where = tiny_settings(tmp_path)
        run_stages(plan, where)
        ((shard, unit),) = planned_rows(plan)
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        ctx = context(shard, unit, where, scratch)
        whole = marked(ctx, linear_frames(shard, unit, where))
        found = [
            compare(plate, pasted, frame, windows)
            for (plate, pasted, windows), frame in zip(delta_frames(ctx), whole, strict=True)
        ]
        assert len(ctx.facts("track_face")["segments"]) == (2 if "two shots" in name else 1)
        assert bool(ctx.facts("analyse_face")["occluded"]) == ("in front" in name)
    assert max(frame.apart for frame in found) <= MOST
    assert max(frame.outside for frame in found) == 0
    assert any(not frame.has_face for frame in found) == any(
        part in name for part in ("middle", "card", "leaving")
    )
    changed = [frame.changed for frame in found if frame.has_face]
    assert len(changed) >= 5
    assert min(changed) > 30, "every face frame shows somebody else"
    _, scale, _ = SCENES[name]
    assert {frame.size for frame in found} == {(320 * scale, 240 * scale + 2 * scale * odd(name))}


def odd(name: str) -> bool:
    """Whether a scene's last row and column are cropped to make it even."""
    return "odd" in name


@dataclass(frozen=True)
class Compared:
    """One frame of both renderers."""

    size: tuple[int, int]
    has_face: bool
    apart: int
    outside: int
    """The same outside the output windows, where both have to show the plate."""
    changed: int
    """How far the recipient's frame is from the plate."""


def compare(plate: Yuv420, pasted: Yuv420, whole: Yuv420, windows: list[Window]) -> Compared:
    rest = plate, pasted, whole
    for window in windows:
        rest = tuple(blanked(frame, window) for frame in rest)
    return Compared(
        size=(whole.width, whole.height),
        has_face=bool(windows),
        apart=apart(pasted, whole),
        outside=max(apart(rest[0], rest[1]), apart(rest[0], rest[2])),
        changed=apart(plate, whole),
    )
