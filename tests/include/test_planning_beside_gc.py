"""Planning while garbage is collected: sources that went meanwhile are copied again."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from include.consent import dump_consent, issue_consent
from include.errors import BadInput
from include.planning import plan_shards, read_brief, validate_rows
from include.settings import Settings
from include.store import DirectoryStore, open_store
from include.store.notice import Notice, notice_key

BRIEF = {
    "campaign": "spring",
    "tenant": "acme",
    "template": {"video": "ad.mp4"},
    "recipients": "recipients.csv",
    "policy": {"required": []},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        store=str(tmp_path / "store"), state=tmp_path / "state", roots=(tmp_path,),
        worker_python=Path("python"), nudity_python=Path("python"),
    )  # fmt: skip


@pytest.fixture
def brief(tmp_path: Path, settings: Settings) -> Path:
    (tmp_path / "ad.mp4").write_bytes(b"a video")
    (tmp_path / "eve.jpg").write_bytes(b"a photo")
    record = issue_consent(
        tenant="acme", subject="Eve", scope={"face_swap", "lip_sync"},
        face_sha256=hashlib.sha256(b"a photo").hexdigest(), keys=settings.consent_keys,
    )  # fmt: skip
    (tmp_path / "eve.json").write_bytes(dump_consent(record))
    table = "id,face,script,consent\neve,eve.jpg,Hi.,eve.json\n"
    (tmp_path / "recipients.csv").write_text(table)
    (tmp_path / "brief.yaml").write_text(yaml.safe_dump(BRIEF))
    return tmp_path / "brief.yaml"


def _collected(store: DirectoryStore, number: int, *, active: bool = False) -> None:
    """What a collection leaves that ended a moment ago: no sources, and its number."""
    for info in list(store.list("acme/blob/")):
        store.delete(info.key)
    notice = Notice(number=number, active=active, at=datetime.now(UTC))
    store.put(notice_key("acme"), notice.model_dump_json().encode())


def _blobs(store: DirectoryStore) -> set[bytes]:
    return {store.get(info.key) for info in store.list("acme/blob/")}


def test_sources_that_went_between_looking_and_planning_are_copied_again(
    brief: Path, settings: Settings
) -> None:
    store = open_store(settings.store)
    assert isinstance(store, DirectoryStore)
    checked = validate_rows(read_brief(str(brief), settings), settings)
    assert json.loads(store.get(checked["draft"]))["collected"] == 0
    _collected(store, 5)
    plan_shards(checked, settings)
    assert _blobs(store) == {b"a video", b"a photo", (brief.parent / "eve.json").read_bytes()}


def test_a_source_that_is_gone_at_its_origin_too_fails_the_plan_with_its_name(
    brief: Path, settings: Settings
) -> None:
    store = open_store(settings.store)
    assert isinstance(store, DirectoryStore)
    checked = validate_rows(read_brief(str(brief), settings), settings)
    _collected(store, 5)
    (brief.parent / "eve.jpg").write_bytes(b"another photo")
    with pytest.raises(BadInput, match=r"eve\.jpg changed"):
        plan_shards(checked, settings)


def test_a_batch_that_was_going_on_before_anything_was_seen_counts_as_news(
    brief: Path, settings: Settings
) -> None:
    store = open_store(settings.store)
    assert isinstance(store, DirectoryStore)
    _collected(store, 5, active=True)
    checked = validate_rows(read_brief(str(brief), settings), settings)
    _collected(store, 5)
    plan_shards(checked, settings)
    assert _blobs(store) == {b"a video", b"a photo", (brief.parent / "eve.json").read_bytes()}
