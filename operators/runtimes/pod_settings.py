"""How stage pods are made: the ``UNDERSTUDY_POD_*`` variables of the Airflow side.

============================== ==============================================================
variable                       meaning (default)
============================== ==============================================================
UNDERSTUDY_POD_IMAGE           the stage worker's image (understudy-worker:latest)
UNDERSTUDY_POD_GPU_IMAGE       its CUDA variant; without one no stage asks for a GPU (none)
UNDERSTUDY_POD_NAMESPACE       where the pods live (understudy-stages)
UNDERSTUDY_POD_TEMPLATES       folder of the classes' pod templates: cpu, gpu-small, gpu-large, io
                               (docker/kubernetes/pods)
UNDERSTUDY_POD_CONNECTION      Airflow connection of the cluster; without one the service account
                               of the Airflow pod, else the kubeconfig (none)
UNDERSTUDY_POD_DEFERRABLE      0: the task waits in its worker and shows the stage's progress as it
                               comes; 1: it waits in the triggerer, the worker is free (1)
UNDERSTUDY_POD_MEMORY_MAX_MIB  most that a pod gets after it ran out of memory (32768)
UNDERSTUDY_POD_SCRATCH_MIB     local disk of every pod, instead of what its stage declares (none)
UNDERSTUDY_POD_START_S         how long a pod may wait for a node and its image, seconds (900)
UNDERSTUDY_POD_SPOT            taint of spot nodes that most stages tolerate (understudy/spot);
                               ``-`` for none
UNDERSTUDY_POD_KEEP_FAILED     1: pods that failed stay, to be looked at (0)
============================== ==============================================================
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from include.errors import Usage
from include.settings import PROJECT

TEMPLATES = PROJECT / "docker" / "kubernetes" / "pods"


@dataclass(frozen=True)
class PodSettings:
    """What the environment says; see the module's table."""

    image: str = "understudy-worker:latest"
    gpu_image: str | None = None
    namespace: str = "understudy-stages"
    templates: Path = TEMPLATES
    connection: str | None = None
    deferrable: bool = True
    memory_max_mib: int = 32768
    scratch_mib: int | None = None
    start_s: int = 900
    spot: str | None = "understudy/spot"
    keep_failed: bool = False
    core_hour: str | None = None
    """UNDERSTUDY_CORE_HOUR of the Airflow side, for the cost figures of pods."""

    @classmethod
    def from_env(cls) -> PodSettings:
        """Read the environment.

        Raises:
            Usage: a number is not one.
        """
        env = {
            name.removeprefix("UNDERSTUDY_POD_"): value
            for name, value in os.environ.items()
            if name.startswith("UNDERSTUDY_POD_") and value
        }
        spot = env.get("SPOT", cls.spot)
        return cls(
            image=env.get("IMAGE", cls.image),
            gpu_image=env.get("GPU_IMAGE"),
            namespace=env.get("NAMESPACE", cls.namespace),
            templates=Path(env.get("TEMPLATES", str(TEMPLATES))),
            connection=env.get("CONNECTION"),
            deferrable=env.get("DEFERRABLE", "1") != "0",
            memory_max_mib=_count(env, "MEMORY_MAX_MIB") or cls.memory_max_mib,
            scratch_mib=_count(env, "SCRATCH_MIB"),
            start_s=_count(env, "START_S") or cls.start_s,
            spot=None if spot == "-" else spot,
            keep_failed=env.get("KEEP_FAILED") == "1",
            core_hour=os.environ.get("UNDERSTUDY_CORE_HOUR") or None,
        )


def _count(env: dict[str, str], name: str) -> int | None:
    text = env.get(name)
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise Usage(f"UNDERSTUDY_POD_{name}={text!r} is not a whole number above 0")
    return int(text)
