"""A small Kubernetes API for KubernetesPodOperator, over real containers or processes.

**Not Kubernetes**: no scheduler, kubelet, admission, roles, TLS or watches. It implements the
routes that the operator of provider 10.25 and its trigger call (pods: create, list by labels, read,
patch, delete, log; events: list), and runs each pod's one container as ``launch`` says. Real are
exit codes, logs as they are written, configuration from config maps and secrets, and graceful
deletion; with ``pod_containers`` also volumes, memory limits, user, capabilities and the read-only
root. Acted, as an API server shows them, are evictions, lost nodes and pods that no node takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "understudy-test-token"
NODE = "test-node-1"


class ImageMissing(Exception):
    """The pod's image is not on this machine; what the kubelet would say."""


Launch = Callable[["Pod", Mapping[str, str]], "subprocess.Popen[str]"]
"""Starts a pod's container with this environment; its output on the process's stdout."""


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Pod:
    """One pod: what was asked for, what runs, what it said."""

    manifest: dict[str, Any]
    process: subprocess.Popen[str] | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)
    started: str = ""
    ended: str = ""
    exit_code: int | None = None
    acted: dict[str, Any] = field(default_factory=dict)
    """What is shown in the status instead of what is true."""
    events: list[dict[str, Any]] = field(default_factory=list)
    deleted: str | None = None
    killed_by_us: bool = False

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.manifest["metadata"]["name"])

    @property
    def container(self) -> dict[str, Any]:
        """Its container."""
        found: dict[str, Any] = self.manifest["spec"]["containers"][0]
        return found

    def wait_for_line(self, part: str, seconds: float = 120) -> None:
        """Wait until the container has written a line with this in it."""
        with self.news:
            found = self.news.wait_for(
                lambda: any(part in line for _, line in self.lines) or self.exit_code is not None,
                seconds,
            )
        assert found, f"{self.name} never wrote {part!r}"
        assert any(part in line for _, line in self.lines), f"{self.name} ended: {self.lines}"

    def shown(self) -> dict[str, Any]:
        """The pod as the API gives it."""
        metadata = dict(self.manifest["metadata"])
        if self.deleted:
            metadata["deletionTimestamp"] = self.deleted
        return {**self.manifest, "metadata": metadata, "status": self._status()}

    def _status(self) -> dict[str, Any]:
        if self.acted:
            return self.acted
        scheduled = {"type": "PodScheduled", "status": "True"}
        phase = "Running" if self.exit_code is None else "Failed"
        if self.exit_code == 0:
            phase = "Succeeded"
        return {
            "phase": phase,
            "conditions": [scheduled],
            "startTime": self.started,
            "containerStatuses": [self._container_status()],
        }

    def _container_status(self) -> dict[str, Any]:
        state: dict[str, Any] = {"running": {"startedAt": self.started}}
        if self.exit_code is not None:
            limited = "memory" in (self.container.get("resources") or {}).get("limits", {})
            oom = self.exit_code == 137 and limited and not self.killed_by_us
            reason = "Completed" if self.exit_code == 0 else "OOMKilled" if oom else "Error"
            state = {
                "terminated": {
                    "exitCode": self.exit_code,
                    "reason": reason,
                    "startedAt": self.started,
                    "finishedAt": self.ended,
                }
            }
        return {
            "name": self.container["name"],
            "image": self.container["image"],
            "imageID": "",
            "ready": self.exit_code is None,
            "restartCount": 0,
            "state": state,
        }


