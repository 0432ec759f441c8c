"""The media plugin: what it serves, and that it is light to load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", (0, 99)),
        ("bytes=10-19", (10, 19)),
        ("bytes=-5", (95, 99)),
        ("bytes=90-500", (90, 99)),
        ("bytes=100-", None),
        ("bytes=9-3", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
    ],
)
def test_byte_ranges(header, expected):
    from plugins.understudy_media import byte_range

    assert byte_range(header, 100) == expected


def test_only_pictures_and_videos_are_shown():
    from plugins.understudy_media import media_type

    assert media_type(b"\xff\xd8\xff\xe0") == "image/jpeg"
    assert media_type(b"\x00\x00\x00\x20ftypisom") == "video/mp4"
    assert media_type(b'{"face_sha256": 1}') is None
    assert media_type(b"<html>") is None


@pytest.mark.parametrize(
    "key",
    ["acme/plan/x.json", "../secrets", "acme/blob/aa/../../x", "", "acme/blob/aa/" + "g" * 64],
)
def test_only_blobs_have_an_address(key):
    from plugins.understudy_media import BLOB

    assert not BLOB.fullmatch(key)


def test_loading_the_plugin_imports_no_web_framework():
    code = (
        "import sys; import plugins.understudy_media;"
        "print([m for m in ('fastapi', 'boto3', 'airflow.api_fastapi.app') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("key", "served"),
    [
        ("acme/drift/report/20260301T060000000000-scheduled__2026.html", True),
        ("acme/drift/report/../../other/drift/report/x.html", False),
        ("acme/drift/report/x.json", False),
        ("acme/drift/result/x.html", False),
        ("acme/drift/report/a/b.html", False),
    ],
)
def test_only_drift_reports_have_an_address(key, served):
    from plugins.understudy_media import REPORT

    assert bool(REPORT.fullmatch(key)) is served


def test_a_report_is_not_served_to_strangers(tmp_path, monkeypatch):
    from fastapi.testclient import TestClient

    from include.store import open_store
    from plugins.understudy_media import make_app

    monkeypatch.setenv("UNDERSTUDY_STORE", str(tmp_path))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    open_store(str(tmp_path)).put("acme/drift/report/x.html", b"<!doctype html><p>drift")
    client = TestClient(make_app(), raise_server_exceptions=False)
    assert client.get("/drift", params={"key": "acme/drift/report/x.html"}).status_code != 200


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """The application over a store with pages, as whoever is logged in sees it."""
    from fastapi.testclient import TestClient

    from include.store import open_store
    from plugins.understudy_media import make_app

    monkeypatch.setenv("UNDERSTUDY_STORE", str(tmp_path))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    store = open_store(str(tmp_path))
    store.put("acme/drift/report/x.html", b"<!doctype html><p>drift")
    store.put("acme/drift/docs/x/index.html", b"<!doctype html><p>docs")
    store.put("acme/drift/docs/x/validations/photo/__none__/1.5Z/a b.html", b"<p>rows")
    store.put("acme/drift/docs/x/static/styles/a.css", b"p {}")
    store.put("acme/plan/x/plan.json", b"{}")
    app = make_app()
    strangers = TestClient(app, raise_server_exceptions=False)
    login = {d.dependency for r in app.routes for d in getattr(r, "dependencies", ())}

    def known():
        app.dependency_overrides.update(dict.fromkeys(login, lambda: None))
        return TestClient(app, raise_server_exceptions=False)

    return strangers, known


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("index.html", "text/html"),
        ("validations/photo/__none__/1.5Z/a%20b.html", "text/html"),
        ("static/styles/a.css", "text/css"),
    ],
)
def test_data_docs_are_served_after_login_and_may_load_nothing_from_elsewhere(pages, path, kind):
    strangers, known = pages
    at = f"/docs/acme/drift/docs/x/{path}"
    assert strangers.get(at).status_code in (401, 403, 500)
    found = known().get(at)
    assert (found.status_code, found.headers["content-type"].split(";")[0]) == (200, kind)
    policy = found.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "key",
    [
        "acme/plan/x/plan.json",
        "acme/drift/docs/x/../../../plan/x/plan.json",
        "acme/drift/docs/x/..%2F..%2F..%2Fplan/x/plan.html",
        "acme/drift/docs/y/index.html",
        "acme/drift/report/x.html",
    ],
)
def test_nothing_but_data_docs_is_at_their_address(pages, key):
    _, known = pages
    assert known().get(f"/docs/{key}").status_code == 404
