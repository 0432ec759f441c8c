"""The contract's verbs over HTTP/1.1; nothing is done for who has no token."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from include.contracts.remote import JobRequest, Problem
from include.errors import Usage
from include.remote.server.blobs import Blobs
from include.remote.server.jobs import Busy, Jobs, Missing
from include.remote.server.workshop import check_request, job_key

log = logging.getLogger(__name__)

MAX_JSON = 16 << 20
RETRY_AFTER_S = 5
MIN_FREE = 256 << 20
"""Bytes that stay free on the disk."""
_JOB = r"/v1/jobs/(?P<job>[a-z0-9]{16,64})"
_ROUTES = (
    ("POST", re.compile(r"/v1/jobs"), "submit"),
    ("GET", re.compile(_JOB), "status"),
    ("DELETE", re.compile(_JOB), "cancel"),
    ("GET", re.compile(_JOB + r"/outputs/(?P<name>[a-z][a-z0-9_-]{0,63})"), "output"),
    ("PUT", re.compile(r"/v1/blobs/(?P<sha256>[0-9a-f]{64})"), "upload"),
)


@dataclass(frozen=True)
class Service:
    """What a handler works with."""

    jobs: Jobs
    blobs: Blobs
    token: str
    callback_hosts: frozenset[str] = frozenset()
    """Hosts that may be called back."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "understudy"
    sys_version = ""
    timeout = 120
    """Seconds that a read or write may take."""
    service: Service

    def do_GET(self) -> None:
        """See the contract; so all verbs."""
        self._route()

    do_POST = do_PUT = do_DELETE = do_GET

    def _route(self) -> None:
        if self.path == "/v1/health" and self.command == "GET":
            self._json(200, self.service.jobs.counts())
            return
        given = self.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, b"Bearer " + self.service.token.encode()):
            self._problem(401, "token", "a bearer token is needed")
            return
        for verb, pattern, name in _ROUTES:
            found = pattern.fullmatch(self.path)
            if found and verb == self.command:
                self._answer(getattr(self, f"_{name}"), found.groupdict())
                return
        self._problem(404, "path", "there is nothing here")

    def _answer(self, verb: Callable[..., None], arguments: dict[str, str]) -> None:
        try:
            verb(**arguments)
        except KeyError:
            self._problem(404, "job.missing", "there is no such job, or it was forgotten")
        except Busy:
            self._problem(503, "busy", "the queue is full", {"Retry-After": str(RETRY_AFTER_S)})
        except Missing as error:
            self._problem(409, "inputs.missing", str(error), missing=error.digests)
        except Usage as error:
            self._problem(422, error.code, error.message)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            self._problem(422, "job.malformed", f"{where}: {first['msg']}")

    def _submit(self) -> None:
        length = self._length(MAX_JSON)
        request = JobRequest.model_validate_json(self.rfile.read(length))
        check_request(request)
        if self.headers.get("Idempotency-Key") != job_key(request):
            raise Usage("Idempotency-Key is not the key of the material", code="job.key")
        host = urlsplit(request.callback or "").hostname
        if request.callback and host not in self.service.callback_hosts:
            request = request.model_copy(update={"callback": None})  # the caller asks anyway
        self._json(202, self.service.jobs.submit(request))

    def _status(self, job: str) -> None:
        self._json(200, self.service.jobs.get(job))

    def _cancel(self, job: str) -> None:
        self._json(200, self.service.jobs.cancel(job))

    def _output(self, job: str, name: str) -> None:
        path, sha256, size = self.service.jobs.output(job, name)
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            raise KeyError(name) from None
        with stream:
            digest = base64.b64encode(bytes.fromhex(sha256)).decode()
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(size))
            self.send_header("Repr-Digest", f"sha-256=:{digest}:")
            self.end_headers()
            shutil.copyfileobj(stream, self.wfile, 1 << 20)

    def _upload(self, sha256: str) -> None:
        length = self._length(self.service.blobs.max_bytes)
        if shutil.disk_usage(self.service.jobs.root).free - length < MIN_FREE:
            raise Busy
        self.service.blobs.take(sha256, self.rfile, length)
        self.send_response(204)
        self.end_headers()

    def _length(self, most: int) -> int:
        try:
            length = int(self.headers["Content-Length"])
        except (TypeError, ValueError):
            length = -1
        if not 0 <= length <= most:
            raise Usage(f"Content-Length is needed, at most {most}", code="length")
        return length

    def _problem(
        self,
        status: int,
        code: str,
        message: str,
        headers: dict[str, str] | None = None,
        missing: tuple[str, ...] = (),
    ) -> None:
        # A body that was not read would be taken for the next request.
        self.close_connection = True
        body = Problem(code=code, message=message[:4000], missing=missing)
        self._json(status, body, {"Connection": "close", **(headers or {})})

    def _json(
        self, status: int, body: BaseModel | dict[str, int], headers: dict[str, str] | None = None
    ) -> None:
        data = (
            body.model_dump_json() if isinstance(body, BaseModel) else json.dumps(body)
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """To the log, without what a stranger wrote beyond its printable part."""
        log.info("%s %s", self.address_string(), (format % args).encode("ascii", "replace"))


def serve(service: Service, host: str, port: int) -> ThreadingHTTPServer:
    """A server that listens; ``serve_forever`` is the caller's to call."""
    handler = type("BoundHandler", (Handler,), {"service": service})
    server = ThreadingHTTPServer((host, port), handler)
    server.daemon_threads = True
    return server
