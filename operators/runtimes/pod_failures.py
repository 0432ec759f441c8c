"""What became of a pod, told as an error of ``include.errors``: a pure function of plain data.

The order of the questions matters, because a pod that loses its node also shows exit codes: a
container that is killed on a node that shuts down says 137, and some say OOMKilled. So what
happened to the node comes first, then what the pod waited for, then how the container ended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.errors import (
    BY_EXIT_CODE,
    Bug,
    Misconfigured,
    OutOfMemory,
    Preempted,
    Transient,
    UnderstudyError,
)
from operators.runtimes.pod_manifest import CONTAINER
from operators.runtimes.pod_needs import SCRATCH_FULL

Pod = Mapping[str, Any]
"""A pod as the API server gives it, in JSON."""


@dataclass(frozen=True)
class PodFailure:
    """Why a pod did not do its work."""

    error: type[UnderstudyError]
    code: str
    """Stable reason: ``pod.…``."""
    message: str
    exit_code: int | None = None
    """Set when the stage itself decided: an exit code of the stage contract."""


_LOST = frozenset(
    {"Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated", "NodeAffinity"}
    | {"UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfephemeral-storage"}
)
"""``status.reason`` of pods that a kubelet or the scheduler took away or did not let in."""
_OWN_DISK = ("emptydir volume", "ephemeral local storage usage exceeds", "exceeded its local")
_NO_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_PULLING = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"}
)
_PULL_REFUSED = (
    "not found", "manifest unknown", "unauthorized", "authentication required", "denied",
    "no basic auth credentials", "does not exist", "no match for platform",
)  # fmt: skip
_BAD_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_MISSING = re.compile(
    r"(?:secrets?|configmaps?) \"[^\"]+\" not found|non-existent (?:secret|config) key"
    r"|couldn't find key"
)
"""How kubelets say that a secret, a config map or a key of one is not there. Not: a cache that is
late (``failed to sync``, ``not registered``), or a driver that is not found yet."""
_MOUNTED = frozenset({"Pulling", "Pulled", "Created", "Started"})
"""Reasons of events that come once all volumes are mounted; those of the wait stay listed."""
_CANNOT_START = frozenset({"ContainerCannotRun", "StartError"})


def failure_of(pod: Pod | None, events: Sequence[Mapping[str, Any]] = ()) -> PodFailure | None:
    """Why a pod failed; None when its stage ended with 0.

    Args:
        pod: as it was read last; None when it does not exist any more.
        events: the pod's events, to say what an undecided pod was waiting for.
    """
    if pod is None:
        return PodFailure(
            Preempted, "pod.gone", "the pod was deleted, or its node with it, before it ended"
        )
    status = pod.get("status") or {}
    return (
        _own_disk_full(status)
        or _node_lost(pod, status)
        or _deadline(status)
        or _ended(status)
        or _waiting(status)
        or _not_mounted(status, events)
        or _not_scheduled(status)
        or _undecided(status, events)
    )


def missing(pod: Pod, events: Sequence[Mapping[str, Any]]) -> PodFailure | None:
    """What a pod waits for that is not there: a secret, a config map, or a key of one.

    Args:
        pod: as it was read last.
        events: the pod's.
    """
    status = pod.get("status") or {}
    failure = _waiting(status)
    if failure and failure.code == "pod.config" and _MISSING.search(failure.message):
        return failure
    return _not_mounted(status, events)


def is_dead(pod: Pod) -> bool:
    """Whether nothing can come of a pod any more: over, being deleted, or on a lost node."""
    status = pod.get("status") or {}
    return bool(
        status.get("phase") in ("Succeeded", "Failed", "Unknown")
        or (pod.get("metadata") or {}).get("deletionTimestamp")
        or _node_lost(pod, status)
    )


def _own_disk_full(status: Mapping[str, Any]) -> PodFailure | None:
    said = " ".join([status.get("message") or "", *(c.get("message") or "" for c in _all(status))])
    if any(words in said.lower() for words in _OWN_DISK):
        return PodFailure(OutOfMemory, SCRATCH_FULL, f"its scratch disk was full: {said.strip()}")
    return None


def _all(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [c for c in status.get("conditions") or () if c.get("status") == "True"]


def _node_lost(pod: Pod, status: Mapping[str, Any]) -> PodFailure | None:
    if _exit_code(status) == 0:
        return None
    for condition in _all(status):
        if condition.get("type") == "DisruptionTarget":
            reason = condition.get("reason") or "disruption"
            said = condition.get("message") or ""
            return PodFailure(Preempted, "pod.evicted", f"{reason}: {said}")
    reason = status.get("reason")
    if reason in _LOST or (status.get("phase") == "Unknown" and reason != "DeadlineExceeded"):
        said = status.get("message") or "the node does not answer"
        return PodFailure(Preempted, "pod.evicted", f"{reason or 'Unknown'}: {said}")
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return PodFailure(Preempted, "pod.deleted", "somebody deleted the pod before it ended")
    return None


def _deadline(status: Mapping[str, Any]) -> PodFailure | None:
    if status.get("reason") != "DeadlineExceeded":
        return None
    return PodFailure(Transient, "pod.deadline", status.get("message") or "it took too long")


def _statuses(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of the containers: init containers first, as they run first."""
    names = ("initContainerStatuses", "containerStatuses")
    return [each for name in names for each in status.get(name) or ()]


