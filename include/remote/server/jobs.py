"""Jobs: queued, worked on by a bounded pool, kept on disk so that a restart loses none."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

from pydantic import ValidationError

from include.contracts.base import Contract
from include.contracts.remote import JobError, JobFile, JobRequest, JobStatus
from include.errors import UnderstudyError
from include.remote.server.blobs import Blobs
from include.remote.server.workshop import Workshop, event_of, job_key, kill_group
from include.store.holder import Holder

log = logging.getLogger(__name__)

_FINAL_ERRORS = frozenset({65, 77, 2})
"""Exit codes that another attempt would only repeat."""


class Busy(Exception):
    """The queue is full."""


class Missing(Exception):
    """Inputs that have to be uploaded first."""

    def __init__(self, digests: tuple[str, ...]) -> None:
        super().__init__(f"{len(digests)} inputs are missing")
        self.digests = digests


class Record(Contract):
    """A job as it lies on disk."""

    request: JobRequest
    status: JobStatus
    accepted: float
    """Seconds since 1970."""
    ended: float | None = None
    worker: Holder | None = None
    """The stage's process, while it runs."""


@dataclass
class Prices:
    """What jobs cost."""

    currency: str = "USD"
    per_call: float = 0.0
    per_second: float = 0.0
    """Of work, at one slot."""


