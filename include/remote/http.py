"""HTTP to a server that is not trusted: time limits, retries, size limits, no redirects."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from pydantic import ValidationError

from include.contracts.remote import Problem
from include.errors import Preempted, RemoteUnavailable, Usage

log = logging.getLogger(__name__)

MAX_JSON = 16 << 20
"""Largest JSON answer that is read, bytes."""
BLOCK = 1 << 20
TRIES = 4
"""Of one request, the first included. All of them are safe to repeat."""
BACKOFF_S, BACKOFF_MAX_S = 0.25, 8.0
RETRY_AFTER_MAX_S = 60.0
UNSENT = "preempted.unsent"
"""Code when the task ended before the server can have got a request."""
_UNCONNECTED = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass
class Answer:
    """Status, headers and body of a small answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def problem(self) -> Problem:
        """What an error says; its status where it says nothing we understand."""
        try:
            return Problem.model_validate_json(self.body)
        except ValidationError:
            return Problem(code="http", message=f"HTTP {self.status}")


@dataclass
class Http:
    """One server.

    Args:
        url: scheme, host and port, without a trailing slash.
        token: sent as bearer token; in no message.
        connect_s: to connect.
        read_s: for each answer, and each block of a long one.
        stop: set when the task is being ended: nothing is tried again.
    """

    url: str
    token: str
    connect_s: float
    read_s: float
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._pool = _pool(self.url)
        self._timeout = urllib3.Timeout(connect=self.connect_s, read=self.read_s)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        tries: int = TRIES,
    ) -> Answer:
        """Make a request until there is an answer that is not "later".

        Args:
            method: of a request that may be repeated.
            path: below the server's address.
            body: bytes, or plain data for JSON.
            headers: more of them.
            tries: how often.

        Raises:
            RemoteUnavailable: no answer, or an answer that is too long; ``remote.busy`` when the
                server certainly did nothing.
            Preempted: the task is being ended; ``preempted.unsent`` when the server certainly did
                nothing.
            Usage: ``remote.token``: the server does not know us.
        """
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        said, heard = "", False
        for number in range(tries):
            if self.stop.is_set():
                raise Preempted("the task is being ended", code=None if heard else UNSENT)
            wait = min(BACKOFF_MAX_S, BACKOFF_S * 2**number)
            try:
                with self._open(method, path, data, headers) as response:
                    answer = Answer(response.status, response.headers, _read(response, MAX_JSON))
            except (urllib3.exceptions.HTTPError, OSError) as error:
                said = f"{type(error).__name__}: {_plain(error)}"
                # Anything else may have reached the server, its answer being lost.
                heard |= not isinstance(error, _UNCONNECTED)
            else:
                if answer.status in (401, 403):
                    raise Usage(
                        f"{self.url} refuses our token ({answer.status}); set the variable that "
                        "its declaration names in token_env",
                        code="remote.token",
                    )
                if answer.status not in _AGAIN:
                    return answer
                said = f"HTTP {answer.status}: {answer.problem().message}"
                heard |= answer.status not in (429, 503)
                wait = max(wait, retry_after(answer.headers))
            if number < tries - 1:
                self.stop.wait(min(wait * random.uniform(0.5, 1.0), RETRY_AFTER_MAX_S))
        raise RemoteUnavailable(
            f"{method} {self.url}{path}: {said} ({tries} tries)",
            code="remote.unavailable" if heard else "remote.busy",
        )

    def upload(self, path: str, file: Path) -> None:
        """PUT a file, from its beginning at each try.

        Raises:
            RemoteUnavailable: as `ask`, or the server does not want it.
        """
        said = ""
        for number in range(TRIES):
            try:
                with file.open("rb") as stream:
                    size = str(file.stat().st_size)
                    with self._open("PUT", path, stream, {"Content-Length": size}) as response:
                        answer = Answer(response.status, response.headers, _read(response, BLOCK))
                if answer.status in (200, 201, 204):
                    return
                said = f"HTTP {answer.status}: {answer.problem().message}"
                if answer.status not in _AGAIN:
                    break
            except (urllib3.exceptions.HTTPError, OSError) as error:
                said = f"{type(error).__name__}: {_plain(error)}"
            if number < TRIES - 1:
                self._pause(BACKOFF_S * 2**number)
        raise RemoteUnavailable(f"PUT {self.url}{path}: {said}", code="remote.upload")

    def download(self, path: str, dst: Path, size: int, sha256: str) -> None:
        """GET a file of known size and digest; ``dst`` appears complete and right, or not at all.

        Raises:
            RemoteUnavailable: ``remote.output``: not the bytes that were promised.
        """
        part = dst.with_name(f".{dst.name}.part")
        said = ""
        for number in range(TRIES):
            try:
                with self._open("GET", path) as response, part.open("wb") as out:
                    said = save_body(response, out, size, sha256)
                if not said:
                    part.replace(dst)
                    return
            except (urllib3.exceptions.HTTPError, OSError) as error:
                said = f"{type(error).__name__}: {_plain(error)}"
            finally:
                part.unlink(missing_ok=True)
            if number < TRIES - 1:
                self._pause(BACKOFF_S * 2**number)
        raise RemoteUnavailable(f"GET {self.url}{path}: {said}", code="remote.output")

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        if self.stop.is_set():
            raise Preempted("the task is being ended")
        more = {"Content-Type": "application/json"} if isinstance(body, bytes) else {}
        response = self._pool.request(
            method,
            self.url + path,
            body=body,
            headers={"Authorization": f"Bearer {self.token}", **more, **(headers or {})},
            timeout=self._timeout,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            yield response
        finally:
            # What was not read is not waited for.
            response.close()
            response.release_conn()

    def _pause(self, seconds: float) -> None:
        if self.stop.wait(min(seconds, RETRY_AFTER_MAX_S)):
            raise Preempted("the task is being ended")


def _pool(url: str) -> urllib3.PoolManager:
    """With the proxy that the environment names for this address, if any."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    return urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager(maxsize=16)


def _read(response: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """A whole body, unless it is longer than it may be or takes for ever."""
    found = bytearray()
    end = time.monotonic() + 120
    for block in response.stream(64 << 10, decode_content=False):
        found += block
        if len(found) > most or time.monotonic() > end:
            raise RemoteUnavailable(f"the answer is longer than {most} bytes", code="remote.answer")
    return bytes(found)


def save_body(response: urllib3.BaseHTTPResponse, out: BinaryIO, size: int, sha256: str) -> str:
    """Write a body of known size and digest.

    Returns:
        What is wrong with it, in words; empty when nothing is.
    """
    if response.status != 200:
        return f"HTTP {response.status}"
    digest, got = hashlib.sha256(), 0
    for block in response.stream(BLOCK, decode_content=False):
        got += len(block)
        if got > size:
            return f"more than the {size} bytes that were promised"
        digest.update(block)
        out.write(block)
    if got != size:
        return f"{got} bytes instead of {size}"
    return "" if digest.hexdigest() == sha256 else "the bytes do not match their digest"


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that an answer asks us to wait; 0 when it asks nothing that we understand."""
    try:
        return max(0.0, min(float(headers.get("Retry-After", "0")), RETRY_AFTER_MAX_S))
    except ValueError:
        return 0.0


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
