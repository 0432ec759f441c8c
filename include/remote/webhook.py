"""Signed calls back: they wake whoever waits for a job, and are believed in nothing else.

The header ``Understudy-Signature: t=SECONDS,v1=HEX`` holds the time and HMAC-SHA256 over
``SECONDS.body`` with the shared secret. A body is at most a job's name; a signature is good for
``WINDOW_S`` and once only, so that a recorded call cannot keep us busy.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HEADER = "Understudy-Signature"
WINDOW_S = 300.0
MAX_BODY = 200
_FORM = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def sign(secret: str, body: bytes, now: float | None = None) -> str:
    """The signature header of a body.

    Args:
        secret: shared with the receiver.
        body: what is sent.
        now: seconds since 1970; default now.
    """
    stamp = int(time.time() if now is None else now)
    return f"t={stamp},v1={_mac(secret, stamp, body)}"


def _mac(secret: str, stamp: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d.%s" % (stamp, body), hashlib.sha256).hexdigest()


class Verifier:
    """Tells a genuine call from a forged, an old or a repeated one."""

    def __init__(self, secret: str) -> None:
        if not secret:
            raise ValueError("a webhook without a secret would believe anybody")
        self._secret = secret
        self._seen: dict[str, int] = {}
        self._lock = threading.Lock()

    def holds(self, header: str, body: bytes, now: float | None = None) -> bool:
        """Whether a call is genuine, fresh and new."""
        form = _FORM.fullmatch(header)
        now = time.time() if now is None else now
        if form is None or abs(now - int(form[1])) > WINDOW_S:
            return False
        if not hmac.compare_digest(form[2], _mac(self._secret, int(form[1]), body)):
            return False
        with self._lock:
            self._seen = {m: t for m, t in self._seen.items() if abs(now - t) <= WINDOW_S}
            if form[2] in self._seen:
                return False
            self._seen[form[2]] = int(form[1])
        return True


class Bell:
    """Rings for jobs: waiters sleep on it instead of a clock, and wake early when it rings."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rung: set[str] = set()

    def ring(self, job: str = "") -> None:
        """Wake who waits for a job; everybody without one."""
        with self._changed:
            self._rung.add(job)
            self._changed.notify_all()

    def wait(self, job: str, seconds: float) -> bool:
        """Sleep until the job is rung for, at most so long; returns whether it was."""
        with self._changed:
            rung = self._changed.wait_for(lambda: bool({job, ""} & self._rung), seconds)
            self._rung.discard(job)
            return rung


@contextmanager
def listening(bell: Bell, secret: str, host: str) -> Iterator[str]:
    """Receive calls back on a free port until the block ends.

    Args:
        bell: rung with the job's name for each genuine call.
        secret: shared with the API.
        host: the address of this machine that the API reaches; listened on as well.

    Yields:
        The address to name in a job.
    """
    verifier = Verifier(secret)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            try:
                length = int(self.headers.get("Content-Length", ""))
            except ValueError:
                length = -1
            body = self.rfile.read(length) if 0 < length <= MAX_BODY else b""
            good = bool(body) and verifier.holds(self.headers.get(HEADER, ""), body)
            if good:
                bell.ring(body.decode("ascii", "replace"))
            self.send_response(204 if good else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing: stderr is the stage's."""

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