@dataclass
class Jobs:
    """All jobs of a server.

    Args:
        root: where they are kept.
        blobs: their inputs.
        python: the stage worker's interpreter.
        slots: how many are worked on at a time.
        queue: how many may wait.
        threads: of each stage process.
        prices: what they cost.
    """

    root: Path
    blobs: Blobs
    python: Path
    slots: int = 1
    queue: int = 100
    threads: int = 1
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._records: dict[str, Record] = {}
        self._waiting: deque[str] = deque()
        self._processes: dict[str, Popen[str]] = {}
        self._closed = False
        self.on_end: Callable[[Record], None] = lambda record: None
        self.root.mkdir(parents=True, exist_ok=True)
        self._load()
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(self.slots)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: JobRequest) -> JobStatus:
        """Take a job in, or find it again.

        Raises:
            Missing: inputs are needed.
            Busy: the queue is full.
        """
        key = job_key(request)
        with self._lock:
            known = self._records.get(key)
            if known is not None and not _again(known.status):
                return self._seen(known)
            if len(self._waiting) >= self.queue:
                raise Busy
            files = [file for each in request.inputs for file in each.files.values()]
            missing = {f.sha256: f for f in files if not self._can_have(f)}
            if missing:
                raise Missing(tuple(missing))
            status = JobStatus(job=key, key=key, state="queued", currency=self.prices.currency)
            shutil.rmtree(self.root / key, ignore_errors=True)
            record = Record(request=request, status=status, accepted=time.time())
            self._keep(record)
            self._waiting.append(key)
            self._wake.notify()
            return self._seen(record)

    def get(self, job: str) -> JobStatus:
        """How far a job is. KeyError when there is none."""
        with self._lock:
            return self._seen(self._records[job])

    def cancel(self, job: str) -> JobStatus:
        """End a job. KeyError when there is none."""
        with self._lock:
            record = self._records[job]
            if not record.status.over:
                self._end(record, state="cancelled")
                if job in self._waiting:
                    self._waiting.remove(job)
                if job in self._processes:
                    kill_group(self._processes[job].pid)
            return self._seen(self._records[job])

    def output(self, job: str, name: str) -> tuple[Path, str, int]:
        """An output's file, digest and size. KeyError when there is none."""
        with self._lock:
            blob = self._records[job].status.outputs[name]
        cache = self._workshop(job).cache
        return self.root / job / "store" / cache.blob_key(blob.sha256), blob.sha256, blob.size

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        with self._lock:
            states = [record.status.state for record in self._records.values()]
        return {state: states.count(state) for state in sorted(set(states))}

    def sweep(self, keep_s: float) -> int:
        """Forget jobs that ended that long ago, with all they made; then inputs nobody holds."""
        with self._lock:
            old = [
                job
                for job, record in self._records.items()
                if record.ended is not None and record.ended < time.time() - keep_s
            ]
            for job in old:
                del self._records[job]
        for job in old:
            shutil.rmtree(self.root / job, ignore_errors=True)
        return len(old) + self.blobs.sweep(keep_s)

    def close(self) -> None:
        """Stop working; what is under way begins anew when the server does."""
        with self._lock:
            self._closed = True
            for process in self._processes.values():
                kill_group(process.pid)
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def _can_have(self, file: JobFile) -> bool:
        return self.blobs.has(file) or self.blobs.fetchable(file)

    def _seen(self, record: Record) -> JobStatus:
        waits = record.status.job in self._waiting
        ahead = self._waiting.index(record.status.job) if waits else 0
        return record.status.model_copy(update={"ahead": ahead})

    def _load(self) -> None:
        """Find the jobs of an earlier life; what was under way waits again."""
        for path in sorted(self.root.glob("*/job.json"), key=lambda path: path.stat().st_mtime):
            try:
                record = Record.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as error:
                log.warning("%s cannot be read and is left alone: %s", path, error)
                continue
            if not record.status.over:
                if record.worker and record.worker == Holder.of(record.worker.pid):
                    kill_group(record.worker.pid)
                again = record.status.model_copy(update={"state": "queued", "done": 0})
                record = record.model_copy(update={"status": again, "worker": None})
                self._waiting.append(record.status.job)
            self._records[record.status.job] = record

    def _keep(self, record: Record) -> None:
        """In memory and, whole or not at all, on disk."""
        self._records[record.status.job] = record
        folder = self.root / record.status.job
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "job.json.part"
        part.write_text(record.model_dump_json(), encoding="utf-8")
        part.replace(folder / "job.json")

    def _change(self, job: str, **changes: object) -> Record:
        with self._lock:
            record = self._records[job]
            status = record.status.model_copy(update=changes)
            self._records[job] = record = record.model_copy(update={"status": status})
            return record

    def _end(self, record: Record, **changes: object) -> None:
        with self._lock:
            if self._records[record.status.job].status.over:
                return  # cancelled meanwhile
            status = record.status.model_copy(update=changes)
            ended = {"status": status, "ended": time.time(), "worker": None}
            record = record.model_copy(update=ended)
            self._keep(record)
        self.on_end(record)

    def _workshop(self, job: str) -> Workshop:
        return Workshop(self.root / job, self.python, self.threads)

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                job = self._waiting.popleft()
                record = self._change(job, state="running")
            try:
                self._do(record)
            except UnderstudyError as error:
                failed = JobError(
                    code=error.code, message=error.message[:4000], exit_code=error.exit_code
                )
                self._end(record, state="failed", error=failed)
            except Exception as error:  # one job must not end the pool
                log.exception("job %s", job)
                text = f"{type(error).__name__}: {error}"[:4000]
                self._end(record, state="failed", error=JobError(code="bug", message=text))

    def _do(self, record: Record) -> None:
        job, request = record.status.job, record.request
        shop = self._workshop(job)
        for file in (file for each in request.inputs for file in each.files.values()):
            if not self.blobs.has(file):
                self.blobs.fetch(file)
        shop.furnish(request, self.blobs.path)
        began = time.monotonic()
        said: deque[str] = deque(maxlen=20)
        with shop.process(request.material.stage) as process:
            if not self._running(job, process):
                return
            left = max(0.0, record.accepted + request.total_s - time.time())
            late = threading.Event()
            timer = threading.Timer(left, _end_late, (late, process.pid))
            timer.start()
            try:
                self._follow(job, process, said)
                code = process.wait()
            finally:
                timer.cancel()
                with self._lock:
                    del self._processes[job]
        with self._lock:
            record = self._records[job]
            if self._closed:
                return
        if late.is_set():
            said.append(f"it took longer than the {request.total_s:.0f} s that were asked for")
        self._finish(record, shop, code, time.monotonic() - began, said)

    def _running(self, job: str, process: Popen[str]) -> bool:
        with self._lock:
            record = self._records[job]
            if record.status.over or self._closed:
                return False
            self._keep(record.model_copy(update={"worker": Holder.of(process.pid)}))
            self._processes[job] = process
            return True

    def _follow(self, job: str, process: Popen[str], said: deque[str]) -> None:
        for line in process.stdout or ():
            event = event_of(line)
            if event is None or event.event in ("error", "warning"):
                said.append(event.message or "" if event else line.rstrip())
            elif event.event == "progress":
                self._change(job, done=event.done or 0, total=event.total or 0)

    def _finish(
        self, record: Record, shop: Workshop, code: int, seconds: float, said: deque[str]
    ) -> None:
        price = round(self.prices.per_call + self.prices.per_second * seconds, 6)
        made = shop.made(record.request)
        if made is None:
            error = shop.problem(code, "; ".join(said))
            self._end(record, state="failed", error=error, price=price)
            return
        self._end(
            record,
            state="done",
            outputs=made.outputs,
            facts=made.facts,
            seconds=made.seconds,
            cpu_seconds=made.cpu_seconds,
            peak_mib=made.peak_mib,
            price=price,
        )


def _end_late(late: threading.Event, pid: int) -> None:
    late.set()
    kill_group(pid)


def _again(status: JobStatus) -> bool:
    """Whether a job that is submitted once more is to be done once more."""
    if status.state == "cancelled":
        return True
    failed = status.error if status.state == "failed" else None
    return failed is not None and failed.exit_code not in _FINAL_ERRORS
