"""The live pointer: ``<tenant>/live/<stage>/<number>.json``, append only, the newest state holds.

The only place that says which backend is live. Planning reads it once a campaign and freezes what
it found into the plan. Without a pointer, and for whatever a champion cannot do, the built-in
default holds.

For upscaling the pointer decides what ``output.upscaler: auto`` means for a final video; a preview
stays Lanczos, and a brief that names an upscaler gets that one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import get_args

from include.contracts.base import Slug
from include.contracts.brief import Brief
from include.contracts.live import Canary, LiveStage, LiveState
from include.contracts.manifest import BackendRef
from include.errors import Refused, Usage
from include.keys import DEFAULTS
from include.store import ObjectStore
from models.registry import backend, backends

log = logging.getLogger(__name__)

STAGES: tuple[LiveStage, ...] = get_args(LiveStage)


def backend_ref(stage: str, name: str) -> BackendRef:
    """The registry's backend of that name, as keys have it.

    Raises:
        Usage: ``backend.unknown``: there is none.
    """
    try:
        found = backend(stage, name)
    except KeyError as error:
        raise Usage(
            f"{error.args[0]}; weights of your own are declared with ./understudy backends declare",
            code="backend.unknown",
        ) from error
    return BackendRef(name=found.name, version=found.version, weights_sha256=found.weights_sha256)


def history(store: ObjectStore, tenant: str, stage: str) -> list[LiveState]:
    """Every state that a pointer has had, oldest first."""
    keys = [info.key for info in store.list(f"{tenant}/live/{stage}/")]
    return [LiveState.model_validate_json(store.get(key)) for key in keys]


def current(store: ObjectStore, tenant: str, stage: str) -> LiveState | None:
    """The state that holds; None where nothing was ever rolled out."""
    return {state.stage: state for state in live_states(store, tenant)}.get(_stage(stage))


def _stage(stage: str) -> LiveStage:
    for known in STAGES:
        if known == stage:
            return known
    raise Usage(f"there is no pointer for {stage!r}; take one of {', '.join(STAGES)}")


def live_states(store: ObjectStore, tenant: str) -> tuple[LiveState, ...]:
    """The states that hold for a tenant, one for each stage that has a pointer."""
    newest: dict[str, str] = {}
    for info in store.list(f"{tenant}/live/"):
        newest[info.key.rsplit("/", 1)[0]] = info.key
    return tuple(LiveState.model_validate_json(store.get(key)) for key in newest.values())


def set_live(
    store: ObjectStore,
    before: LiveState | None,
    *,
    tenant: str,
    stage: str,
    champion: BackendRef | None,
    canary: Canary | None = None,
    rollout: str = "",
    by: str,
) -> LiveState:
    """Write the next state of a pointer.

    Args:
        store: where.
        before: the state that this one replaces; None for the first.
        tenant: whose.
        stage: of ``STAGES``.
        champion: None for the built-in default.
        canary: who tries another backend.
        rollout: by which rollout.
        by: who.

    Raises:
        Refused: ``live.changed``: somebody else wrote a state meanwhile, which then holds.
    """
    state = LiveState(
        tenant=tenant,
        stage=_stage(stage),
        number=before.number + 1 if before else 1,
        champion=champion,
        canary=canary,
        since=datetime.now(UTC),
        rollout=rollout,
        by=by,
    )
    key, body = f"{tenant}/live/{stage}/{state.number:06d}.json", state.model_dump_json().encode()
    # A lost reply makes a store say "taken" of our own state: contents decide.
    if not store.put_if_absent(key, body) and store.get(key) != body:
        raise Refused(
            f"{tenant}: somebody else changed what is live for {stage} at this moment; look at "
            "./understudy rollout status and try again",
            code="live.changed",
        )
    return state


def in_canary(rollout: str, unit: str, share: float) -> bool:
    """Whether a recipient is in a rollout's share; who is in a share is in every larger one.

    Args:
        rollout: the rollout's id.
        unit: the recipient's id.
        share: 0 to 1.
    """
    digest = hashlib.sha256(f"{rollout}/{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def chosen_for(states: Iterable[LiveState], brief: Brief, unit: Slug) -> dict[str, BackendRef]:
    """The backends of one recipient.

    Args:
        states: as they were when the campaign was planned.
        brief: the campaign.
        unit: the recipient's id.

    Raises:
        Usage: ``live.mismatch``: a champion is not what the registry has under its name.
    """
    chosen: dict[str, BackendRef] = {}
    for state in states:
        canary = state.canary
        if canary and in_canary(canary.rollout, unit, canary.share) and _usable(state, brief):
            chosen[state.stage] = canary.backend
        elif state.champion and applies(state.stage, state.champion, brief):
            _check(state, state.champion)
            chosen[state.stage] = state.champion
    return chosen


def _usable(state: LiveState, brief: Brief) -> bool:
    """Whether the canary's backend can be used here; what cannot never stops a campaign."""
    if state.canary is None or not applies(state.stage, state.canary.backend, brief):
        return False
    if _is_registered(state.stage, state.canary.backend):
        return True
    log.warning(
        "%s: the registry has no %s as rolled out by %s; its share gets the champion",
        state.tenant, state.canary.backend.name, state.canary.rollout,
    )  # fmt: skip
    return False


def applies(stage: str, ref: BackendRef, brief: Brief) -> bool:
    """Whether a brief leaves the choice to the pointer, and the backend can do what it asks for."""
    if stage != "upscale":
        return True
    if brief.output.upscaler != "auto" or brief.tier != "final" or brief.output.scale == 1:
        return False
    item = backends(stage).get(ref.name)
    return item is None or item.declared is None or item.declared.scale == brief.output.scale


def _is_registered(stage: str, ref: BackendRef) -> bool:
    return ref.name in backends(stage) and backend_ref(stage, ref.name) == ref


def _check(state: LiveState, ref: BackendRef) -> None:
    if _is_registered(state.stage, ref):
        return
    found = "knows no backend of that name"
    if ref.name in backends(state.stage):
        found = f"has {_said(backend_ref(state.stage, ref.name))}"
    raise Usage(
        f"{state.tenant}: live for {state.stage} is {_said(ref)}, but this installation {found}; "
        f"install or declare it again, or put what is there live: ./understudy rollout promote "
        f"--tenant {state.tenant} --stage {state.stage} --backend NAME",
        code="live.mismatch",
    )


def _said(ref: BackendRef) -> str:
    weights = f", weights {ref.weights_sha256[:12]}" if ref.weights_sha256 else ""
    return f"{ref.name} {ref.version}{weights}"


def default_ref(stage: str) -> BackendRef:
    """What a final video gets without a pointer."""
    return backend_ref(stage, DEFAULTS[_stage(stage)])
