"""The client against a server that is down, busy, lying or generous."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from pathlib import Path

import pytest

from include.contracts.manifest import KeyMaterial
from include.contracts.remote import JobRequest, JobStatus
from include.errors import Preempted, RemoteUnavailable, Usage
from include.remote.client import Api
from include.remote.config import Endpoint
from include.remote.http import Http, retry_after
from include.remote.outputs import check_media, check_promise
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.services.canned_http import CannedServer, Reply, canned_http

MATERIAL = KeyMaterial(stage="upscale", stage_version=1)
KEY = MATERIAL.key()


def status(**more: object) -> Reply:
    body = {"job": KEY, "key": KEY, "state": "queued", **more}
    return Reply(202, json.dumps(body).encode())


def http(server: CannedServer) -> Http:
    return Http(server.url, "token", 2, 5)


def api(server: CannedServer) -> Api:
    models = [{"stage": "upscale", "backend": "compact", "connect_s": 2, "submit_s": 5}]
    endpoint = Endpoint.model_validate({"name": "near", "url": server.url, "models": models})
    return Api(endpoint, endpoint.models[0], threading.Event())


def submit(server: CannedServer, tmp_path: Path) -> JobStatus:
    cache = ArtifactCache(open_store(str(tmp_path)), "acme")
    return api(server).submit(KEY, JobRequest(material=MATERIAL, total_s=60), cache)


def test_a_busy_server_is_asked_again_and_a_busy_one_for_good_did_nothing(tmp_path: Path) -> None:
    busy = Reply(503, b'{"code": "busy", "message": "the queue is full"}')
    with canned_http(busy, busy, status()) as server:
        assert submit(server, tmp_path).state == "queued"
        assert len(server.requests) == 3
    with (
        canned_http(busy) as server,
        pytest.raises(RemoteUnavailable, match="the queue is full") as caught,
    ):
        submit(server, tmp_path)
    assert caught.value.code == "remote.busy"


def test_an_answer_that_was_cut_may_have_been_a_job(tmp_path: Path) -> None:
    with (
        canned_http(Reply(202, b"{", length=500)) as server,
        pytest.raises(RemoteUnavailable) as caught,
    ):
        submit(server, tmp_path)
    assert caught.value.code == "remote.unavailable", "its reservation stands"


def test_a_server_that_is_down_is_named_without_the_token() -> None:
    down = Http("http://127.0.0.1:9", "a-secret-token", 1, 1)
    with pytest.raises(RemoteUnavailable, match=r"127\.0\.0\.1:9") as caught:
        down.ask("GET", "/v1/jobs/x", tries=2)
    assert caught.value.code == "remote.busy"
    assert "secret" not in caught.value.message


def test_a_server_that_takes_no_connection_did_nothing() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # more than it lets wait: the next one gets no answer
            waits = stack.enter_context(socket.socket())
            waits.setblocking(False)
            waits.connect_ex(full.getsockname())
        silent = Http(f"http://127.0.0.1:{full.getsockname()[1]}", "token", 0.3, 5)
        with pytest.raises(RemoteUnavailable, match="ConnectTimeout") as caught:
            silent.ask("POST", "/v1/jobs", tries=1)
    assert caught.value.code == "remote.busy"


def test_a_refused_token_is_not_tried_again(tmp_path: Path) -> None:
    with canned_http(Reply(401)) as server:
        with pytest.raises(Usage, match="token_env") as caught:
            submit(server, tmp_path)
        assert len(server.requests) == 1
    assert caught.value.code == "remote.token"


def test_a_redirect_is_not_followed() -> None:
    with canned_http(Reply(302)) as server:
        assert http(server).ask("GET", "/x").status == 302
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(202, b"{}"), "does not keep to the contract"),
        (Reply(202, b"<html>"), "does not keep to the contract"),
        (status(key="0" * 64), "answered for another job"),
        (status(state="finished"), "does not keep to the contract"),
        (status(outputs={"../x": {}}), "does not keep to the contract"),
    ],
)
def test_an_answer_that_is_none_is_refused(reply: Reply, said: str, tmp_path: Path) -> None:
    with canned_http(reply) as server, pytest.raises(RemoteUnavailable, match=said):
        submit(server, tmp_path)


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch) -> None:
    monkeypatch.setattr("include.remote.http.MAX_JSON", 1000)
    with (
        canned_http(Reply(200, b"x" * 100_000)) as server,
        pytest.raises(RemoteUnavailable, match="longer than 1000"),
    ):
        http(server).ask("GET", "/x")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(200, b"right"[:4], length=5), "IncompleteRead|ProtocolError"),
        (Reply(200, b"wrong"), "do not match their digest"),
        (Reply(200, b"right and more"), "more than the 5 bytes"),
        (Reply(200, b"rig"), "3 bytes instead of 5"),
        (Reply(404), "HTTP 404"),
    ],
    ids=["cut", "other bytes", "too long", "too short", "gone"],
)
def test_a_download_is_whole_and_right_or_not_there(
    reply: Reply, said: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("include.remote.http.TRIES", 2)
    with canned_http(reply) as server:
        with pytest.raises(RemoteUnavailable, match=said) as caught:
            http(server).download("/x", tmp_path / "x", 5, hashlib.sha256(b"right").hexdigest())
        assert len(server.requests) == 2
    assert caught.value.code == "remote.output"
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_was_cut_is_fetched_again(tmp_path: Path) -> None:
    with canned_http(Reply(200, b"ri", length=5), Reply(200, b"right")) as server:
        http(server).download("/x", tmp_path / "x", 5, hashlib.sha256(b"right").hexdigest())
    assert (tmp_path / "x").read_bytes() == b"right"


def test_nothing_is_tried_again_once_the_task_ends() -> None:
    with canned_http(Reply(503)) as server:
        one = http(server)
        one.stop.set()
        with pytest.raises(Preempted):
            one.ask("GET", "/x")
        assert server.requests == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7), ("1e9", 60), ("-3", 0), ("soon", 0), ("nan", 0)]
)
def test_what_a_server_asks_for_is_bounded(text: str, seconds: float) -> None:
    assert retry_after({"Retry-After": text}) == seconds


def promise(**blob: object) -> JobStatus:
    held = {"sha256": "0" * 64, "size": 10, "media_type": "image/png", "filename": "a.png", **blob}
    return JobStatus.model_validate(
        {"job": KEY, "key": KEY, "state": "done", "outputs": {"open-000": held}}
    )


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        ({"size": 101}, "101 bytes, at most 100"),
        ({"media_type": "application/x-sh"}, "application/x-sh"),
        ({"filename": "../../a.png"}, "a.png"),
        ({"filename": ".bashrc"}, "bashrc"),
    ],
)
def test_outputs_that_are_too_large_or_of_another_kind_are_not_fetched(blob, said: str) -> None:
    check_promise(promise(), 100)
    with pytest.raises(RemoteUnavailable, match=said) as caught:
        check_promise(promise(**blob), 100)
    assert caught.value.code == "remote.output"


@pytest.mark.parametrize("kind", ["video/x-matroska", "video/x-msvideo", "image/png"])
def test_media_that_is_none_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(b"#EXTM3U\nfile:///etc/passwd\n" * 10)
    with pytest.raises(RemoteUnavailable, match="refused what the API made"):
        check_media(path, kind)
