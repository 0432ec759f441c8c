"""The S3 store through a proxy that fails on demand, in front of the server that tests run on."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from include.contracts.manifest import BlobRef, KeyMaterial
from include.errors import (
    CorruptArtifact,
    StoreRefused,
    StoreUnavailable,
    Transient,
    UnderstudyError,
)
from include.store.cache import ArtifactCache
from include.store.lease import Lease
from include.store.s3 import S3Store
from include.store.s3_client import READ_ENV, forget_clients
from tests.include.store.conftest import BUCKET, SYSTEM_TESTS
from tests.services.ceph_rgw import Endpoint
from tests.services.fault_proxy import (
    Fault,
    FaultProxy,
    answer,
    cut_reply,
    cut_request,
    delay,
    drop_reply,
    drop_request,
    fault_proxy,
    flip_reply,
    flip_request,
    hang,
)

Python = Callable[..., "subprocess.Popen[str]"]
TRIES = 3
"""AWS_MAX_ATTEMPTS of these tests."""
PART = 5 << 20
"""As small as S3 allows."""
BIG = 2 * PART + 5


@pytest.fixture(scope="module")
def running(s3_endpoint: Endpoint) -> Iterator[FaultProxy]:
    with fault_proxy(s3_endpoint.url) as proxy:
        yield proxy


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the retries would have waited; they do not."""
    told: list[float] = []
    clock = SimpleNamespace(sleep=told.append, time=time.time)
    monkeypatch.setattr("botocore.endpoint.time", clock)
    monkeypatch.setattr("include.store.s3_client.time", clock)
    return told


@pytest.fixture
def proxy(
    running: FaultProxy, s3_uri: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> FaultProxy:
    monkeypatch.setattr("include.store.s3_transfer.MULTIPART_BYTES", PART)
    running.clear()
    forget_clients()  # each client has a budget of retries of its own
    return running


@pytest.fixture
def direct(s3_uri: str) -> S3Store:
    """The same objects, past the proxy."""
    return S3Store(s3_uri)


@pytest.fixture
def faulty(proxy: FaultProxy, s3_uri: str) -> S3Store:
    return S3Store(f"{s3_uri.partition('?')[0]}?endpoint={proxy.url}")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big"
    path.write_bytes(hashlib.shake_256(b"big").digest(1 << 20) * 10 + b"tail!")
    assert path.stat().st_size == BIG
    return path


PASSING: dict[str, Fault] = {
    "slow-down": answer(503, "SlowDown"),
    "internal-error": answer(500, "InternalError"),
    "lost-request": drop_request(),
    "lost-reply": drop_reply(),
    "half-a-reply": cut_reply(after=3),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_tried_again_and_nobody_notices(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, fault: Fault, tmp_path: Path
) -> None:
    direct.put("a", b"content")
    source = tmp_path / "source"
    source.write_bytes(b"from a file")
    calls: list[Callable[[], object]] = [
        lambda: faulty.get("a") == b"content",
        lambda: b"".join(faulty.chunks("a")) == b"content",
        lambda: faulty.get_file("a", tmp_path / "out"),
        lambda: faulty.put("b", b"written"),
        lambda: faulty.put_file("c", source),
        lambda: faulty.put_if_absent("d", b"created") is True,
        lambda: faulty.head("a") is not None,
        lambda: [info.key for info in faulty.list("a")] == ["a"],
        lambda: faulty.copy("a", "e"),
        lambda: faulty.delete("a"),
    ]
    for call in calls:
        proxy.clear()
        proxy.add(fault, times=TRIES - 1)
        assert call() in (None, True)
    assert (tmp_path / "out").read_bytes() == b"content"
    found = {info.key: direct.get(info.key) for info in direct.list()}
    assert found == {"b": b"written", "c": b"from a file", "d": b"created", "e": b"content"}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (answer(503, "SlowDown"), "store.throttled"),
        (answer(500, "InternalError"), "store.unreachable"),
        (drop_request(), "store.unreachable"),
    ],
    ids=["slow-down", "internal-error", "lost-request"],
)
def test_what_does_not_pass_ends_after_a_bounded_number_of_tries_as_transient(
    proxy: FaultProxy,
    faulty: S3Store,
    waits: list[float],
    fault: Fault,
    code: str,
    tmp_path: Path,
) -> None:
    for call in (
        lambda: faulty.get("a"),
        lambda: faulty.put("a", b"x"),
        lambda: faulty.put_if_absent("a", b"x"),
        lambda: faulty.get_file("a", tmp_path / "out"),
    ):
        proxy.clear()
        waits.clear()
        proxy.add(fault, times=-1)
        with pytest.raises(Transient) as caught:
            call()
        assert caught.value.code == code
        assert proxy.hits() == TRIES
        assert len(waits) == TRIES - 1
        assert all(0 <= waited <= 2 ** (n + 1) for n, waited in enumerate(waits))
    assert list(tmp_path.iterdir()) == []


