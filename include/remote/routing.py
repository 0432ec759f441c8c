"""Own machines first; a model API when waiting for them would miss the deadline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Load:
    """How busy our own machines are."""

    slots: int
    """Stage processes at a time."""
    busy: int
    """Slots that are taken."""
    queued: int
    """Tasks that wait for one and come before ours."""


@dataclass(frozen=True)
class Work:
    """What is to be placed."""

    seconds: float
    """What it takes on a machine of ours."""
    rest_s: float
    """What comes after it until its videos are there."""
    deadline: float | None
    """When these are due, in seconds since 1970; None when it does not matter."""


@dataclass(frozen=True)
class Route:
    """Where to go, and why."""

    where: Literal["local", "wait", "burst"]
    wait_s: float
    """Predicted time in the queue."""
    reason: str


def predicted_wait(load: Load, each_s: float) -> float:
    """Seconds until a slot is ours, if each task takes ``each_s``.

    With all slots taken, one becomes free every ``each_s / slots``, and those before us take
    theirs first.
    """
    if load.slots < 1:
        return math.inf
    return max(0, load.busy + load.queued + 1 - load.slots) * each_s / load.slots


def route(load: Load, work: Work, now: float, api: str | None) -> Route:
    """Decide where work goes.

    Args:
        load: as measured.
        work: what it is.
        now: seconds since 1970.
        api: the endpoint that would take it; None when there is none, or none that works.
    """
    wait = predicted_wait(load, work.seconds)
    if wait == 0:
        return Route("local", 0.0, f"{load.slots - load.busy} of {load.slots} own slots are free")
    queue = f"{load.busy} of {load.slots} own slots are taken, {load.queued} tasks wait"
    if work.deadline is None:
        return Route("wait", wait, f"{queue}; nothing is due")
    late = now + wait + work.seconds + work.rest_s - work.deadline
    if late <= 0:
        return Route("wait", wait, f"{queue}; {-late:.0f} s to spare after {wait:.0f} s of waiting")
    said = f"{queue}: {wait:.0f} s of waiting would be {late:.0f} s too long"
    if api is None:
        return Route("wait", wait, f"{said}, but no model API can take it")
    return Route("burst", wait, f"{said}; {api} takes it")
