"""A rollout from its start to its end: golden set, canary, promoted or rolled back.

A step that was made is not made again, so whoever drives a rollout may be interrupted and begin
anew. What is live changes through the pointer only.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from include.contracts.live import Canary, LiveState
from include.errors import BadInput, OutOfMemory, Refused, UnderstudyError, Usage
from include.live import backend_ref, current, default_ref, set_live
from include.local_run import Start
from include.provenance import audit
from include.rollout.canary import Look, judge_canary
from include.rollout.golden import GoldenSet, compare_golden, reason_of
from include.rollout.records import Begin, Rules, Step, Verdict
from include.rollout.statistics import overall, summary
from include.rollout.steps import (
    Rollout,
    advance,
    exists,
    load,
    recorded,
    rollouts,
    write,
)
from include.settings import Settings
from include.store import ObjectStore


def start(
    store: ObjectStore,
    tenant: str,
    stage: str,
    name: str,
    *,
    rules: Rules,
    golden: str = "",
    by: str,
    rollout: str | None = None,
) -> Rollout:
    """Begin a rollout; nothing is rendered yet.

    Args:
        store: where.
        tenant: whose campaigns.
        stage: ``upscale``, ``face_swap`` or ``lip_sync``.
        name: the new backend.
        rules: how it is judged.
        golden: brief of the golden campaign; empty for one of the sample's people.
        by: who or which run.
        rollout: its id; default by time. One that was started already goes on.

    Raises:
        Usage: there is no such stage or backend.
        Refused: ``rollout.running``: another one is under way; ``rollout.live``: the backend is
            live already.
    """
    if rollout is not None and exists(store, tenant, rollout):
        return load(store, tenant, rollout)
    before = current(store, tenant, stage)
    champion = before.champion if before else None
    challenger, is_live = backend_ref(stage, name), champion or default_ref(stage)
    _refuse_if_busy(store, tenant, stage)
    if challenger == is_live:
        raise Refused(
            f"{tenant}: {name} {challenger.version} is live for {stage} already",
            code="rollout.live",
        )
    begin = Begin.model_validate(
        {
            "stage": stage,
            "champion": champion,
            "champion_is": is_live,
            "challenger": challenger,
            "golden": golden,
            "rules": rules,
        }
    )
    made = rollout or f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]', '-', name)}"
    said = f"{stage}: {name} beside {is_live.name}, which is live"
    step = Step(
        tenant=tenant, rollout=made[:64], number=1, state="started", at=datetime.now(UTC), by=by,
        said=said, begin=begin,
    )  # fmt: skip
    started = write(store, Rollout((step,)))
    try:  # again: whoever looked before the other had written sees it now
        _refuse_if_busy(store, tenant, stage, but=started.id)
    except Refused:
        said = "another rollout of the stage was started at the same moment"
        advance(store, started, "rolled_back", by=by, reason="start.raced", said=said)
        raise
    return started


def _refuse_if_busy(store: ObjectStore, tenant: str, stage: str, but: str = "") -> None:
    for other in rollouts(store, tenant):
        if other.begin.stage == stage and not other.ended and other.id != but:
            raise Refused(
                f"{tenant}: the rollout {other.id} is under way ({other.last.state}); promote it "
                "or roll it back first",
                code="rollout.running",
            )


def measure(
    store: ObjectStore,
    rollout: Rollout,
    settings: Settings,
    *,
    golden: GoldenSet,
    by: str,
    start: Start | None = None,
) -> Rollout:
    """Do the golden work and judge it; a challenger that cannot do it is worse.

    Args:
        store: where rollouts are kept.
        rollout: that was started.
        settings: store, interpreters, price of a core hour.
        golden: the work.
        by: who drives it.
        start: where stages run; see ``include.local_run``.

    Raises:
        Misconfigured: as ``compare_golden``.
        Transient: as a stage says; run it again.
    """
    if rollout.step("measured") or rollout.ended:
        return rollout
    begin = rollout.begin
    run_id = f"rollout-{rollout.id}"
    try:
        found = compare_golden(begin, golden, settings, run_id, start)
    except UnderstudyError as error:
        if not isinstance(error, (BadInput, Usage, Refused, OutOfMemory)):
            raise
        said = f"the golden set could not be made: {error.message}"
        return advance(store, rollout, "measured", by=by, reason=reason_of(error), said=said)
    verdict = overall(found)
    return advance(
        store,
        rollout,
        "measured",
        by=by,
        reason=f"golden.{verdict}",
        said=f"golden set: {summary(found)}",
        comparisons=found,
    )


def gate(store: ObjectStore, rollout: Rollout, *, by: str) -> Rollout:
    """Roll back what the golden set did not show to be as good; let the rest go on."""
    measured = rollout.step("measured")
    if rollout.ended or measured is None or measured.reason == "golden.as_good":
        return rollout
    return roll_back(store, rollout, by=by, reason=measured.reason, said=measured.said)


def begin_canary(store: ObjectStore, rollout: Rollout, *, by: str) -> Rollout:
    """Give the challenger its share of the recipients of campaigns that are planned from now on.

    Raises:
        Refused: ``rollout.order``: the golden set was not passed; ``live.changed``: something else
            went live since the rollout was started.
    """
    if rollout.ended or rollout.step("canary"):
        return rollout
    measured = rollout.step("measured")
    if measured is None or measured.reason != "golden.as_good":
        raise Refused(f"rollout {rollout.id}: the golden set was not passed", code="rollout.order")
    begin, share = rollout.begin, rollout.begin.rules.share
    canary = Canary(backend=begin.challenger, share=share, rollout=rollout.id)
    before = current(store, rollout.tenant, begin.stage)
    if before is None or before.canary != canary:
        if (before.champion if before else None) != begin.champion or (before and before.canary):
            raise Refused(
                f"rollout {rollout.id}: what is live for {begin.stage} has changed since it was "
                "started; roll it back and start another",
                code="live.changed",
            )
        before = set_live(
            store,
            before,
            tenant=rollout.tenant,
            stage=begin.stage,
            champion=begin.champion,
            canary=canary,
            rollout=rollout.id,
            by=by,
        )
    said = (
        f"{begin.challenger.name} for {share:.0%} of the recipients, until {begin.rules.min_rows} "
        f"renders of either side say more, {begin.rules.max_hours:g} hours at most"
    )
    return advance(store, rollout, "canary", by=by, said=said, live=before.number)


def watched(
    store: ObjectStore,
    rollout: Rollout,
    found: Look,
    *,
    by: str,
    now: datetime | None = None,
) -> tuple[Rollout, Verdict]:
    """Take in what the canary's renders say; only a decision is a step.

    Returns:
        The rollout, and ``unclear`` while it goes on.
    """
    if rollout.ended or rollout.step("canary") is None:
        return rollout, "not_measured"
    verdict, reason, said = judge_canary(rollout, found, now or datetime.now(UTC))
    if verdict == "unclear":
        return rollout, verdict
    moved = advance(
        store, rollout, "watched", by=by, reason=reason, said=said, comparisons=found.found
    )
    return moved, verdict


def decide(store: ObjectStore, rollout: Rollout, *, by: str) -> Rollout:
    """Promote or roll back, as the watch found.

    Raises:
        Refused: ``rollout.order``: the canary was not decided on.
    """
    if rollout.ended:
        return recorded(store, rollout)
    seen = rollout.step("watched")
    if seen is None:
        raise Refused(f"rollout {rollout.id}: its canary is not decided", code="rollout.order")
    if seen.reason == "canary.as_good":
        return promote(store, rollout, by=by, reason=seen.reason, said=seen.said)
    return roll_back(store, rollout, by=by, reason=seen.reason, said=seen.said)


def promote(
    store: ObjectStore, rollout: Rollout, *, by: str, reason: str = "person", said: str = ""
) -> Rollout:
    """Make the challenger the champion.

    Raises:
        Refused: the rollout has ended, what is live was changed by something else, or the backend
            is another by now than the one that was tried.
        Usage: the backend is gone.
    """
    if recorded(store, rollout).ended:
        raise Refused(f"rollout {rollout.id} was {rollout.last.state}", code="rollout.ended")
    begin = rollout.begin
    if backend_ref(begin.stage, begin.challenger.name) != begin.challenger:
        raise Refused(
            f"rollout {rollout.id}: {begin.challenger.name} is not what was tried any more: its "
            "code or weights have changed; roll it back and start another",
            code="rollout.outdated",
        )
    before = current(store, rollout.tenant, begin.stage)
    if (before.champion if before else None) not in (begin.champion, begin.challenger):
        raise Refused(
            f"rollout {rollout.id}: another backend went live since it was started; roll it back",
            code="live.changed",
        )
    live = set_live(
        store,
        before,
        tenant=rollout.tenant,
        stage=begin.stage,
        champion=begin.challenger,
        rollout=rollout.id,
        by=by,
    )
    said = said or f"{begin.challenger.name} is live for {begin.stage}"
    return advance(store, rollout, "promoted", by=by, reason=reason, said=said, live=live.number)


def roll_back(
    store: ObjectStore, rollout: Rollout, *, by: str, reason: str = "person", said: str = ""
) -> Rollout:
    """Make live what was live before; also after a promotion, while nothing newer is live.

    Keys are those of before the rollout, so everything rendered then is still in the cache.

    Raises:
        Refused: it was rolled back already, or something newer is live.
    """
    if recorded(store, rollout).last.state == "rolled_back":
        raise Refused(f"rollout {rollout.id} was rolled back already", code="rollout.ended")
    begin = rollout.begin
    before = current(store, rollout.tenant, begin.stage)
    number = None
    if before and (before.rollout == rollout.id or _untouched_since(before, begin)):
        if before.canary or before.champion != begin.champion:
            state = set_live(
                store,
                before,
                tenant=rollout.tenant,
                stage=begin.stage,
                champion=begin.champion,
                rollout=rollout.id,
                by=by,
            )
            number = state.number
    elif rollout.last.state == "promoted":
        raise Refused(
            f"rollout {rollout.id}: something newer is live for {begin.stage}; roll that back",
            code="live.changed",
        )
    said = said or f"{begin.champion_is.name} is live for {begin.stage}, as before"
    return advance(store, rollout, "rolled_back", by=by, reason=reason, said=said, live=number)


def _untouched_since(live: LiveState, begin: Begin) -> bool:
    """Whether what a rollout put live is live, and others after it were only tried."""
    return live.rollout is not None and not live.canary and live.champion == begin.challenger


def set_by_hand(store: ObjectStore, tenant: str, stage: str, name: str | None, *, by: str) -> int:
    """Put a backend live without a rollout: a person's own decision, in the audit log.

    Args:
        store: where.
        tenant: whose.
        stage: of ``include.live.STAGES``.
        name: the backend; None for the built-in default.
        by: who.

    Returns:
        The number of the pointer's new state.

    Raises:
        Refused: ``rollout.running``: a rollout of the stage is under way.
        Usage: there is no such backend.
    """
    champion = None if name is None else backend_ref(stage, name)
    _refuse_if_busy(store, tenant, stage)
    before = current(store, tenant, stage)
    state = set_live(store, before, tenant=tenant, stage=stage, champion=champion, by=by)
    subject = {"stage": stage, "backend": name or "default", "live": str(state.number)}
    if champion and champion.weights_sha256:
        subject["weights"] = champion.weights_sha256
    audit.append(store, tenant, "live.set", by=audit.ident(by), subject=subject)
    return state.number
