"""What became of a pod, as an error: from pod objects as clusters show them.

The statuses are written after what users of real clusters posted (kubernetes/kubernetes issues
105467, 120168, 122932 and others) and the documentation; none was recorded on a cluster of ours.
"""

from __future__ import annotations

import pytest

from include import errors
from operators.runtimes.pod_failures import failure_of, is_dead, missing

pytestmark = pytest.mark.airflow

NODE_PRESSURE = (
    "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 898240Ki."
    " Container base was using 4Ki, request is 0, has larger consumption of ephemeral-storage. "
)
SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
PULL_SLOW = 'Back-off pulling image "r/worker:1": ErrImagePull: 503 Service Unavailable'
PULL_NONE = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "r/worker:9": failed to '
    'resolve reference "r/worker:9": r/worker:9: not found'
)
PULL_LOGIN = 'Back-off pulling image "r/worker:1": ErrImagePull: pull access denied, repository'
NO_NODE = "0/7 nodes are available: 3 Insufficient nvidia.com/gpu, 4 node(s) had untolerated taint"
OWN_DISK = 'Usage of EmptyDir volume "scratch" exceeds the limit "4Gi". '
OWN_LOGS = "Pod ephemeral local storage usage exceeds the total limit of containers 4Gi. "


def condition(kind, reason, message="", status="True"):
    return {"type": kind, "status": status, "reason": reason, "message": message}


def container(name="base", **state):
    return {"name": name, "ready": False, "restartCount": 0, "state": state}


def ended(code, reason="Error", message=None, name="base"):
    return container(name, terminated={"exitCode": code, "reason": reason, "message": message})


def waiting(reason, message=""):
    return container(waiting={"reason": reason, "message": message})


def pod(phase="Failed", *statuses, deleted=None, conditions=(), **status):
    metadata = {"name": "stage-sign-abc"}
    if deleted:
        metadata["deletionTimestamp"] = deleted
    return {
        "metadata": metadata,
        "spec": {"nodeName": "node-7"},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "containerStatuses": list(statuses),
            **status,
        },
    }


def disrupted(reason, message=""):
    return [condition("DisruptionTarget", reason, message)]


