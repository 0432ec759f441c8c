"""Pods of ``kube_api`` as real containers: podman with what the pod's spec asks for.

Honoured: image (never pulled), command, environment, user and group, read-only root, capabilities,
no new privileges, memory limit (without swap), scratch, secret and config map volumes. Networking
is the host's. Ignored, because one machine has nothing to choose from: node selectors, affinity,
tolerations, priority, processor and disk limits, GPUs.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.services.kube_api import ImageMissing, KubeApi, Pod
from tests.services.podman import environment, podman


class PodmanLauncher:
    """Starts a pod's container.

    Args:
        folder: where volumes are kept.
        mounts: read-only mounts that every container gets, as (host path, container path).
    """

    def __init__(self, folder: Path, mounts: Sequence[tuple[str, str]] = ()) -> None:
        self.folder, self.mounts = folder, mounts
        self.api: KubeApi | None = None

    def __call__(self, pod: Pod, values: Mapping[str, str]) -> subprocess.Popen[str]:
        image = pod.container["image"]
        if podman("image", "exists", image, check=False).returncode != 0:
            raise ImageMissing(f"{image}: manifest unknown")
        interpreter, *command = pod.container["command"]
        arguments = ["run", "--rm", "--pull=never", "--name", pod.name, "--entrypoint", interpreter]
        arguments += [*self._security(pod), *self._limits(pod), *self._volumes(pod)]
        for name, value in values.items():
            arguments += ["--env", f"{name}={value}"]
        self.folder.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            ["podman", *arguments, image, *command, *pod.container["args"]],
            cwd=self.folder,  # conmon notes there that a container ran out of memory
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def end(self, pod: Pod, sig: int) -> None:
        """Signal the container's first process."""
        podman("kill", "--signal", signal.Signals(sig).name, pod.name, check=False)

    @staticmethod
    def _security(pod: Pod) -> list[str]:
        of_pod = pod.manifest["spec"].get("securityContext") or {}
        own = {**of_pod, **(pod.container.get("securityContext") or {})}
        options = []
        if own.get("runAsNonRoot") and not own.get("runAsUser"):
            raise RuntimeError("runAsNonRoot without runAsUser")
        if "runAsUser" in own:
            options += ["--user", f"{own['runAsUser']}:{own.get('runAsGroup', own['runAsUser'])}"]
        if own.get("readOnlyRootFilesystem"):
            options += ["--read-only", "--read-only-tmpfs=false"]
        for name in (own.get("capabilities") or {}).get("drop") or ():
            options += [f"--cap-drop={name.lower()}"]
        if own.get("allowPrivilegeEscalation") is False:
            options += ["--security-opt=no-new-privileges"]
        return options

    @staticmethod
    def _limits(pod: Pod) -> list[str]:
        limits = (pod.container.get("resources") or {}).get("limits") or {}
        memory = limits.get("memory")
        if not memory:
            return []
        assert memory.endswith("Mi")
        size = memory.replace("Mi", "m")
        return [f"--memory={size}", f"--memory-swap={size}"]

    def _volumes(self, pod: Pod) -> list[str]:
        options = []
        for host, inside in self.mounts:
            options += ["--volume", f"{host}:{inside}:ro"]
        sources = {v["name"]: v for v in pod.manifest["spec"].get("volumes") or ()}
        group = (pod.manifest["spec"].get("securityContext") or {}).get("fsGroup", 0)
        for mount in pod.container.get("volumeMounts") or ():
            host_folder = self._volume(pod, sources[mount["name"]], group)
            mode = "ro" if mount.get("readOnly") else "rw"
            options += ["--volume", f"{host_folder}:{mount['mountPath']}:{mode}"]
        return options

    def _volume(self, pod: Pod, source: Mapping[str, Any], group: int) -> Path:
        folder = self.folder / pod.name / source["name"]
        folder.mkdir(parents=True)
        assert self.api is not None
        if "emptyDir" in source:
            files: Mapping[str, str] = {}
        elif "secret" in source:
            files = self.api.secrets[source["secret"]["secretName"]]
        else:
            files = self.api.config_maps[source["configMap"]["name"]]
        for name, text in files.items():
            (folder / name).write_text(text)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, group=group)
            path.chmod(0o2770 if path.is_dir() else 0o440)
        return folder
