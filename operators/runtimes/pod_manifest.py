"""The pod of one stage, as the API server gets it: a class's template and what the stage needs.

Templates (``docker/kubernetes/pods/<class>.yaml``) hold what a cluster's operator decides: node
pools, service account, configuration, secrets, security. Here the stage's own part is put in:
command, image, resources, scratch disk, tolerations. Plain data in and out.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.errors import Misconfigured
from include.settings import ALLOCATOR
from operators.runtimes.pod_needs import PodNeeds
from operators.runtimes.pod_settings import PodSettings

CONTAINER = "base"
"""Name of the container that runs the stage; what KubernetesPodOperator looks for."""
SCRATCH = "/scratch"
"""Where the pod's local disk is mounted; the only place it may write to."""
REQUEST = "understudy/request"
"""Annotation: which request the pod works on."""
WORK = "understudy/work"
"""Label: what the pod works on, whichever try started it."""
_PUBLISHED = ("UNDERSTUDY_REVOKED", "UNDERSTUDY_CONSENT_KEYS", "UNDERSTUDY_BACKENDS")
"""Files that stages read and that decide what is published; a pod has none of ours."""
_SIGNED = ("UNDERSTUDY_SIGNER_CHAIN", "UNDERSTUDY_TRUST_ANCHORS")
"""The same for pods that sign: without them a development chain would. A chain asks for its key."""
_ROOM_MIB = 256
"""Beside the scratch volume, for logs."""
_ROOM_S = 300
"""After the task's own time limit, which is to come first."""


def work_label(*parts: object) -> str:
    """A label value for a piece of work, from what names it."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def load_template(settings: PodSettings, pod_class: str) -> dict[str, Any]:
    """The template of a class.

    Raises:
        Misconfigured: there is none, or it is not a pod with the container ``base`` first.
    """
    import yaml

    path = Path(settings.templates) / f"{pod_class}.yaml"
    try:
        template = yaml.safe_load(path.read_text(encoding="utf-8"))
        first = template["spec"]["containers"][0]["name"]
    except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise Misconfigured(
            f"{path} is not a pod template: {error!r}; see UNDERSTUDY_POD_TEMPLATES",
            code="pod.template",
        ) from error
    if template.get("kind") != "Pod" or first != CONTAINER:
        raise Misconfigured(
            f"{path} has to be a Pod whose first container is {CONTAINER!r}", code="pod.template"
        )
    found: dict[str, Any] = template
    return found


def check_told(template: Mapping[str, Any], pod_class: str, environment: Mapping[str, str]) -> None:
    """Refuse a template whose pods would publish by other rules than those that hold here.

    Args:
        template: the class's template.
        pod_class: its name.
        environment: of the task.

    Raises:
        Misconfigured: a setting that decides what is published is set here and not there.
    """
    named = template["spec"]["containers"][0].get("env") or ()
    told = {each["name"] for each in named if each.get("value") or each.get("valueFrom")}
    wanted = (*_PUBLISHED, *(_SIGNED if pod_class == "io" else ()))
    lacking = [name for name in wanted if environment.get(name) and name not in told]
    if lacking:
        raise Misconfigured(
            f"{', '.join(lacking)} decides what is published and is set here, but not in the "
            f"template of the pods: add it to env of the container {CONTAINER!r} in "
            f"{pod_class}.yaml (envFrom cannot be checked), and mount the file that it names; "
            "see UNDERSTUDY_POD_TEMPLATES",
            code="pod.settings",
        )


def pod_manifest(
    template: Mapping[str, Any],
    needs: PodNeeds,
    settings: PodSettings,
    *,
    stage: str,
    request_uri: str,
    threads: int,
    timeout_s: float,
) -> dict[str, Any]:
    """The pod of a request.

    Args:
        template: the class's template.
        needs: what the pod asks for.
        settings: the images and the spot nodes' taint.
        stage: the stage's name.
        request_uri: ``store-uri#object-key``: all that the pod is told.
        threads: what the stage may use.
        timeout_s: how long the task waits. A pod that nobody waits for any more ends soon after.
    """
    pod: dict[str, Any] = copy.deepcopy(dict(template))
    metadata = pod.setdefault("metadata", {})
    metadata["namespace"] = settings.namespace
    metadata.setdefault("annotations", {})[REQUEST] = request_uri
    spec = pod["spec"]
    spec["restartPolicy"] = "Never"
    spec["activeDeadlineSeconds"] = round(timeout_s) + _ROOM_S
    container = spec["containers"][0]
    container["image"] = (settings.gpu_image if needs.gpus else None) or settings.image
    container["command"] = ["python", "-m", "include.stages"]
    container["args"] = [stage, "--request", request_uri]
    container["resources"] = _resources(needs)
    variables = container.setdefault("env", [])
    known = {variable["name"] for variable in variables}
    if settings.core_hour and "UNDERSTUDY_CORE_HOUR" not in known:
        variables.append({"name": "UNDERSTUDY_CORE_HOUR", "value": settings.core_hour})
    variables.extend(_environment(threads))
    container.setdefault("volumeMounts", []).append({"name": "scratch", "mountPath": SCRATCH})
    disk = {"sizeLimit": f"{needs.scratch_mib}Mi"}
    spec.setdefault("volumes", []).append({"name": "scratch", "emptyDir": disk})
    if needs.spot and settings.spot:
        spec.setdefault("tolerations", []).append({"key": settings.spot, "operator": "Exists"})
    if needs.avoid:
        _prefer_other_nodes(spec, needs.avoid)
    return pod


def _resources(needs: PodNeeds) -> dict[str, Any]:
    """Memory and disk are what is asked for and no more; the processor may be shared when idle."""
    disk = f"{needs.scratch_mib + _ROOM_MIB}Mi"
    memory = f"{needs.memory_mib}Mi"
    both: dict[str, str] = {"memory": memory, "ephemeral-storage": disk}
    if needs.gpus:
        both["nvidia.com/gpu"] = str(needs.gpus)
    return {"requests": {"cpu": f"{round(1000 * needs.cpu)}m", **both}, "limits": both}


def _environment(threads: int) -> list[dict[str, str]]:
    values = {
        "TMPDIR": SCRATCH,
        "HOME": SCRATCH,
        **ALLOCATOR,
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def _prefer_other_nodes(spec: dict[str, Any], nodes: tuple[str, ...]) -> None:
    """Keep away from nodes that pods were lost on, unless there are no others."""
    rule = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": list(nodes)}
    term = {"weight": 100, "preference": {"matchExpressions": [rule]}}
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    affinity.setdefault("preferredDuringSchedulingIgnoredDuringExecution", []).append(term)
