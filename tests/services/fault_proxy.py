"""A proxy in front of a real HTTP server that fails on demand, request by request.

It listens on a real socket and hands requests on as they are, ``Host`` included, so signatures
made for the proxy's address stay valid. Every fault is a rule: which requests, how many of them,
and what goes wrong::

    with fault_proxy(server_url) as proxy:
        proxy.add(answer(503, "SlowDown"), method="PUT", times=2)
        proxy.add(cut_reply(after=1000), path="/blob/", skip=1)
        ...
        assert proxy.hits("GET", "/blob/") == 2
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


@dataclass
class Call:
    """One request on its way, and what the real server said."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    proxy: FaultProxy
    client: socket.socket

    def forward(self) -> Reply:
        """Ask the real server."""
        connection = http.client.HTTPConnection(*self.proxy.upstream, timeout=60)
        try:
            connection.putrequest(self.method, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers:
                connection.putheader(name, value)
            connection.endheaders(self.body)
            found = connection.getresponse()
            headers = [(n, v) for n, v in found.getheaders() if n.lower() not in _HOP]
            return Reply(found.status, headers, found.read())
        finally:
            connection.close()


@dataclass
class Reply:
    """What the client is to get; ``send`` bytes of the body, then the connection ends."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    send: int | None = None


Fault = Callable[[Call], "Reply | None"]
"""What goes wrong with a request: the reply to give, or None for a connection that just ends."""


def answer(status: int, code: str, **headers: str) -> Fault:
    """The proxy answers with an S3 error; the server never sees the request."""
    body = f"<Error><Code>{code}</Code><Message>-</Message></Error>".encode()
    return lambda call: Reply(status, [("Content-Type", "application/xml"), *headers.items()], body)


def drop_reply() -> Fault:
    """The server does what it was asked to do, and nobody hears of it."""

    def fault(call: Call) -> None:
        call.forward()

    return fault


def drop_request() -> Fault:
    """The connection ends when the request was read; the server never sees it."""
    return lambda call: None


def cut_reply(after: int) -> Fault:
    """The connection ends after so many bytes of the reply's body."""

    def fault(call: Call) -> Reply:
        reply = call.forward()
        reply.send = after
        return reply

    return fault


def flip_reply(at: int = 0) -> Fault:
    """One byte of the reply's body arrives changed."""

    def fault(call: Call) -> Reply:
        reply = call.forward()
        reply.body = _flipped(reply.body, at)
        return reply

    return fault


def flip_request(at: int = 0) -> Fault:
    """One byte of the request's body arrives changed."""

    def fault(call: Call) -> Reply:
        call.body = _flipped(call.body, at)
        return call.forward()

    return fault


def cut_request(after: int) -> Fault:
    """The server gets the beginning of the request's body, then its connection ends; so does ours.

    What it makes of half an upload is the server's business; the client sees a dead connection.
    """

    def fault(call: Call) -> None:
        with socket.create_connection(call.proxy.upstream, timeout=60) as server:
            lines = [f"{call.method} {call.path} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in call.headers]
            server.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + call.body[:after])

    return fault


def delay(seconds: float) -> Fault:
    """The reply comes late: as soon as the proxy ends, or after so many seconds."""

    def fault(call: Call) -> Reply | None:
        return None if call.proxy.closing.wait(seconds) else call.forward()

    return fault


def hang() -> Fault:
    """No byte comes back and the connection stays open, until the client gives up."""

    def fault(call: Call) -> None:
        call.client.settimeout(0.05)
        while not call.proxy.closing.is_set():
            with contextlib.suppress(TimeoutError, ConnectionError):
                if not call.client.recv(1):
                    return

    return fault


@dataclass
class Rule:
    """A fault and the requests that it meets."""

    fault: Fault
    method: str
    path: str
    skip: int
    times: int

    def meets(self, method: str, path: str) -> bool:
        """Whether this request is its business; counts."""
        if self.times == 0 or self.method not in ("", method) or not re.search(self.path, path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class FaultProxy:
    """The running proxy; threads may add rules while requests pass."""

    upstream: tuple[str, int]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """``METHOD /path?query`` of everything that was asked, in order."""
    closing: threading.Event = field(default_factory=threading.Event)
    _rules: list[Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self, fault: Fault, *, method: str = "", path: str = "", skip: int = 0, times: int = 1
    ) -> None:
        """Let requests fail from now on; of several rules that meet one the first counts.

        Args:
            fault: what goes wrong.
            method: only requests with this method.
            path: only requests whose path with its query matches this regular expression.
            skip: so many of them pass first.
            times: so many of them fail; -1 for all.
        """
        with self._lock:
            self._rules.append(Rule(fault, method, path, skip, times))

    def clear(self) -> None:
        """Let everything pass again, and forget what was asked."""
        with self._lock:
            self._rules.clear()
            self.requests.clear()

    def hits(self, method: str = "", path: str = "") -> int:
        """How many requests there were of a kind."""
        with self._lock:
            found = [request.split(" ", 1) for request in self.requests]
        return sum(method in ("", verb) and bool(re.search(path, where)) for verb, where in found)

    def fault_for(self, method: str, path: str) -> Fault | None:
        """What is to go wrong with a request; counts it."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            return next((r.fault for r in self._rules if r.meets(method, path)), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # answers "Expect: 100-continue" itself
    proxy: FaultProxy

    def handle_any(self) -> None:
        headers = [(n, v) for n, v in self.headers.items() if n.lower() not in _HOP]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = Call(self.command, self.path, headers, body, self.proxy, self.connection)
        fault = self.proxy.fault_for(self.command, self.path)
        try:
            reply = fault(call) if fault else call.forward()
        except (OSError, http.client.HTTPException):  # the server is down: so are we
            reply = None
        if reply is None:
            self.close_connection = True
            return
        self._give(reply)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

    def _give(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(reply.body[: reply.send])
        if reply.send is not None and reply.send < len(reply.body):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what we are here for."""


@contextlib.contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Serve on a free port until the block ends.

    Args:
        upstream: the real server, ``http://host:port``.
    """
    parts = urlsplit(upstream)
    proxy = FaultProxy((parts.hostname or "127.0.0.1", parts.port or 80))
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else data
