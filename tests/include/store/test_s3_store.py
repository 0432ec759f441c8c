"""What only S3 can get wrong: the network, permissions, parts, pages."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from include.errors import StoreRefused, StoreUnavailable, UnderstudyError, Usage
from include.store.s3 import S3Store
from include.store.s3_transfer import MULTIPART_BYTES
from tests.include.store.conftest import BUCKET, SYSTEM_TESTS
from tests.services.canned_http import Reply, canned_http
from tests.services.ceph_rgw import Endpoint

Python = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retries: the first answer decides. Credentials that nobody checks."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")


def _calls(store: S3Store, folder: Path) -> dict[str, Callable[[], object]]:
    source = folder / "source"
    source.write_bytes(b"x")
    return {
        "get": lambda: store.get("a"),
        "chunks": lambda: list(store.chunks("a")),
        "get_file": lambda: store.get_file("a", folder / "out"),
        "put": lambda: store.put("a", b"x"),
        "put_file": lambda: store.put_file("a", source),
        "put_if_absent": lambda: store.put_if_absent("a", b"x"),
        "head": lambda: store.head("a"),
        "list": lambda: list(store.list()),
        "delete": lambda: store.delete("a"),
        "copy": lambda: store.copy("a", "b"),
    }


def test_a_missing_bucket_is_named_whatever_is_asked(s3_endpoint: Endpoint, tmp_path: Path) -> None:
    store = S3Store(f"s3://no-such-bucket/x?endpoint={s3_endpoint.url}")
    for method, call in _calls(store, tmp_path).items():
        with pytest.raises(StoreRefused, match="'no-such-bucket'") as caught:
            call()
        assert caught.value.code == "store.bucket", method
    assert not (tmp_path / "out").exists()


if SYSTEM_TESTS:  # the emulator takes any credentials

    @pytest.mark.parametrize(("name", "value"), [("ID", "nobody"), ("SECRET", "wrong")])
    def test_wrong_credentials_are_named_whatever_is_asked(
        s3_endpoint: Endpoint,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        value: str,
    ) -> None:
        variable = {"ID": "AWS_ACCESS_KEY_ID", "SECRET": "AWS_SECRET_ACCESS_KEY"}[name]
        monkeypatch.setenv(variable, value)
        store = S3Store(f"s3://{BUCKET}/x?endpoint={s3_endpoint.url}")
        for method, call in _calls(store, tmp_path).items():
            with pytest.raises(StoreRefused, match="AWS_SECRET_ACCESS_KEY") as caught:
                call()
            assert caught.value.code == "store.credentials", method


def test_no_credentials_at_all_says_which_variables_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreRefused, match="AWS_ACCESS_KEY_ID") as caught:
        S3Store("s3://bucket?endpoint=http://127.0.0.1:9").get("a")
    assert caught.value.code == "store.credentials"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (503, "SlowDown", "store.throttled"),
        (429, "TooManyRequests", "store.throttled"),
        (403, "AccessDenied", "store.credentials"),
        (403, "RequestTimeTooSkewed", "store.clock"),
        (400, "BadDigest", "store.checksum"),
        (507, "InsufficientStorage", "disk.full"),
        (403, "QuotaExceeded", "disk.full"),
        (500, "InternalError", "store.unreachable"),
    ],
)
@pytest.mark.usefixtures("one_try")
def test_each_refusal_has_a_code_and_an_advice(
    status: int, code: str, expected: str, tmp_path: Path
) -> None:
    with canned_http(Reply.s3_error(status, code)) as server:
        store = S3Store(f"s3://bucket?endpoint={server.url}")
        calls = _calls(store, tmp_path)
        for method in ("get", "put", "put_file", "put_if_absent", "list"):
            with pytest.raises(UnderstudyError) as caught:
                calls[method]()
            permanent = expected in ("store.credentials", "store.clock")
            assert isinstance(caught.value, StoreRefused) == permanent
            assert caught.value.code == expected, method


def test_a_refusal_that_passes_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")
    with canned_http(Reply.s3_error(503, "SlowDown"), Reply(200, b"content")) as server:
        assert S3Store(f"s3://bucket?endpoint={server.url}").get("a") == b"content"
        assert server.requests == ["GET /bucket/a"] * 2


@pytest.mark.usefixtures("one_try")
def test_a_conflict_while_creating_is_tried_again_until_it_is_decided() -> None:
    conflict = Reply.s3_error(409, "ConditionalRequestConflict")
    with canned_http(conflict, conflict, Reply(200)) as server:
        assert S3Store(f"s3://bucket?endpoint={server.url}").put_if_absent("a", b"x")
        assert len(server.requests) == 3
    with canned_http(conflict, Reply.s3_error(412, "PreconditionFailed")) as server:
        assert not S3Store(f"s3://bucket?endpoint={server.url}").put_if_absent("a", b"x")
    with (
        canned_http(conflict) as server,
        pytest.raises(StoreUnavailable, match="conflicting writes") as caught,
    ):
        S3Store(f"s3://bucket?endpoint={server.url}").put_if_absent("a", b"x")
    assert caught.value.code == "store.conflict"


@pytest.mark.usefixtures("one_try")
def test_a_connection_cut_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    with canned_http(Reply(200, b"half", length=8)) as server:
        store = S3Store(f"s3://bucket?endpoint={server.url}")
        for call in (lambda: store.get("a"), lambda: store.get_file("a", tmp_path / "out")):
            with pytest.raises(StoreUnavailable) as caught:
                call()
            assert caught.value.code == "store.unreachable"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("one_try")
def test_an_endpoint_that_nobody_listens_on_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        store = S3Store(f"s3://bucket?endpoint={url}")
        for method, call in _calls(store, tmp_path).items():
            with pytest.raises(StoreUnavailable, match="endpoint is up") as caught:
                call()
            assert caught.value.code == "store.unreachable", method


def test_the_endpoint_may_come_from_the_environment(
    s3_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint.url)
    store = S3Store(f"s3://{BUCKET}/from-environment")
    store.put("a", b"x")
    assert store.uri == f"s3://{BUCKET}/from-environment"
    assert S3Store(f"{store.uri}?endpoint={s3_endpoint.url}").get("a") == b"x"


def test_prefixes_keep_stores_in_one_bucket_apart(s3_uri: str) -> None:
    base, _, query = s3_uri.partition("?")
    one, ten = S3Store(f"{base}/1?{query}"), S3Store(f"{base}/10?{query}")
    one.put("a", b"one")
    ten.put("a", b"ten")
    assert [info.key for info in one.list()] == ["a"]
    assert one.get("a") == b"one"
    assert [info.key for info in S3Store(s3_uri).list("1")] == ["1/a", "10/a"]


def test_a_key_is_measured_together_with_the_prefix(s3_uri: str) -> None:
    key = "/".join(["x" * 250] * 4)  # 1003 bytes
    with pytest.raises(Usage, match="longer than 1024"):
        S3Store(s3_uri.replace("?", "/a-longer-prefix?")).put(key, b"")


def test_large_files_go_up_in_parts(s3_uri: str, tmp_path: Path) -> None:
    store, source = S3Store(s3_uri), tmp_path / "source"
    source.write_bytes(b"x" * (2 * MULTIPART_BYTES + 1))
    store.put_file("big", source)
    info = store.head("big")
    assert info is not None
    assert info.etag.endswith("-3")


def test_an_upload_that_was_cut_off_is_invisible_and_can_be_swept(s3_uri: str) -> None:
    store = S3Store(s3_uri)
    at = {"Bucket": store.bucket, "Key": f"{store.prefix}/big"}
    upload = store.client.create_multipart_upload(**at)["UploadId"]
    store.client.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))
    assert store.head("big") is None
    assert list(store.list()) == []
    if SYSTEM_TESTS:  # the emulator dates every upload 2010
        assert store.sweep(3600) == 0
    assert store.sweep(-5) == 1
    assert store.sweep(-5) == 0


def test_a_listing_of_several_pages_is_complete_and_in_order(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.store.s3.PAGE_SIZE", 7)
    store = S3Store(s3_uri)
    keys = [f"many/{number:04d}" for number in range(30)]
    for key in keys:
        store.put(key, b"")
    assert [info.key for info in store.list("many/")] == keys


def test_boto3_is_not_imported_before_s3_is_used(python: Python) -> None:
    code = (
        "import sys\nfrom include.store import open_store\n"
        "open_store('s3://bucket')\nopen_store('/tmp')\n"
        "print([m for m in sys.modules if m.startswith('boto')])"
    )
    assert python(code).communicate()[0].strip() == "[]"


def test_a_signed_url_lives_at_most_a_week(s3_uri: str) -> None:
    for seconds in (0, 7 * 24 * 3600 + 1):
        with pytest.raises(Usage, match="signed URL"):
            S3Store(s3_uri).presign("a", seconds)
