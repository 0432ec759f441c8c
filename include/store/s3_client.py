"""The boto3 client: how long to wait, how often to try, which checks to leave to us.

========================== ==================================================================
variable                   meaning (default)
========================== ==================================================================
UNDERSTUDY_S3_CONNECT_S    seconds until a connection must stand (5)
UNDERSTUDY_S3_READ_S       seconds without a byte until a request counts as hung (60)
AWS_MAX_ATTEMPTS           tries of a request, the first included (5)
========================== ==================================================================

A request that times out, loses its connection or is answered with 429 or 5xx is sent again after
a random wait of at most 1, 2, 4, 8 … 20 s (botocore's *standard* mode), so many clients that were
turned away together do not come back together. What is over the budget is ``StoreUnavailable``.
"""

from __future__ import annotations

import os
import random
import threading
import time
from functools import lru_cache
from typing import Any

from include.errors import Usage

CONNECT_ENV = "UNDERSTUDY_S3_CONNECT_S"
READ_ENV = "UNDERSTUDY_S3_READ_S"
ATTEMPTS_ENV = "AWS_MAX_ATTEMPTS"

_CONNECT_S = 5.0
_READ_S = 60.0
_ATTEMPTS = 5
_LONGEST_WAIT_S = 20.0
_LOCK = threading.Lock()


def s3_client(endpoint: str | None) -> Any:
    """The thread-safe client of this process for an endpoint, made on first use.

    Args:
        endpoint: the server, or None for boto3's own choice.

    Raises:
        Usage: a setting is no number.
    """
    names = (name for name in os.environ if name.startswith(("AWS_", "UNDERSTUDY_S3_")))
    with _LOCK:
        return _make(endpoint, os.getpid(), tuple(sorted((n, os.environ[n]) for n in names)))


def forget_clients() -> None:
    """Make clients anew, with the credentials that files and roles offer now."""
    with _LOCK:
        _make.cache_clear()


def attempts() -> int:
    """How often something is tried, the first time included."""
    return max(1, int(_number(ATTEMPTS_ENV, _ATTEMPTS)))


def pause(tries: int, first_s: float = 0.5) -> None:
    """Wait before another try: a random time below a limit that doubles.

    Args:
        tries: how many there were, from 1.
        first_s: the limit the first time, seconds.
    """
    time.sleep(random.uniform(0, min(_LONGEST_WAIT_S, first_s * 2 ** (tries - 1))))


@lru_cache(maxsize=8)
def _make(endpoint: str | None, pid: int, environment: tuple[tuple[str, str], ...]) -> Any:
    """Make a client, once per process and setting (it takes a fifth of a second).

    Args:
        endpoint: the server, or None for boto3's own choice.
        pid: this process; a client must not be used on both sides of a fork.
        environment: the variables that are in force.
    """
    import boto3
    from botocore.config import Config

    settings = dict(environment)
    region = settings.get("AWS_REGION") or settings.get("AWS_DEFAULT_REGION")
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},  # servers on an address have no bucket host names
        retries={"mode": "standard", "total_max_attempts": attempts()},
        connect_timeout=_number(CONNECT_ENV, _CONNECT_S),
        read_timeout=_number(READ_ENV, _READ_S),
        tcp_keepalive=True,
        max_pool_connections=64,  # artifacts are looked up eight at a time, and so are their files
        # Newer boto3 adds checksums as trailers, over https too, that Ceph RGW does not
        # understand. We send Content-MD5, which every server checks, and compare digests.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = boto3.session.Session()
    return session.client(
        "s3",
        endpoint_url=endpoint,
        config=config,
        region_name=region or session.region_name or "us-east-1",
    )


def _number(name: str, default: float) -> float:
    text = os.environ.get(name)
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not 0 < value < 1e5:
        raise Usage(f"{name}={text!r} is not a number above zero", code="store.setting")
    return value
