"""What ``bench delta`` measures, pair by pair: points, arms, pairs that were kept, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.floor import PARTS
from benchmarks.measure import Cost, Spread, conditions
from include.samples.crowd import Shape

FOLDERS = ("benchmarks", "include", "models")
"""Whose code is measured."""


@dataclass(frozen=True)
class Point:
    """One thing to measure."""

    recipients: int
    threads: int
    upscaler: str
    shape: Shape | None = None
    """None for the sample template."""

    @property
    def label(self) -> str:
        """For people."""
        what = f"{self.recipients} x {self.upscaler}, {self.threads} threads"
        if self.shape is None:
            return what
        (width, height), seconds = self.shape.size, self.shape.seconds
        size = f"{width}x{height}, {seconds:g} s"
        share, shown = f"{self.shape.face_share:.0%}", f"{self.shape.on_screen:.0%}"
        return f"{what}, {size}, face {share}, on screen {shown}"


@dataclass(frozen=True)
class Arm:
    """What one arm of a pair took, for all its recipients.

    What was rendered is measured for drift in the delta arm alone, and counted apart.
    """

    template: Cost
    """Compiling the template; nothing in the linear arm, which does it again for everybody."""
    recipients: Cost
    further: Cost | None
    """Of each recipient after the first, in processes that run and have their models; None where
    there was one."""
    floor: Mapping[str, Cost]
    """One recipient's, by part; in the delta arm, where it was asked for."""
    facts: Mapping[str, Any]

    @property
    def cold(self) -> Cost:
        """All of it."""
        return self.template + self.recipients

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Arm:
        """From what ``asdict`` made of one."""
        further = plain["further"]
        return cls(
            Cost(**plain["template"]),
            Cost(**plain["recipients"]),
            None if further is None else Cost(**further),
            {name: Cost(**cost) for name, cost in plain["floor"].items()},
            plain["facts"],
        )


@dataclass(frozen=True)
class Begun:
    """A point of which some pairs are in the figures already, and more are coming."""

    body: dict[str, Any]
    part: str
    point: Point
    write: Callable[[], None]

    @property
    def pairs(self) -> list[dict[str, Arm]]:
        """Those that were run on such a processor as this one, with this code."""
        held = self._all.get(self._name, {})
        if {name: held.get(name) for name in conditions(*FOLDERS)} != conditions(*FOLDERS):
            return []
        return [{name: Arm.of(arm) for name, arm in pair.items()} for pair in held["pairs"]]

    def keep(self, pairs: list[dict[str, Arm]]) -> None:
        """Write pairs down, so that nothing but the next one can be lost."""
        plain = [{name: asdict(arm) for name, arm in pair.items()} for pair in pairs]
        self._all[self._name] = {**conditions(*FOLDERS), "pairs": plain}
        self.write()

    def end(self, made: dict[str, Any]) -> None:
        """Put the point's figures where its pairs were."""
        self._all.pop(self._name, None)
        self.body[self.part].append(made)
        self.write()

    @property
    def _all(self) -> dict[str, Any]:
        held: dict[str, Any] = self.body.setdefault("begun", {})
        return held

    @property
    def _name(self) -> str:
        return f"{self.part}: {self.point.label}"


def figures(point: Point, pairs: list[dict[str, Arm]]) -> dict[str, Any]:
    """Medians and spread of a point's pairs, in seconds per recipient."""
    count = point.recipients
    out: dict[str, Any] = {"point": {**asdict(point), "label": point.label}}
    out["template"] = pairs[0]["delta"].facts
    out["linear_cpu_by_step"] = pairs[0]["linear"].facts["cpu_by_step"]
    for kind in ("cpu", "wall"):
        line = [getattr(pair["linear"].recipients, kind) / count for pair in pairs]
        warm = [getattr(pair["delta"].recipients, kind) / count for pair in pairs]
        cold = [getattr(pair["delta"].cold, kind) / count for pair in pairs]
        out[kind] = {
            "linear": line,
            "delta_cold": cold,
            "delta_warm": warm,
            "template": [getattr(pair["delta"].template, kind) for pair in pairs],
            "times_fewer_cold": [a / b for a, b in zip(line, cold, strict=True)],
            "times_fewer_warm": [a / b for a, b in zip(line, warm, strict=True)],
        }
        out[kind] |= _further(pairs, kind)
        floors = [pair["delta"].floor for pair in pairs]
        if floors[0]:
            parts = {name: [getattr(one[name], kind) for one in floors] for name in floors[0]}
            lowest = [sum(v) for v in zip(*(parts[name] for name in PARTS), strict=True)]
            out[kind]["floor"] = lowest
            out[kind]["floor_parts"] = {n: asdict(Spread.of(v)) for n, v in parts.items()}
            if "delta_further" in out[kind]:
                further = zip(out[kind]["delta_further"], lowest, strict=True)
                out[kind]["further_over_floor"] = [a / b for a, b in further]
        found = {n: asdict(Spread.of(v)) for n, v in out[kind].items() if n != "floor_parts"}
        out[f"{kind}_summary"] = found
    return out


def _further(pairs: list[dict[str, Arm]], kind: str) -> dict[str, list[float]]:
    """Both arms' recipients after the first; nothing where there was one."""
    both = [(pair["linear"].further, pair["delta"].further) for pair in pairs]
    known = [(line, short) for line, short in both if line is not None and short is not None]
    if not known:
        return {}
    line, short = ([float(getattr(cost, kind)) for cost in arm] for arm in zip(*known, strict=True))
    fewer = [a / b for a, b in zip(line, short, strict=True)]
    return {"linear_further": line, "delta_further": short, "times_fewer_further": fewer}
