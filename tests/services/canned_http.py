"""A real HTTP server that gives prepared answers: S3 errors that no server makes on demand."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """One prepared answer; ``body`` may be shorter than ``length`` says: a cut connection."""

    status: int
    body: bytes = b""
    length: int | None = None

    @classmethod
    def s3_error(cls, status: int, code: str) -> Reply:
        """An error as S3 words it."""
        return cls(status, f"<Error><Code>{code}</Code><Message>-</Message></Error>".encode())


@dataclass
class CannedServer:
    """Gives ``replies`` one after the other, the last one for ever; records the requests."""

    replies: list[Reply]
    url: str = ""
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def canned_http(*replies: Reply) -> Iterator[CannedServer]:
    """Serve the replies on a free port until the block ends."""
    canned = CannedServer(list(replies))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # answers "Expect: 100-continue", else clients wait

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            canned.requests.append(f"{self.command} {self.path}")
            reply = canned.replies.pop(0) if len(canned.replies) > 1 else canned.replies[0]
            self.send_response(reply.status)
            length = len(reply.body) if reply.length is None else reply.length
            self.send_header("Content-Length", str(length))
            self.send_header("Connection", "close")  # else clients race for a dying connection
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    canned.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield canned
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
