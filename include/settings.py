"""Every knob that comes from the environment, in one place.

========================== ==================================================================
variable                   meaning (default)
========================== ==================================================================
UNDERSTUDY_STORE           object store: a directory or ``s3://bucket/prefix`` (.understudy/store)
UNDERSTUDY_S3_CONNECT_S    seconds until a connection to S3 must stand (5)
UNDERSTUDY_S3_READ_S       seconds without a byte until a request to S3 counts as hung (60)
UNDERSTUDY_STATE           keys, digest index (~/.local/state/understudy)
UNDERSTUDY_ROOTS           folders that briefs and their media may lie in, separated like PATH
                           (the project's folder)
UNDERSTUDY_WORKER_PYTHON   interpreter that runs stages (.venv/worker/bin/python)
UNDERSTUDY_NUDITY_PYTHON   interpreter of the nudity detector (.venv/nudity/bin/python)
UNDERSTUDY_CONSENT_KEYS    tenants' consent keys (below UNDERSTUDY_STATE)
UNDERSTUDY_BACKENDS        YAML file that declares backends with weights of your own; planner and
                           workers read it (none; see models/registry.py)
UNDERSTUDY_POD_*           how pods are made: see operators/runtimes/pod_settings.py
UNDERSTUDY_QUEUES          Celery queues that stages' tasks are sent to, of ``cpu,io,gpu-small,
                           gpu-large`` (none: Airflow's default queue)
UNDERSTUDY_THREADS         threads per stage process (1)
UNDERSTUDY_DEVICE          where upscalers compute: cpu, cuda, cuda:N, or auto: a GPU where one has
                           room, else the CPU; in no key (cpu)
UNDERSTUDY_DEVICE_WAIT_S   seconds that a stage process waits for its share of a GPU's memory (60)
UNDERSTUDY_DEVICE_DIR      folder of this machine where its processes agree who uses how much of a
                           GPU, and where drained GPUs are remembered (one below TMPDIR)
UNDERSTUDY_DEVICE_TABLE    JSON list of GPUs instead of what the driver says (none; see
                           include/devices/health.py for the fields)
UNDERSTUDY_SLOTS           stage processes at a time on this machine (number of cores)
UNDERSTUDY_SHARD_SIZE      recipients per shard; 0 chooses by campaign size (0)
UNDERSTUDY_CHUNK_S         seconds of a chunk of a long template; 0 for no chunks (10)
UNDERSTUDY_REVOKED         file with one revoked consent record id per line (none)
UNDERSTUDY_NOOP            1: stages do nothing; for benchmarks of the graph, which mark a store for
                           it, and refused in any other (off)
UNDERSTUDY_CORE_HOUR       price of one core for an hour, for cost figures (0.04)
UNDERSTUDY_ROLLOUT_RULES   YAML file of rules by which new backends are judged
                           (include/rollout/rules.yaml)
UNDERSTUDY_RUNTIME         where stages are run: local; kubernetes (pods); remote (what a model API
                           can do), or hybrid (own machines first, APIs when a deadline would be
                           missed) (local)
UNDERSTUDY_REMOTE          YAML file that declares model APIs, prices and fallbacks (none; see
                           include/remote/config.py). UNDERSTUDY_REMOTE_TOKEN, or what an endpoint's
                           token_env names, holds its bearer token
UNDERSTUDY_REMOTE_CALLBACK address of this machine at which APIs may say that a job is over; signed
                           with UNDERSTUDY_REMOTE_WEBHOOK_SECRET (none: they are asked)
UNDERSTUDY_BURST           tasks that may wait, or be at an API, beside the slots of our own when
                           the runtime is hybrid: the pool cpu is made larger by it (4)
UNDERSTUDY_DEADLINE_S      seconds after its start by which a run should be done; what hybrid goes
                           by; 0 for no deadline (0)
UNDERSTUDY_DRIFT_POLICY    what an open drift gate does to new campaigns: warn, review (every render
                           is looked at) or stop; ``warn,acme=stop`` for single tenants (warn)
========================== ==================================================================
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from include.consent import KEYS_ENV
from include.devices.choice import DEVICE_ENV, DeviceChoice, parse_device
from include.errors import Usage
from include.provenance.state import state_dir

RUNTIMES = ("local", "remote", "hybrid", "kubernetes")
"""Where stages can run; the first is the default."""

PROJECT = Path(__file__).resolve().parent.parent

ALLOCATOR = {"MALLOC_ARENA_MAX": "2"}
"""Environment of a stage process: how many heaps glibc may keep.