class KubeApi:
    """The server's state; ``serve`` puts it on a socket.

    Args:
        launch: how containers are started.
        config_maps: name to data.
        secrets: name to data.
    """

    def __init__(
        self,
        launch: Launch,
        *,
        config_maps: Mapping[str, Mapping[str, str]] | None = None,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.launch = launch
        self.config_maps = dict(config_maps or {})
        self.secrets = dict(secrets or {})
        self.pods: dict[str, Pod] = {}
        self.created: list[Pod] = []
        """Every pod ever, in order."""
        self.calls: list[str] = []
        self.unschedulable = 0
        """So many pods to come find no node."""
        self.refuse: tuple[int, str] | None = None
        """Status and message that the next creation gets."""
        self.on_create: Callable[[Pod], None] | None = None
        self.on_read: Callable[[Pod], None] | None = None
        self.lock = threading.RLock()

    # -- what the API does ------------------------------------------------------------------

    def create(self, manifest: dict[str, Any]) -> Pod:
        """Take a pod and start it."""
        manifest["metadata"].setdefault("uid", str(uuid.uuid4()))
        manifest["metadata"]["creationTimestamp"] = now()
        manifest["spec"]["nodeName"] = NODE
        pod = Pod(manifest)
        with self.lock:
            if pod.name in self.pods:
                raise FileExistsError(pod.name)
            self.pods[pod.name] = pod
            self.created.append(pod)
        if self.unschedulable:
            self.unschedulable -= 1
            said = "0/3 nodes are available: 3 Insufficient memory. preemption: not helpful"
            pod.acted = _waits("PodScheduled", "False", "Unschedulable", said)
            pod.manifest["spec"].pop("nodeName")
        else:
            self._start(pod)
        if self.on_create:
            self.on_create(pod)
        return pod

    def _start(self, pod: Pod) -> None:
        absent = self._absent_volume(pod)
        if absent:
            pod.acted = _holds(pod, "ContainerCreating", None)
            pod.events.append(_event(pod, "FailedMount", absent))
            return
        try:
            environment = self._environment(pod)
            pod.started = now()
            pod.process = self.launch(pod, environment)
        except KeyError as missing:
            pod.acted = _holds(pod, "CreateContainerConfigError", f"{missing.args[0]} not found")
        except ImageMissing as missing:
            pod.acted = _holds(pod, "ErrImagePull", str(missing))
            pod.events.append(_event(pod, "Failed", f"Failed to pull image: {missing}"))
        else:
            threading.Thread(target=self._follow, args=(pod,), daemon=True).start()

    def _absent_volume(self, pod: Pod) -> str | None:
        """What a kubelet says when it mounts a volume of what is not there."""
        for volume in pod.manifest["spec"].get("volumes") or ():
            secret, config = volume.get("secret"), volume.get("configMap")
            if not secret and not config:
                continue
            name = secret["secretName"] if secret else config["name"]
            found = (self.secrets if secret else self.config_maps).get(name)
            said = f'MountVolume.SetUp failed for volume "{volume["name"]}" : '
            if found is None:
                return f'{said}{"secret" if secret else "configmap"} "{name}" not found'
            for item in (secret or config).get("items") or ():
                if item["key"] not in found:
                    what = (
                        "references non-existent secret"
                        if secret
                        else ("configmap references non-existent config")
                    )
                    return f"{said}{what} key: {item['key']}"
        return None

    def _environment(self, pod: Pod) -> dict[str, str]:
        values: dict[str, str] = {}
        for source in pod.container.get("envFrom") or ():
            kind, have = "secret", self.secrets
            if "configMapRef" in source:
                kind, have = "configmap", self.config_maps
            name = source[f"{'configMap' if kind == 'configmap' else kind}Ref"]["name"]
            if name not in have:
                raise KeyError(f'{kind} "{name}"')
            values |= have[name]
        for variable in pod.container.get("env") or ():
            values[variable["name"]] = variable.get("value", "")
        return values

    def _follow(self, pod: Pod) -> None:
        assert pod.process is not None
        assert pod.process.stdout is not None
        for line in pod.process.stdout:
            with pod.news:
                pod.lines.append((now(), line.rstrip("\n")))
                pod.news.notify_all()
        code = pod.process.wait()
        with pod.news:
            pod.ended = now()
            pod.exit_code = 128 - code if code < 0 else code
            pod.news.notify_all()
        if pod.deleted:
            with self.lock:
                self.pods.pop(pod.name, None)

    def delete(self, pod: Pod, grace_s: float = 30) -> None:
        """SIGTERM, then SIGKILL; the pod is listed until its container has ended."""
        pod.deleted = now()
        if pod.process is None or pod.exit_code is not None or pod.acted:
            with self.lock:
                self.pods.pop(pod.name, None)
            return
        threading.Thread(target=self.stop, args=(pod, grace_s), daemon=True).start()

    def stop(self, pod: Pod, grace_s: float) -> None:
        """End a pod's container."""
        assert pod.process is not None
        pod.killed_by_us = True
        end = getattr(self.launch, "end", _end_group)
        end(pod, signal.SIGTERM)
        with pod.news:
            over = pod.news.wait_for(lambda: pod.exit_code is not None, grace_s)
        if not over:
            end(pod, signal.SIGKILL)

    # -- what tests let happen ---------------------------------------------------------------

    def evict(self, pod: Pod, message: str = "The node was low on resource: memory.") -> None:
        """As a kubelet under pressure does it: the container is killed, the pod stays as Failed."""
        self.stop(pod, 0)
        with pod.news:
            pod.news.wait_for(lambda: pod.exit_code is not None, 30)
        ended = {"exitCode": 137, "reason": "Error", "startedAt": pod.started, "finishedAt": now()}
        status = {**pod._container_status(), "state": {"terminated": ended}}
        pod.acted = {
            "phase": "Failed",
            "reason": "Evicted",
            "message": message,
            "startTime": pod.started,
            "conditions": [_disrupted("TerminationByKubelet", message)],
            "containerStatuses": [status],
        }

    def lose_node(self, pod: Pod) -> None:
        """The container stops without a word; the taint manager marks the pod for deletion."""
        shown = pod._status()
        said = "Taint manager: deleting due to NoExecute taint"
        pod.acted = {**shown, "conditions": [_disrupted("DeletionByTaintManager", said)]}
        pod.deleted = now()
        end = getattr(self.launch, "end", _end_group)
        end(pod, signal.SIGKILL)

    def forget(self, pod: Pod) -> None:
        """Somebody deletes the pod at once, by force."""
        self.stop(pod, 0)
        with self.lock:
            self.pods.pop(pod.name, None)

    def close(self) -> None:
        """End every container that still runs."""
        for pod in self.created:
            if pod.process is not None and pod.exit_code is None:
                self.stop(pod, 0)

    def select(self, selector: str) -> list[Pod]:
        """Pods by a label selector of equalities and absences."""
        with self.lock:
            return [pod for pod in self.pods.values() if _matches(pod, selector)]

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Listen on a free port; gives the URL."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            self.close()
            server.shutdown()
            server.server_close()


def kubeconfig(url: str, path: Path) -> Path:
    """Write what a client needs to reach the server."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
    path.write_text(json.dumps(config))
    return path


def _end_group(pod: Pod, sig: int) -> None:
    if pod.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pod.process.pid, sig)


def _waits(kind: str, status: str, reason: str, said: str) -> dict[str, Any]:
    condition = {"type": kind, "status": status, "reason": reason, "message": said}
    return {"phase": "Pending", "conditions": [condition]}


def _holds(pod: Pod, reason: str, said: str | None) -> dict[str, Any]:
    waiting = {"waiting": {"reason": reason, **({"message": said} if said else {})}}
    return {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{**pod._container_status(), "ready": False, "state": waiting}],
    }


def _disrupted(reason: str, said: str) -> dict[str, Any]:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": said}


def _event(pod: Pod, reason: str, said: str) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{pod.name}.{reason}", "uid": str(uuid.uuid4())},
        "involvedObject": {"kind": "Pod", "name": pod.name},
        "type": "Warning",
        "reason": reason,
        "message": said,
    }


def _matches(pod: Pod, selector: str) -> bool:
    labels = pod.manifest["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        if term.startswith("!"):
            if term[1:] in labels:
                return False
        elif "!=" in term:
            name, value = term.split("!=")
            if labels.get(name) == value:
                return False
        else:
            name, value = term.replace("==", "=").split("=")
            if labels.get(name) != value:
                return False
    return True


def _handler(api: KubeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.api = api
    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: KubeApi

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def _route(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        names = parts.path.strip("/").split("/")[2:]
        self.api.calls.append(f"{self.command} {parts.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._fail(401, "Unauthorized", "no valid token")
        if names[:1] != ["namespaces"] or len(names) < 3:
            return self._fail(404, "NotFound", f"no route {parts.path}")
        _, self.namespace, kind, *rest = names
        if kind == "events":
            return self._events()
        if kind != "pods":
            return self._fail(404, "NotFound", f"no resource {kind}")
        if not rest:
            return self._create() if self.command == "POST" else self._list()
        pod = self.api.pods.get(rest[0])
        if pod is None:
            return self._fail(404, "NotFound", f'pods "{rest[0]}" not found')
        if rest[1:] == ["log"]:
            return self._log(pod)
        actions = {"GET": self._read, "PATCH": self._patch, "DELETE": self._delete}
        return actions[self.command](pod)

    do_GET = do_POST = do_PATCH = do_DELETE = _route

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        body: dict[str, Any] = json.loads(self.rfile.read(length) or b"{}")
        return body

    def _create(self) -> None:
        body = self._body()
        if self.api.refuse:
            (status, said), self.api.refuse = self.api.refuse, None
            return self._fail(status, "Refused", said)
        if body["metadata"].get("namespace") != self.namespace:
            return self._fail(400, "BadRequest", "the namespace differs from the request's")
        return self._send(201, self.api.create(body).shown())

    def _list(self) -> None:
        pods = self.api.select(self.query.get("labelSelector", ""))
        items = [pod.shown() for pod in pods]
        self._send(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    def _events(self) -> None:
        name = self.query.get("fieldSelector", "").partition("involvedObject.name=")[2]
        pod = next((pod for pod in self.api.created if pod.name == name), None)
        items = pod.events if pod else []
        self._send(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": items})

    def _read(self, pod: Pod) -> None:
        if self.api.on_read:
            self.api.on_read(pod)
        self._send(200, pod.shown())

    def _patch(self, pod: Pod) -> None:
        labels = (self._body().get("metadata") or {}).get("labels") or {}
        pod.manifest["metadata"].setdefault("labels", {}).update(labels)
        self._send(200, pod.shown())

    def _delete(self, pod: Pod) -> None:
        grace = self._body().get("gracePeriodSeconds", self.query.get("gracePeriodSeconds"))
        default = pod.manifest["spec"].get("terminationGracePeriodSeconds", 30)
        self.api.delete(pod, float(default if grace is None else grace))
        self._send(200, pod.shown())

    def _log(self, pod: Pod) -> None:
        if pod.process is None:
            return self._fail(
                400, "BadRequest", f'container in pod "{pod.name}" is waiting to start'
            )
        stamped = self.query.get("timestamps") == "true"
        follow = self.query.get("follow") == "true"
        since = time.time() - float(self.query.get("sinceSeconds") or 1e9)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        done = 0
        while True:
            fresh, over = self._fresh(pod, done, wait_s=1 if follow else 0)
            done += len(fresh)
            for at, line in fresh:
                if datetime.fromisoformat(at).timestamp() >= since:
                    self._chunk(f"{at} {line}\n" if stamped else f"{line}\n")
            if over or not follow:
                break
        self._chunk("")

    @staticmethod
    def _fresh(pod: Pod, done: int, wait_s: float) -> tuple[list[tuple[str, str]], bool]:
        """Lines that were not sent yet, and whether they are the last."""
        with pod.news:
            pod.news.wait_for(lambda: len(pod.lines) > done or pod.exit_code is not None, wait_s)
            return pod.lines[done:], pod.exit_code is not None

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _fail(self, status: int, reason: str, said: str) -> None:
        self._send(status, {"kind": "Status", "status": "Failure", "reason": reason,
                            "message": said, "code": status})  # fmt: skip

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
