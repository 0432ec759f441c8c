"""Progress in the store: the newest, not too often, and never in the stage's way."""

from __future__ import annotations

import json

import pytest

from include.errors import StoreUnavailable
from include.stages.progress import EVERY_S, keep_progress, progress_key, read_progress
from include.store import open_store

pytestmark = pytest.mark.worker

KEY = progress_key("acme/run/x/sign/001.request.json")


def at(done, kind="progress"):
    return {"event": kind, "stage": "sign", "unit": "eve", "done": done, "total": 200}


def test_the_newest_progress_is_kept_at_most_once_in_a_while(tmp_path):
    store, now = open_store(str(tmp_path)), 0.0
    take = keep_progress(store, KEY, lambda: now)
    take(at(25))
    assert read_progress(store, KEY) is None, "short stages write nothing"
    now = EVERY_S
    take(at(50))
    take(at(75))
    take(at(0, kind="warning"))
    assert read_progress(store, KEY) == "eve 50/200"
    now = 2 * EVERY_S
    take(at(100))
    assert read_progress(store, KEY) == "eve 100/200"
    assert [info.key for info in store.list()] == ["acme/run/x/sign/001.progress.json"]


def test_a_store_that_cannot_be_reached_does_not_stop_a_stage(tmp_path, monkeypatch):
    store, now = open_store(str(tmp_path)), 0.0
    take = keep_progress(store, KEY, lambda: now)

    def refuse(key, data):
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(store, "put", refuse)
    now = EVERY_S
    take(at(50))
    assert read_progress(store, KEY) is None


def test_what_is_no_progress_reads_as_none(tmp_path):
    store = open_store(str(tmp_path))
    store.put(KEY, b"not json")
    assert read_progress(store, KEY) is None
    store.put(KEY, json.dumps(at(5)).encode())
    assert read_progress(store, KEY) == "eve 5/200"
