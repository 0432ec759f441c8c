"""What breaks when, decided by a seed before anything runs."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from include.errors import Usage


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    does: str
    lasts_s: tuple[float, float] = (0.0, 0.0)
    """Shortest and longest time until it is healed; 0 for what is over at once."""
    needs: frozenset[str] = frozenset()
    """What must be there: ``ceph``, ``postgres``, ``disk``, ``netns``, ``clock``."""


_RESTART = (2.0, 10.0)
"""How long a supervisor takes to start again what ended."""

KINDS: dict[str, Kind] = {
    "stage-kill": Kind("kill -9 of a stage process or one of its helpers"),
    "worker-kill": Kind("kill -9 of the executor's worker that has a task"),
    "task-kill": Kind("kill -9 of a task's own process"),
    "scheduler-kill": Kind("kill -9 of the scheduler, with its workers or without", _RESTART),
    "api-kill": Kind("kill -9 of the API server", _RESTART),
    "dag-processor-kill": Kind("kill -9 of the DAG processor", _RESTART),
    "duplicate": Kind("the same campaign is triggered once more while it runs"),
    "lease-takeover": Kind(
        "a stage that holds a lease is stopped until another run takes the lease over",
        (68.0, 80.0),
    ),
    "disk-full": Kind(
        "no space for scratch files and a store on disk", (5.0, 20.0), frozenset({"disk"})
    ),
    "clock-jump": Kind(
        "the clock of stages jumps and comes back", (10.0, 30.0), frozenset({"clock"})
    ),
    "store-kill": Kind("kill -9 of a daemon of the S3 server", _RESTART, frozenset({"ceph"})),
    "network-cut": Kind("the link to the S3 server is down", (5.0, 25.0), frozenset({"netns"})),
    "slow-store": Kind(
        "every piece to and from the S3 server is late", (15.0, 40.0), frozenset({"ceph"})
    ),
    "database-kill": Kind(
        "kill -9 of the database with its back ends", _RESTART, frozenset({"postgres"})
    ),
}


@dataclass(frozen=True)
class Planned:
    """One fault of a round."""

    kind: str
    at: float
    """When, as a share of the time that the undisturbed round took."""
    lasts_s: float
    choice: int
    """Decides about victims and amounts."""


@dataclass(frozen=True)
class RoundPlan:
    """One round."""

    number: int
    cold: bool
    """Whether the template has to be compiled too."""
    faults: tuple[Planned, ...]


def possible(having: Collection[str], wanted: Iterable[str] = ()) -> list[str]:
    """The kinds that can be injected.

    Args:
        having: what is there, in the words of ``Kind.needs``.
        wanted: only these kinds; empty for all.

    Raises:
        Usage: a wanted kind is unknown or needs what is not there.
    """
    can = [name for name, kind in KINDS.items() if kind.needs <= set(having)]
    for name in wanted:
        if name not in KINDS:
            raise Usage(f"there is no fault {name!r}; known: {', '.join(KINDS)}")
        if name not in can:
            missing = ", ".join(sorted(KINDS[name].needs - set(having)))
            raise Usage(f"the fault {name} needs {missing}, which is not there")
    return list(wanted) or can


def make_schedule(
    seed: int, rounds: int, kinds: list[str], faults_a_round: int = 3
) -> list[RoundPlan]:
    """Deal the kinds out to rounds like cards: none comes again before all were there.

    The same arguments give the same schedule.
    """
    chance = random.Random(seed)
    deck: list[str] = []
    plans = []
    for number in range(1, rounds + 1):
        dealt: list[str] = []
        while len(dealt) < min(faults_a_round, len(kinds)):
            if not deck:
                deck = chance.sample(kinds, len(kinds))
            card = next((name for name in deck if name not in dealt), None)
            if card is None:
                deck += chance.sample(kinds, len(kinds))
                continue
            deck.remove(card)
            dealt.append(card)
        faults = [_planned(chance, kind) for kind in dealt]
        cold = chance.random() < 1 / 4
        plans.append(RoundPlan(number, cold, tuple(sorted(faults, key=lambda f: f.at))))
    return plans


def _planned(chance: random.Random, kind: str) -> Planned:
    lasts = round(chance.uniform(*KINDS[kind].lasts_s), 1)
    return Planned(kind, round(chance.uniform(0.1, 0.8), 3), lasts, chance.randrange(1 << 30))