Without it every thread may get one, up to eight a core; FFmpeg and x264 start threads with every
GOP, and what a heap keeps free no other can use: ``compose`` grew with a video's length.
"""


@dataclass(frozen=True)
class Settings:
    """What the environment says; see the module's table."""

    store: str
    state: Path
    roots: tuple[Path, ...]
    worker_python: Path
    nudity_python: Path
    threads: int = 1
    device: DeviceChoice = field(default_factory=DeviceChoice)
    """Where what a GPU can do is computed; see ``include.devices``."""
    device_wait_s: float = 60.0
    """How long to wait for a share of a GPU's memory, seconds."""
    device_dir: Path | None = None
    """Where the processes of this machine agree on shares; None for the default."""
    device_table: Path | None = None
    """GPUs by hand."""
    slots: int = 2
    shard_size: int = 0
    chunk_s: float = 10.0
    """Length of the chunks that long templates are worked through in, seconds; 0 for none."""
    revoked: Path | None = None
    core_hour: float = 0.04
    """Price of one core for an hour, in the brief's currency (US dollars without one)."""
    rollout_rules: Path | None = None
    """By which new backends are judged; None for those of ``include.rollout``."""
    drift_policy: str = "warn"
    """What an open drift gate does to new campaigns (see ``include.drift.gates``)."""
    runtime: str = "local"
    """Where stages are run: ``local`` processes, model APIs as far as they can (``remote``,
    ``hybrid``), or ``kubernetes`` pods."""
    burst: int = 4
    """Tasks beside ``slots`` that may wait or be at an API, when the runtime is hybrid."""
    remote_callback: str = ""
    """Address of this machine at which model APIs may call back; empty to ask them only."""
    deadline_s: float = 0.0
    """Seconds after its start by which a run should be done; 0 for no deadline."""
    noop: bool = False
    """Stages do nothing (see ``operators.runtimes.noop``)."""

    @classmethod
    def from_env(cls) -> Settings:
        """Read the environment.

        Raises:
            Usage: a number is not one.
        """
        env = os.environ
        home = PROJECT / ".understudy"
        roots = env.get("UNDERSTUDY_ROOTS") or str(PROJECT)
        revoked = env.get("UNDERSTUDY_REVOKED")
        rules = env.get("UNDERSTUDY_ROLLOUT_RULES")
        folder, table = env.get("UNDERSTUDY_DEVICE_DIR"), env.get("UNDERSTUDY_DEVICE_TABLE")
        return cls(
            store=env.get("UNDERSTUDY_STORE") or str(home / "store"),
            state=state_dir(),
            roots=tuple(Path(p).resolve() for p in roots.split(os.pathsep) if p),
            worker_python=Path(
                env.get("UNDERSTUDY_WORKER_PYTHON") or PROJECT / ".venv/worker/bin/python"
            ),
            nudity_python=Path(
                env.get("UNDERSTUDY_NUDITY_PYTHON") or PROJECT / ".venv/nudity/bin/python"
            ),
            threads=_count("UNDERSTUDY_THREADS", 1),
            device=parse_device(env.get(DEVICE_ENV) or ""),
            device_wait_s=_number("UNDERSTUDY_DEVICE_WAIT_S", 60.0),
            device_dir=Path(folder) if folder else None,
            device_table=Path(table) if table else None,
            slots=_count("UNDERSTUDY_SLOTS", os.cpu_count() or 1),
            shard_size=_count("UNDERSTUDY_SHARD_SIZE", 0, least=0),
            chunk_s=_number("UNDERSTUDY_CHUNK_S", 10.0),
            revoked=Path(revoked) if revoked else None,
            noop=env.get("UNDERSTUDY_NOOP") == "1",
            core_hour=_number("UNDERSTUDY_CORE_HOUR", 0.04),
            rollout_rules=Path(rules) if rules else None,
            runtime=_choice("UNDERSTUDY_RUNTIME", RUNTIMES),
            burst=_count("UNDERSTUDY_BURST", 4, least=0),
            remote_callback=env.get("UNDERSTUDY_REMOTE_CALLBACK") or "",
            deadline_s=_number("UNDERSTUDY_DEADLINE_S", 0.0),
            drift_policy=env.get("UNDERSTUDY_DRIFT_POLICY") or "warn",
        )

    @property
    def pool_slots(self) -> int:
        """Size of the Airflow pool ``cpu``: tasks that only wait for a slot take one, too."""
        return self.slots + (self.burst if self.runtime == "hybrid" else 0)

    def with_runtime(self, name: str) -> Settings:
        """The same settings with stages running elsewhere.

        Raises:
            Usage: there is no runtime of that name.
        """
        if name not in RUNTIMES:
            raise Usage(f"there is no runtime {name!r}; take one of {', '.join(RUNTIMES)}")
        return replace(self, runtime=name)

    def with_store(self, uri: str) -> Settings:
        """The same settings on another store."""
        return replace(self, store=uri)

    @property
    def consent_keys(self) -> Path:
        """Folder of the tenants' consent keys."""
        configured = os.environ.get(KEYS_ENV)
        return Path(configured) if configured else self.state / "consent"

    def revoked_records(self) -> frozenset[str]:
        """Ids of consent records that were revoked.

        Raises:
            Usage: a file is named and cannot be read: nobody knows what is revoked then.
        """
        if self.revoked is None:
            return frozenset()
        try:
            lines = self.revoked.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(
                f"UNDERSTUDY_REVOKED names {self.revoked}, which cannot be read ({error}); put the "
                "file there, UTF-8 with one record id per line, or unset the variable"
            ) from error
        return frozenset(line.strip() for line in lines if line.strip())


def _choice(name: str, known: tuple[str, ...]) -> str:
    value = os.environ.get(name) or known[0]
    if value not in known:
        raise Usage(f"{name}={value!r} is unknown; take one of {', '.join(known)}")
    return value


def _count(name: str, default: int, *, least: int = 1) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise Usage(f"{name}={text!r} is not a whole number") from None
    if value < least:
        raise Usage(f"{name}={value} is too small; the least is {least}")
    return value


def _number(name: str, default: float) -> float:
    text = os.environ.get(name)
    try:
        value = float(text) if text else default
    except ValueError:
        raise Usage(f"{name}={text!r} is not a number") from None
    if not 0 <= value < 1e6:
        raise Usage(f"{name}={value} is out of range")
    return value
