"""How each kind of fault is injected and healed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

from include.chaos.processes import busy_workers, send, stage_mains, stage_processes, tasks
from include.chaos.schedule import Planned
from include.chaos.world import World
from include.cli.sessions import signal_session

Trigger = Callable[[], object]
"""Starts the campaign of the round once more."""


@dataclass(frozen=True)
class Injected:
    """A fault that is in force."""

    said: str
    heal: Callable[[], None] | None = None
    """Ends it, as a supervisor or an administrator would; None when it is over already."""


def inject(world: World, planned: Planned, trigger: Trigger) -> Injected | None:
    """Inject a fault.

    Args:
        world: what to break.
        planned: what to do.
        trigger: starts the campaign of the round once more.

    Returns:
        What was done; None when there is nobody to hurt at this moment: try again.
    """
    return _INJECT[planned.kind](world, random.Random(planned.choice), trigger)


def _kill_stage(world: World, chance: random.Random, trigger: Trigger) -> Injected | None:
    victims = stage_processes(world.token)
    if not victims:
        return None
    victim = chance.choice(victims)
    if not send(victim.pid, signal.SIGKILL):
        return None
    return Injected(f"killed {_short(victim.command)}")


def _kill_worker(world: World, chance: random.Random, trigger: Trigger) -> Injected | None:
    victims = busy_workers(world.stack.pid("scheduler"))
    if not victims or not send(chance.choice(victims).pid, signal.SIGKILL):
        return None
    return Injected("killed a worker of the executor")


def _kill_task(world: World, chance: random.Random, trigger: Trigger) -> Injected | None:
    victims = tasks(world.stack.pid("scheduler"))
    if not victims or not send(chance.choice(victims).pid, signal.SIGKILL):
        return None
    return Injected("killed a task's process")


def _kill_scheduler(world: World, chance: random.Random, trigger: Trigger) -> Injected:
    pid = world.stack.pid("scheduler")
    world.down.add("scheduler")
    alone = chance.random() < 0.5
    if alone:
        send(pid, signal.SIGKILL)
    else:  # as a container runtime or systemd does
        signal_session(pid, signal.SIGKILL)
    with_whom = "alone, its workers live on for now" if alone else "with its workers"
    return Injected(f"killed the scheduler {with_whom}", lambda: world.revive("scheduler"))


def _kill_group(name: str) -> Callable[[World, random.Random, Trigger], Injected]:
    def kill(world: World, chance: random.Random, trigger: Trigger) -> Injected:
        world.down.add(name)
        signal_session(world.stack.pid(name), signal.SIGKILL)
        return Injected(f"killed the {name}", lambda: world.revive(name))

    return kill


def _duplicate(world: World, chance: random.Random, trigger: Trigger) -> Injected | None:
    return Injected("triggered the campaign again") if trigger() else None


def _take_over(world: World, chance: random.Random, trigger: Trigger) -> Injected | None:
    holders = stage_mains(world.token)
    if not holders:
        return None
    victim = chance.choice(holders)
    if not trigger():
        return None
    send(victim.pid, signal.SIGSTOP)
    said = f"stopped {_short(victim.command)}, triggered the campaign again"
    return Injected(said, lambda: _go_on(victim.pid))


def _go_on(pid: int) -> None:
    send(pid, signal.SIGCONT)


def _fill_disk(world: World, chance: random.Random, trigger: Trigger) -> Injected:
    disk = world.disk
    if disk is None:
        raise ValueError("there is no small disk")
    ballast = disk / "ballast"
    size = 0
    with ballast.open("wb") as file:
        for step in (1 << 20, 1 << 12):  # others take and give space meanwhile
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
    return Injected(f"filled the disk ({size >> 20} MiB)", lambda: ballast.unlink(missing_ok=True))


_JUMPS_S = (7200, -7200, 90, -90, 3 * 86400)


def _jump(world: World, chance: random.Random, trigger: Trigger) -> Injected:
    by = chance.choice(_JUMPS_S)
    world.jump(by)
    return Injected(f"the clock of stages jumped by {by:+} s", lambda: world.jump(0))


def _kill_store(world: World, chance: random.Random, trigger: Trigger) -> Injected:
    ceph = world.ceph
    if ceph is None:
        raise ValueError("there is no S3 server of our own")
    program = chance.choice(sorted(ceph.daemons))
    ceph.kill(program)
    return Injected(f"killed {program}", lambda: ceph.restart(program))


def _cut(world: World, chance: random.Random, trigger: Trigger) -> Injected:
    world.cut(down=True)
    return Injected("took the link to the store down", lambda: world.cut(down=False))


def _slow(world: World, chance: random.Random, trigger: Trigger) -> Injected:
    proxy = world.proxy
    if proxy is None:
        raise ValueError("there is no proxy before the store")
    delay = round(chance.uniform(0.2, 1.0), 2)
    proxy.delay_s = delay

    def heal() -> None:
        proxy.delay_s = 0.0

    return Injected(f"{delay:.2f} s more for each piece to and from the store", heal)


def _kill_database(world: World, chance: random.Random, trigger: Trigger) -> Injected:
    server = world.server
    if server is None:
        raise ValueError("there is no database server of our own")
    server.kill()
    return Injected("killed PostgreSQL", lambda: server.start(wait=False))


def _short(command: str) -> str:
    words = command.split()
    if "include.stages" in words:
        return "stage " + words[words.index("include.stages") + 1]
    return "a stage's helper " + words[0].rpartition("/")[2]


_INJECT: dict[str, Callable[[World, random.Random, Trigger], Injected | None]] = {
    "stage-kill": _kill_stage,
    "worker-kill": _kill_worker,
    "task-kill": _kill_task,
    "scheduler-kill": _kill_scheduler,
    "api-kill": _kill_group("api-server"),
    "dag-processor-kill": _kill_group("dag-processor"),
    "duplicate": _duplicate,
    "lease-takeover": _take_over,
    "disk-full": _fill_disk,
    "clock-jump": _jump,
    "store-kill": _kill_store,
    "network-cut": _cut,
    "slow-store": _slow,
    "database-kill": _kill_database,
}