LOST = {
    "evicted, with the status of the kubelet": pod(reason="Evicted", message=NODE_PRESSURE),
    "evicted, whose reason was overwritten": pod(
        "Failed", ended(0, "Completed", name="other"), ended(137),
        conditions=disrupted("TerminationByKubelet", NODE_PRESSURE),
    ),
    "node shut down, container says OOMKilled": pod(
        "Failed", ended(137, "OOMKilled"), reason="Terminated", message=SHUTDOWN,
        conditions=disrupted("TerminationByKubelet", SHUTDOWN),
    ),
    "rejected by a node that shuts down": pod(reason="NodeShutdown", message="Pod was rejected"),
    "preempted by a more important pod": pod(
        "Failed", ended(137), conditions=disrupted("PreemptionByScheduler", "preempting")
    ),
    "drained through the eviction API": pod(
        "Failed", ended(143), conditions=disrupted("EvictionByEvictionAPI", "evicting")
    ),
    "taint manager, node unreachable": pod(
        "Running", container(running={}), deleted="2026-01-01T00:00:00Z",
        conditions=disrupted("DeletionByTaintManager", "deleting due to NoExecute taint"),
    ),
    "collected with its node": pod(
        "Failed", ended(137, "ContainerStatusUnknown", "The container could not be located")
    ),
    "node lost, of old": pod("Unknown", container(running={}), reason="NodeLost"),
    "rejected for want of a device": pod(reason="UnexpectedAdmissionError", message="Allocate"),
    "deleted by somebody": pod("Running", container(running={}), deleted="2026-01-01T00:00:00Z"),
    "ended by SIGTERM": pod("Failed", ended(143)),
    "gone": None,
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_a_pod_that_was_taken_away_is_preempted_whatever_its_container_says(name):
    failure = failure_of(LOST[name])
    assert failure.error is errors.Preempted


@pytest.mark.parametrize(
    ("found", "error", "code"),
    [
        (pod("Failed", ended(137, "OOMKilled")), errors.OutOfMemory, "pod.oom"),
        (pod("Failed", ended(1, "OOMKilled")), errors.OutOfMemory, "pod.oom"),
        (pod("Failed", ended(137)), errors.OutOfMemory, "pod.exit"),
        (pod(reason="Evicted", message=OWN_DISK), errors.OutOfMemory, "pod.scratch_full"),
        (
            pod("Failed", ended(137), conditions=disrupted("TerminationByKubelet", OWN_LOGS)),
            errors.OutOfMemory,
            "pod.scratch_full",
        ),
    ],
)
def test_a_pod_that_wanted_more_than_it_asked_for_is_out_of_memory(found, error, code):
    failure = failure_of(found)
    assert (failure.error, failure.code) == (error, code)


@pytest.mark.parametrize("code", [1, 2, 65, 70, 75, 77, 80, 143])
def test_a_stages_own_exit_code_decides(code):
    failure = failure_of(pod("Failed", ended(code)))
    assert failure.error is errors.BY_EXIT_CODE[code]
    assert failure.exit_code == code


@pytest.mark.parametrize(
    ("found", "error", "code"),
    [
        (
            pod("Pending", waiting("ImagePullBackOff", PULL_SLOW)),
            errors.Transient,
            "pod.image_pull",
        ),
        (
            pod("Pending", waiting("ErrImagePull", "i/o timeout")),
            errors.Transient,
            "pod.image_pull",
        ),
        (pod("Pending", waiting("ErrImagePull", PULL_NONE)), errors.Misconfigured, "pod.image"),
        (
            pod("Pending", waiting("ImagePullBackOff", PULL_LOGIN)),
            errors.Misconfigured,
            "pod.image",
        ),
        (pod("Pending", waiting("InvalidImageName", "a b")), errors.Misconfigured, "pod.image"),
        (
            pod("Pending", waiting("CreateContainerConfigError", 'secret "x" not found')),
            errors.Misconfigured,
            "pod.config",
        ),
        (
            pod("Failed", ended(128, "StartError", "exec: python")),
            errors.Misconfigured,
            "pod.command",
        ),
        (
            pod(
                "Pending", conditions=[condition("PodScheduled", "Unschedulable", NO_NODE, "False")]
            ),
            errors.Transient,
            "pod.unschedulable",
        ),
        (pod("Pending", waiting("ContainerCreating")), errors.Transient, "pod.slow_start"),
        (pod("Running", container(running={})), errors.Transient, "pod.left"),
        (
            pod(reason="DeadlineExceeded", message="Pod was active on the node longer"),
            errors.Transient,
            "pod.deadline",
        ),
        (
            pod("Failed", initContainerStatuses=[ended(3, name="weights")]),
            errors.Transient,
            "pod.init",
        ),
        (pod("Failed"), errors.Transient, "pod.failed"),
    ],
)
def test_what_a_pod_waited_for_says_whether_a_retry_helps(found, error, code):
    failure = failure_of(found)
    assert (failure.error, failure.code) == (error, code)
    assert failure.exit_code is None


def test_a_pod_that_succeeded_has_no_failure_even_while_it_is_deleted():
    done = ended(0, "Completed")
    assert failure_of(pod("Succeeded", done)) is None
    assert failure_of(pod("Running", done, deleted="2026-01-01T00:00:00Z")) is None


def test_events_say_what_an_undecided_pod_waited_for():
    event = {"type": "Warning", "reason": "FailedMount", "message": "MountVolume.SetUp failed"}
    normal = {"type": "Normal", "reason": "Scheduled", "message": "assigned"}
    failure = failure_of(pod("Pending", waiting("ContainerCreating")), [normal, event])
    assert "MountVolume.SetUp failed" in failure.message
    assert "assigned" not in failure.message


MOUNT = 'MountVolume.SetUp failed for volume "x" : '
ABSENT = {
    # Substra/hlf-k8s#150
    "secret": MOUNT + 'secret "hlf-tls-admin" not found',
    # cloudfoundry/eirini-release#111
    "secret, of old": MOUNT + 'secrets "secrets-2.16.4-1" not found',
    # higress-group/higress#1401
    "config map": MOUNT + 'configmap "higress-ca-root-cert" not found',
    # kubernetes/website#20043, kubernetes-sigs/jobset#291
    "entry": MOUNT + "configmap references non-existent config key: redis-config",
}
PASSING = {
    "cache that is late": MOUNT
    + "failed to sync secret cache: timed out waiting for the condition",
    "object that is not registered": MOUNT + 'object "ns"/"understudy-signer" not registered',
    "driver that starts": MOUNT + "driver name s.csi not found in the list of registered drivers",
    "timeout": "Unable to attach or mount volumes: unmounted volumes=[x]: timed out waiting",
}


def event(reason, message, kind="Warning"):
    return {"type": kind, "reason": reason, "message": message}


CREATING = pod("Pending", waiting("ContainerCreating"))


@pytest.mark.parametrize("said", ABSENT.values(), ids=ABSENT)
def test_a_volume_of_what_is_not_there_is_misconfigured_and_named(said):
    for late in ([], [event("FailedMount", PASSING["timeout"])]):
        failure = failure_of(CREATING, [event("FailedMount", said), *late])
        assert (failure.error, failure.code) == (errors.Misconfigured, "pod.config")
        assert said in failure.message
    assert missing(CREATING, [event("FailedMount", said)])


@pytest.mark.parametrize("said", PASSING.values(), ids=PASSING)
def test_a_volume_that_is_only_late_is_waited_for(said):
    assert failure_of(CREATING, [event("FailedMount", said)]).error is errors.Transient
    assert missing(CREATING, [event("FailedMount", said)]) is None


def test_a_volume_that_came_at_last_is_not_missing():
    events = [event("FailedMount", ABSENT["secret"]), event("Pulling", "Pulling image", "Normal")]
    assert missing(CREATING, events) is None
    assert failure_of(CREATING, events).error is errors.Transient
    assert missing(pod("Running", container(running={})), events[:1]) is None


@pytest.mark.parametrize(
    ("said", "absent"),
    [
        ('secret "icp-serviceid-apikey-secret" not found', True),  # ibm-common-service-operator#582
        ("couldn't find key SECURE_DATA in Secret default/deno-demo-secret", True),  # keptn#588
        ("failed to sync configmap cache: timed out waiting for the condition", False),
    ],
)
def test_variables_of_what_is_not_there_are_missing_and_a_late_cache_is_not(said, absent):
    found = missing(pod("Pending", waiting("CreateContainerConfigError", said)), [])
    assert bool(found) is absent
    assert missing(pod("Pending", waiting("ErrImagePull", PULL_NONE)), []) is None


@pytest.mark.parametrize("name", [name for name in LOST if name != "gone"])
def test_nothing_waits_for_a_dead_pod(name):
    assert is_dead(LOST[name])


def test_pods_that_wait_or_run_are_alive():
    assert not is_dead(pod("Running", container(running={})))
    assert not is_dead(pod("Pending", waiting("ContainerCreating")))
    assert not is_dead(pod("Pending", conditions=[condition("PodScheduled", "", "", "False")]))