def test_retries_do_not_wait_in_step(
    proxy: FaultProxy, faulty: S3Store, waits: list[float]
) -> None:
    proxy.add(answer(503, "SlowDown"), times=-1)
    for _ in range(4):
        with pytest.raises(StoreUnavailable):
            faulty.get("a")
    assert len(set(waits)) == len(waits)


@pytest.mark.parametrize("fault", [hang(), delay(30)], ids=["hung", "late"])
def test_a_server_that_does_not_answer_in_time_is_given_up_and_asked_again(
    proxy: FaultProxy, faulty: S3Store, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setenv(READ_ENV, "0.4")
    faulty.put("a", b"content")
    proxy.add(fault, method="GET")
    assert faulty.get("a") == b"content"
    proxy.add(fault, method="GET", times=-1)
    with pytest.raises(StoreUnavailable, match=READ_ENV) as caught:
        faulty.get("a")
    assert caught.value.code == "store.timeout"


@pytest.mark.parametrize(
    ("fault", "code", "advice"),
    [
        (answer(404, "NoSuchBucket"), "store.bucket", "Create it"),
        (answer(403, "InvalidAccessKeyId"), "store.credentials", "AWS_ACCESS_KEY_ID"),
        (answer(403, "SignatureDoesNotMatch"), "store.credentials", "AWS_SECRET_ACCESS_KEY"),
        (
            answer(403, "RequestTimeTooSkewed", Date="Tue, 01 Jan 2019 00:00:00 GMT"),
            "store.clock",
            "there Tue, 01 Jan 2019",
        ),
    ],
    ids=["no-bucket", "unknown-key", "wrong-secret", "clock"],
)
def test_what_cannot_pass_is_not_tried_again_and_says_what_to_do(
    proxy: FaultProxy, faulty: S3Store, fault: Fault, code: str, advice: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for call in (
        lambda: faulty.get("a"),
        lambda: faulty.head("a"),
        lambda: faulty.put("a", b"x"),
        lambda: faulty.put_file("a", source),
        lambda: faulty.put_if_absent("a", b"x"),
        lambda: list(faulty.list()),
    ):
        proxy.clear()
        proxy.add(fault, times=-1)
        with pytest.raises(StoreRefused, match=advice) as caught:
            call()
        assert caught.value.code == code
        assert proxy.hits() <= 2, "only a HEAD, whose refusal gives no reason, is asked once more"
        assert not caught.value.retry


def test_expired_credentials_are_read_again_by_the_next_try(
    proxy: FaultProxy, faulty: S3Store
) -> None:
    faulty.put("a", b"content")
    before = faulty.client
    proxy.add(answer(400, "ExpiredToken"), times=1)
    with pytest.raises(StoreUnavailable, match="have expired") as caught:
        faulty.get("a")
    assert caught.value.code == "store.expired"
    assert faulty.client is not before
    assert faulty.get("a") == b"content"


if SYSTEM_TESTS:  # the emulator does not look at the time

    def test_a_clock_that_is_wrong_by_an_hour_is_named_by_the_real_server(
        s3_uri: str, python: Python
    ) -> None:
        code = (
            "import datetime, sys\nimport botocore.auth\n"
            "now = botocore.auth.get_current_datetime\n"
            "botocore.auth.get_current_datetime = "
            "lambda *a, **k: now(*a, **k) - datetime.timedelta(hours=1)\n"
            "from include.store import open_store\nfrom include.errors import StoreRefused\n"
            "try:\n    open_store(sys.argv[1]).put('a', b'x')\n"
            "except StoreRefused as error:\n    print(error.code, error.message)\n"
        )
        said = python(code, s3_uri).communicate()[0]
        assert said.startswith("store.clock")
        assert "NTP" in said


def test_a_create_whose_reply_was_lost_is_known_to_be_ours(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store
) -> None:
    proxy.add(drop_reply(), method="PUT")
    assert faulty.put_if_absent("a", b"same words")
    assert proxy.hits("PUT") == 2
    assert direct.get("a") == b"same words"


def test_a_rival_that_wrote_the_same_bytes_is_not_taken_for_us(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store
) -> None:
    assert direct.put_if_absent("a", b"same words")
    proxy.add(drop_request(), method="PUT")
    assert not faulty.put_if_absent("a", b"same words")
    assert not faulty.put_if_absent("a", b"same words")


def test_a_lease_whose_creation_was_answered_late_is_held(
    proxy: FaultProxy, faulty: S3Store
) -> None:
    proxy.add(drop_reply(), method="PUT", path="/lease/")
    with Lease.acquire(faulty, "acme", "f" * 64) as lease:
        assert lease.held


def test_a_changed_byte_on_the_way_up_never_stands(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, big: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"some content of a file")
    for number, (key, write) in enumerate(
        {
            "put": lambda: faulty.put("put", small.read_bytes()),
            "file": lambda: faulty.put_file("file", small),
            "create": lambda: faulty.put_if_absent("create", small.read_bytes()),
            "parts": lambda: faulty.put_file("parts", big),
        }.items()
    ):
        proxy.clear()
        proxy.add(flip_request(at=7), method="PUT", path=key, skip=int(key == "parts"))
        assert write() in (None, True), number
        expected = big if key == "parts" else small
        direct.get_file(key, tmp_path / key)
        assert (tmp_path / key).read_bytes() == expected.read_bytes()


def test_bytes_that_always_arrive_changed_are_refused_and_leave_no_artifact(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, tmp_path: Path
) -> None:
    source = tmp_path / "roi.mkv"
    source.write_bytes(b"frames")
    proxy.add(flip_request(), method="PUT", path="/blob/", times=-1)
    material = KeyMaterial(stage="face_swap", stage_version=1)
    with pytest.raises(StoreUnavailable, match="alters them") as caught:
        ArtifactCache(faulty, "acme").publish(material, {"roi": (source, "video/x")}, {})
    assert caught.value.code == "store.checksum"
    assert ArtifactCache(direct, "acme").lookup("face_swap", material.key()) is None
    proxy.clear()
    ArtifactCache(faulty, "acme").publish(material, {"roi": (source, "video/x")}, {})
    made = ArtifactCache(direct, "acme").lookup("face_swap", material.key())
    assert made is not None
    assert ArtifactCache(direct, "acme").read_bytes(made.outputs["roi"]) == b"frames"


def test_a_changed_byte_on_the_way_down_is_noticed_and_read_again(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, big: Path, tmp_path: Path
) -> None:
    cache = ArtifactCache(direct, "acme")
    material = KeyMaterial(stage="face_swap", stage_version=1)
    made = cache.publish(material, {"roi": (big, "video/x")}, {"n": 1})
    through = ArtifactCache(faulty, "acme")
    proxy.add(flip_reply(at=40), method="GET", path="/face_swap/")
    assert through.lookup("face_swap", material.key()) == made
    proxy.add(flip_reply(at=40), method="GET", path="/blob/", skip=1)
    fetched = through.fetch(made.outputs["roi"], tmp_path)
    assert fetched.read_bytes() == big.read_bytes()
    assert cache.lookup("face_swap", material.key()) == made


def test_bytes_that_always_come_down_changed_are_corrupt_and_what_is_stored_stays(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, tmp_path: Path
) -> None:
    cache = ArtifactCache(direct, "acme")
    source = tmp_path / "track.json"
    source.write_bytes(b'{"frames": 25}')
    material = KeyMaterial(stage="track_face", stage_version=1)
    blob = cache.publish(material, {"track": (source, "application/json")}, {}).outputs["track"]
    for place in range(10):  # another byte each time, as a bad cable or memory would
        proxy.add(flip_reply(at=place), method="GET", path="/blob/")
    with pytest.raises(CorruptArtifact):
        ArtifactCache(faulty, "acme").fetch(blob, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    proxy.clear()
    assert ArtifactCache(faulty, "acme").read_bytes(blob) == b'{"frames": 25}'


def test_a_stored_byte_that_is_wrong_is_found_and_made_again(
    faulty: S3Store, direct: S3Store, tmp_path: Path
) -> None:
    source = tmp_path / "roi.mkv"
    source.write_bytes(b"frames")
    cache = ArtifactCache(faulty, "acme")
    material = KeyMaterial(stage="face_swap", stage_version=1)
    blob = cache.publish(material, {"roi": (source, "video/x")}, {}).outputs["roi"]
    direct.put(cache.blob_key(blob.sha256), b"framez")
    for read in (lambda: cache.fetch(blob, tmp_path / "out"), lambda: cache.read_bytes(blob)):
        with pytest.raises(CorruptArtifact):
            read()
    assert cache.lookup("face_swap", material.key()) is None
    assert cache.publish(material, {"roi": (source, "video/x")}, {}).outputs["roi"] == blob
    assert cache.read_bytes(blob) == b"frames"


def test_a_download_that_breaks_off_goes_on_where_it_was(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, big: Path, tmp_path: Path
) -> None:
    direct.put_file("big", big)
    proxy.add(cut_reply(after=3 << 20), method="GET", times=3)
    digest = hashlib.sha256()
    for chunk in faulty.chunks("big"):
        digest.update(chunk)
    assert digest.hexdigest() == hashlib.sha256(big.read_bytes()).hexdigest()
    assert proxy.hits("GET") == 4, "every cut brought three megabytes on"
    proxy.clear()
    proxy.add(cut_reply(after=1 << 20), method="GET", times=4)
    faulty.get_file("big", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == big.read_bytes()


def test_an_object_replaced_during_a_broken_download_is_not_patched_together(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, big: Path
) -> None:
    direct.put_file("big", big)
    proxy.add(cut_reply(after=3 << 20), method="GET")
    reading = faulty.chunks("big")
    next(reading)
    direct.put("big", b"x" * BIG)
    with pytest.raises(StoreUnavailable, match="replaced") as caught:
        list(reading)
    assert caught.value.code == "store.changed"


@pytest.mark.parametrize("fault", [cut_request(1 << 20), drop_request()], ids=["cut", "lost"])
def test_an_upload_that_breaks_off_is_sent_again_or_leaves_nothing(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, big: Path, fault: Fault
) -> None:
    proxy.add(fault, method="PUT", path="partNumber=2")
    faulty.put_file("big", big)
    info = direct.head("big")
    assert info is not None
    assert info.size == BIG
    direct.delete("big")
    proxy.add(fault, method="PUT", path="partNumber=2", times=-1)
    with pytest.raises(UnderstudyError):
        faulty.put_file("big", big)
    assert direct.head("big") is None
    assert list(direct.list()) == []
    assert direct.sweep(-5) == 0, "the upload was taken back"


def test_the_end_of_an_upload_whose_reply_was_lost_is_an_end(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, big: Path, tmp_path: Path
) -> None:
    proxy.add(drop_reply(), method="POST", path="uploadId=")
    faulty.put_file("big", big)
    direct.get_file("big", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == big.read_bytes()


def test_a_publish_interrupted_anywhere_shows_nothing_or_all(
    proxy: FaultProxy, faulty: S3Store, direct: S3Store, tmp_path: Path
) -> None:
    files: dict[str, tuple[Path, str] | BlobRef] = {}
    for name in ("one", "two"):
        path = tmp_path / name
        path.write_bytes(name.encode() * 100)
        files[name] = (path, "text/plain")
    for passed in range(8):
        material = KeyMaterial(stage="victim", stage_version=1, params={"passed": passed})
        for name in ("one", "two"):
            tmp_path.joinpath(name).write_bytes(f"{name} {passed}".encode() * 100)
        proxy.clear()
        proxy.add(answer(503, "SlowDown"), skip=passed, times=-1)
        try:
            ArtifactCache(faulty, "acme").publish(material, files, {})
            finished = True
        except Transient:
            finished = False
        found = ArtifactCache(direct, "acme").lookup("victim", material.key())
        assert (found is not None) == finished, passed
    assert finished


def test_signatures_made_for_the_proxy_are_good_at_the_server(
    proxy: FaultProxy, faulty: S3Store
) -> None:
    faulty.put("with space/a+b&c=d.txt", b"x")
    assert [info.key for info in faulty.list()] == ["with space/a+b&c=d.txt"]
    assert f"/{BUCKET}/" in proxy.requests[0]