def _exit_code(status: Mapping[str, Any]) -> int | None:
    """With what the stage's container ended, or None."""
    for each in status.get("containerStatuses") or ():
        ended = (each.get("state") or {}).get("terminated")
        if each.get("name") == CONTAINER and ended:
            return int(ended.get("exitCode", 1))
    return 0 if status.get("phase") == "Succeeded" else None


def _ended(status: Mapping[str, Any]) -> PodFailure | None:
    for each in _statuses(status):
        ended = (each.get("state") or {}).get("terminated")
        if not ended or ended.get("exitCode") == 0:
            continue
        return _of_container(str(each.get("name")), ended)
    return None


def _of_container(name: str, ended: Mapping[str, Any]) -> PodFailure:
    code, reason = int(ended.get("exitCode", 1)), ended.get("reason") or ""
    said = f"container {name} ended with {code} ({reason}) {ended.get('message') or ''}".strip()
    if reason == "OOMKilled":
        return PodFailure(OutOfMemory, "pod.oom", said, exit_code=OutOfMemory.exit_code)
    if reason in _CANNOT_START:
        return PodFailure(Misconfigured, "pod.command", f"{said}; is it the worker's image?")
    if reason == "ContainerStatusUnknown":
        return PodFailure(Preempted, "pod.evicted", f"{said}; its node was lost")
    if name != CONTAINER:
        return PodFailure(Transient, "pod.init", said)
    return PodFailure(BY_EXIT_CODE.get(code, Bug), "pod.exit", said, exit_code=code)


def _waiting(status: Mapping[str, Any]) -> PodFailure | None:
    for each in _statuses(status):
        waiting = (each.get("state") or {}).get("waiting") or {}
        reason, said = waiting.get("reason"), waiting.get("message") or ""
        if reason in _NO_IMAGE or (reason in _PULLING and _is_refused(said)):
            return PodFailure(
                Misconfigured,
                "pod.image",
                f"{reason}: {said}; correct UNDERSTUDY_POD_IMAGE or its access",
            )
        if reason in _PULLING:
            return PodFailure(Transient, "pod.image_pull", f"{reason}: {said}")
        if reason in _BAD_CONFIG:
            return PodFailure(
                Misconfigured,
                "pod.config",
                f"{reason}: {said}; correct the pod template or what it names",
            )
    return None


def _not_mounted(
    status: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> PodFailure | None:
    """A volume of what is not there: events say so, while the container is only being created."""
    reasons = {event.get("reason") for event in events}
    if status.get("phase") != "Pending" or reasons & _MOUNTED:
        return None
    for event in events:
        said = event.get("message") or ""
        if event.get("reason") == "FailedMount" and _MISSING.search(said):
            return PodFailure(
                Misconfigured,
                "pod.config",
                f"FailedMount: {said}; make it in the pod's namespace, or correct the pod template",
            )
    return None


def _is_refused(said: str) -> bool:
    return any(words in said.lower() for words in _PULL_REFUSED)


def _not_scheduled(status: Mapping[str, Any]) -> PodFailure | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = condition.get("message") or condition.get("reason") or "no node was found"
            return PodFailure(Transient, "pod.unschedulable", f"no node takes the pod: {said}")
    return None


def _undecided(status: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> PodFailure | None:
    """A pod that was left while it waited or ran."""
    if _exit_code(status) == 0:
        return None
    phase = status.get("phase") or "unknown"
    warnings = [event for event in events if event.get("type") == "Warning"]
    said = "; ".join(f"{e.get('reason')}: {e.get('message')}" for e in warnings[-3:])
    if phase == "Failed":
        what = status.get("message") or status.get("reason") or said or "no reason was given"
        return PodFailure(Transient, "pod.failed", f"the pod failed: {what}")
    return PodFailure(Transient, "pod.slow_start" if phase == "Pending" else "pod.left",
                      f"it was given up while {phase}{f' ({said})' if said else ''}")  # fmt: skip
