"""``python -m include.remote.server --root DIR``: the reference server.

The token that callers must show is read from ``UNDERSTUDY_REMOTE_TOKEN``, the secret that calls
back are signed with from ``UNDERSTUDY_REMOTE_WEBHOOK_SECRET``. One token is one tenant: who has it
may ask for any job by its key. TLS is a reverse proxy's business; without one listen on
127.0.0.1 only. Runs in the stage worker's environment.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import urllib3

from include.remote.config import SECRETS, WEBHOOK_SECRET_ENV
from include.remote.server.blobs import Blobs
from include.remote.server.jobs import Jobs, Prices, Record
from include.remote.server.web import Service, serve
from include.remote.webhook import HEADER, sign

log = logging.getLogger(__name__)

TOKEN_ENV = f"{SECRETS}TOKEN"
_CALL_TRIES = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; says where on stdout."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    token = os.environ.get(TOKEN_ENV, "")
    if len(token) < 16:
        sys.stderr.write(f"set {TOKEN_ENV} to a secret of at least 16 characters\n")
        return 2
    blobs = Blobs(args.root / "blobs", max_bytes=args.max_bytes, fetch_from=tuple(args.fetch_from))
    prices = Prices(args.currency, args.price_per_call, args.price_per_second)
    jobs = Jobs(
        args.root / "jobs", blobs, args.python, args.slots, args.queue, args.threads, prices
    )
    secret = os.environ.get(WEBHOOK_SECRET_ENV, "")
    if secret:
        jobs.on_end = lambda record: call_back(record, secret)
    hosts = frozenset(args.callback_host if secret else ())
    server = serve(Service(jobs, blobs, token, hosts), args.host, args.port)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    sys.stdout.write(f"http://{args.host}:{server.server_port}\n")
    sys.stdout.flush()
    while not done.wait(args.sweep_s):
        jobs.sweep(args.keep_s)
    server.shutdown()
    jobs.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.remote.server", description=__doc__)
    add = parser.add_argument
    add("--root", type=Path, required=True, help="folder for jobs and inputs")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 takes a free one")
    add("--slots", type=int, default=1, help="jobs at a time")
    add("--queue", type=int, default=100, help="jobs that may wait")
    add("--threads", type=int, default=1, help="of each stage process")
    add("--python", type=Path, default=Path(sys.executable), help="the stage worker's interpreter")
    add("--max-bytes", type=int, default=4 << 30, help="largest input")
    add("--fetch-from", action="append", default=[], help="beginning of addresses to fetch from")
    add("--callback-host", action="append", default=[], help="a host that may be called back")
    add("--price-per-call", type=float, default=0.0)
    add("--price-per-second", type=float, default=0.0, help="of work")
    add("--currency", default="USD")
    add("--keep-s", type=float, default=86_400.0, help="how long to keep what ended")
    add("--sweep-s", type=float, default=60.0, help="how often to look for what can go")
    return parser


def call_back(record: Record, secret: str) -> None:
    """Say that a job is over, some times, in the background; who is called asks anyway."""
    if record.request.callback:
        threading.Thread(target=_call_back, args=(record, secret), daemon=True).start()


def _call_back(record: Record, secret: str) -> None:
    body = record.status.job.encode()
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(5), retries=False)
    for number in range(_CALL_TRIES):
        try:
            answer = pool.request(
                "POST",
                record.request.callback or "",
                body=body,
                headers={HEADER: sign(secret, body)},
                redirect=False,
            )
            if answer.status < 500:
                return
        except urllib3.exceptions.HTTPError as error:
            log.info("call back: %s", type(error).__name__)
        threading.Event().wait(2.0**number)


if __name__ == "__main__":
    sys.exit(main())
