"""Calls back: only genuine, fresh and new ones wake anybody."""

from __future__ import annotations

import threading
import time

import pytest
import urllib3

from include.remote.webhook import HEADER, WINDOW_S, Bell, Verifier, listening, sign

SECRET, BODY = "a secret", b"0123456789abcdef"


def post(url: str, signature: str, body: bytes = BODY) -> int:
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("POST", url, body=body, headers={HEADER: signature}).status


FORGED = {
    "forged": lambda: sign("another secret", BODY),
    "for another body": lambda: sign(SECRET, b"another job"),
    "old": lambda: sign(SECRET, BODY, time.time() - WINDOW_S - 2),
    "of the future": lambda: sign(SECRET, BODY, time.time() + WINDOW_S + 600),
    "missing": lambda: "",
    "malformed": lambda: "t=0,v1=00",
}


@pytest.mark.parametrize("why", FORGED)
def test_what_is_not_genuine_is_refused_and_wakes_nobody(why: str) -> None:
    bell = Bell()
    with listening(bell, SECRET, "127.0.0.1") as url:
        assert post(url, FORGED[why]()) == 403
    assert not bell.wait(BODY.decode(), 0)


def test_a_genuine_call_wakes_its_waiter_once(monkeypatch) -> None:
    bell, woken = Bell(), threading.Event()
    with listening(bell, SECRET, "127.0.0.1") as url:
        waiter = threading.Thread(
            target=lambda: bell.wait(BODY.decode(), 60) and woken.set(), daemon=True
        )
        waiter.start()
        signature = sign(SECRET, BODY)
        assert post(url, signature) == 204
        waiter.join(30)
        assert woken.is_set()
        assert post(url, signature) == 403, "a recorded call is refused"
    assert not bell.wait("another-job", 0)


def test_a_long_body_is_not_read() -> None:
    body = b"x" * 10_000
    with listening(Bell(), SECRET, "127.0.0.1") as url:
        assert post(url, sign(SECRET, body), body) == 403


def test_a_webhook_without_a_secret_is_an_error() -> None:
    with pytest.raises(ValueError, match="without a secret"):
        Verifier("")
