"""Plans: keys that follow from the brief, shards, and media that are taken in once."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from include.consent import (
    dump_consent,
    load_consent,
    sign_consent,
    tenant_key,
)
from include.contracts.plan import ShardPlan
from include.errors import BadBrief, UnderstudyError, Usage
from include.planning import shard_size
from include.remote.config import Step
from include.remote.fallback import with_step
from include.store import DirectoryStore, open_store
from tests.support.campaign import BRIEF, Campaign, sha


def test_good_rows_become_shards_and_media_are_in_the_store(campaign: Campaign) -> None:
    campaign.add("anna")
    campaign.add("ben")
    plan = campaign.plan()
    assert (plan.accepted, plan.rejects) == (2, ())
    assert sum(shard.rows for shard in plan.shards) == 2
    row = campaign.shard(plan).rows[0]
    assert row.script == "Hello Anna"
    digest = row.sources["face"].blob.sha256
    assert open_store(plan.store).get(f"acme/blob/{digest[:2]}/{digest}") == b"anna"


def test_the_same_brief_gives_the_same_keys_and_plan(campaign: Campaign) -> None:
    campaign.add("anna")
    first, second = campaign.plan(), campaign.plan()
    assert first.plan_id == second.plan_id
    assert campaign.shard(first) == campaign.shard(second)


def keys(campaign: Campaign) -> dict[str, str]:
    row = campaign.shard(campaign.plan()).rows[0]
    template = campaign.shard(campaign.plan()).template
    return {name: unit.key(name) for unit in (template, row) for name in unit.materials}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_another_script_changes_the_voice_and_what_hears_it(campaign: Campaign) -> None:
    campaign.add("anna", script="Hello {name}")
    before = keys(campaign)
    campaign.rows.clear()
    campaign.add("anna", script="Good morning {name}")
    assert changed(before, keys(campaign)) == {
        "ingest_recipients/voice", "measure_inputs/audio", "lip_sync", "compose", "classify",
        "measure_render", "sign", "publish",
    }  # fmt: skip


def test_another_photo_leaves_voice_and_template_alone(campaign: Campaign) -> None:
    campaign.add("anna")
    before = keys(campaign)
    (campaign.root / "anna.jpg").write_bytes(b"another")
    campaign.consent("anna.json", campaign.root / "anna.jpg", {"face_swap", "lip_sync"})
    assert changed(before, keys(campaign)) == {
        "ingest_recipients/face", "measure_inputs/photo", "face_swap", "lip_sync", "upscale",
        "compose", "classify", "measure_render", "sign", "publish",
    }  # fmt: skip


def test_another_upscaler_leaves_the_swap_and_the_mouth_alone(campaign: Campaign) -> None:
    campaign.add("anna")
    before = keys(campaign)
    campaign.brief.write_text(BRIEF + "tier: preview\n")
    assert changed(before, keys(campaign)) == {
        "upscale_plate", "encode_plate", "upscale", "compose", "classify", "measure_render",
        "sign", "publish",
    }  # fmt: skip


def test_renewed_consent_changes_no_key(campaign: Campaign) -> None:
    campaign.add("anna")
    before = keys(campaign)
    campaign.consent("anna.json", campaign.root / "anna.jpg", {"face_swap", "lip_sync"})
    assert changed(before, keys(campaign)) == set()


def test_other_trust_anchors_sign_again_and_without_any_configured_keys_stay(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNDERSTUDY_TRUST_ANCHORS", raising=False)
    campaign.add("anna")
    before = keys(campaign)
    row = campaign.shard(campaign.plan()).rows[0]
    assert row.materials["sign"].params == {"campaign": "spring", "recipient": "anna"}
    path = tmp_path / "anchors.pem"
    monkeypatch.setenv("UNDERSTUDY_TRUST_ANCHORS", str(path))
    with pytest.raises(Usage, match=r"UNDERSTUDY_TRUST_ANCHORS.*anchors\.pem"):
        campaign.plan()
    path.write_text("a root")
    one = keys(campaign)
    assert changed(before, one) == {"sign", "publish"}
    path.write_text("another root")
    assert changed(one, keys(campaign)) == {"sign", "publish"}
    shard = campaign.shard(campaign.plan())
    fallen = with_step(shard, "upscale", Step(backend="lanczos")).rows[0]
    assert fallen.materials["sign"].params == shard.rows[0].materials["sign"].params


def test_a_presenter_chosen_by_photo_is_keyed_by_its_pixels_not_by_its_name(
    campaign: Campaign,
) -> None:
    campaign.add("anna")
    before = keys(campaign)
    (campaign.root / "nora.jpg").write_bytes(b"nora")
    (campaign.root / "same.jpg").write_bytes(b"nora")
    by_photo = BRIEF.replace("template: {", "template: {face: {like: nora.jpg}, ")
    campaign.brief.write_text(by_photo)
    chosen = keys(campaign)
    assert {"track_face", "face_swap", "publish"} <= changed(before, chosen)
    campaign.brief.write_text(by_photo.replace("nora.jpg", "same.jpg"))
    assert changed(chosen, keys(campaign)) == set()
    campaign.brief.write_text(by_photo.replace("nora.jpg", "../nora.jpg"))
    with pytest.raises(BadBrief, match=r"nora\.jpg"):
        campaign.plan()


def test_a_store_path_that_is_a_file_is_named(campaign: Campaign, tmp_path: Path) -> None:
    campaign.add("anna")
    (tmp_path / "store").write_text("not a folder")
    with pytest.raises(UnderstudyError, match="store") as caught:
        campaign.plan()
    assert caught.value.code == "store.unreachable"


def test_the_settings_shard_size_wins_below_airflows_limit(campaign: Campaign) -> None:
    for name in ("anna", "ben", "cem"):
        campaign.add(name)
    campaign.settings = replace(campaign.settings, shard_size=2)
    assert [shard.rows for shard in campaign.plan().shards] == [2, 1]
    template = campaign.shard(campaign.plan()).template
    brief = campaign.shard(campaign.plan()).brief
    assert shard_size(5000, brief, template, campaign.settings) == 5


def test_the_templates_plan_names_the_shards_it_is_for(campaign: Campaign) -> None:
    campaign.add("anna")
    campaign.add("ben")
    plan = campaign.plan()
    data = open_store(plan.store).get(plan.template.plan)
    own = ShardPlan.model_validate_json(data)
    assert own.rows == ()
    assert own.shared_by == tuple(shard.plan for shard in plan.shards)


def test_another_cut_into_shards_is_another_plan(campaign: Campaign) -> None:
    """A run that is under way reads its shards by name: they must not change below it."""
    campaign.add("anna")
    campaign.add("ben")
    first = campaign.plan()
    campaign.settings = replace(campaign.settings, shard_size=2)
    assert campaign.plan().plan_id != first.plan_id


def test_media_of_a_refused_row_are_not_copied(campaign: Campaign) -> None:
    campaign.add("zoe")
    campaign.add("anna")
    campaign.expire("anna")
    plan = campaign.plan()
    assert plan.accepted == 1
    store = open_store(plan.store)
    held = {store.get(info.key) for info in store.list("acme/blob/")}
    assert b"zoe" in held
    assert b"anna" not in held


def test_a_photo_that_several_rows_share_is_copied_once(campaign: Campaign) -> None:
    campaign.add("anna")
    campaign.add("ben")
    campaign.rows[1] = campaign.rows[1].replace("ben.jpg", "anna.jpg").replace("ben.j", "anna.j")
    campaign.write()
    plan = campaign.plan()
    faces = {
        row.sources["face"].blob.sha256 for i in (0, 1) for row in campaign.shard(plan, i).rows
    }
    assert (plan.accepted, len(faces)) == (2, 1)


def test_a_changed_photo_is_noticed_although_it_was_planned_before(campaign: Campaign) -> None:
    campaign.add("anna")
    photo = campaign.root / "anna.jpg"
    os.utime(photo, (1, 1))  # long ago: fit for the index, were it not for the time of the change
    before = keys(campaign)
    photo.write_bytes(b"anne")
    campaign.consent("anna.json", photo, {"face_swap", "lip_sync"})
    assert "ingest_recipients/face" in changed(before, keys(campaign))


def test_a_blob_that_went_missing_is_copied_again(campaign: Campaign) -> None:
    campaign.add("anna")
    plan = campaign.plan()
    store = open_store(plan.store)
    digest = campaign.shard(plan).rows[0].sources["face"].blob.sha256
    store.delete(f"acme/blob/{digest[:2]}/{digest}")
    campaign.plan()
    assert store.get(f"acme/blob/{digest[:2]}/{digest}") == b"anna"


def test_planners_at_the_same_time_agree(campaign: Campaign) -> None:
    for number in range(30):
        campaign.add(f"r{number}")
    with ThreadPoolExecutor(4) as pool:
        plans = list(pool.map(lambda _: campaign.plan(), range(4)))
    assert len({plan.plan_id for plan in plans}) == 1
    assert plans[0].accepted == 30


class CountingStore(DirectoryStore):
    """A store on disk that counts what is asked of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: Counter[str] = Counter()

    def get(self, key: str) -> bytes:
        self.calls["get"] += 1
        return super().get(key)

    def head(self, key: str):
        self.calls["head"] += 1
        return super().head(key)

    def put(self, key: str, data: bytes) -> None:
        self.calls["put"] += 1
        super().put(key, data)

    def put_file(self, key: str, src: Path) -> None:
        self.calls["put_file"] += 1
        super().put_file(key, src)

    def list(self, prefix: str = ""):
        self.calls["list"] += 1
        return super().list(prefix)


@pytest.mark.slow
def test_a_campaign_planned_before_asks_the_store_nothing_row_by_row(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tenant_key("acme", keys=campaign.settings.consent_keys)
    record = campaign.root / "presenter.json"
    signed = load_consent(record.read_bytes()).record
    for number in range(2000):
        photo = campaign.root / f"r{number}.jpg"
        photo.write_bytes(b"%d" % number)
        update = {"face_sha256": sha(photo), "scope": ("face_swap", "lip_sync")}
        mine = sign_consent(signed.model_copy(update=update), key)
        (campaign.root / f"r{number}.json").write_bytes(dump_consent(mine))
        campaign.rows.append(f"r{number},r{number}.jpg,,Hi,r{number}.json,en,,\n")
    campaign.write()
    store = CountingStore(Path(campaign.settings.store))
    monkeypatch.setattr("include.planning.open_store", lambda uri: store)
    plan = campaign.plan()
    assert plan.accepted == 2000
    assert store.calls["put_file"] == 2002  # the photos, the video and its consent
    store.calls.clear()
    assert campaign.plan().plan_id == plan.plan_id
    assert store.calls["put_file"] == 0
    assert store.calls["put"] <= len(plan.shards) + 5
    assert store.calls["list"] <= 300  # a folder of blobs each, however many rows there are
    assert store.calls["head"] + store.calls["get"] <= 20


def test_only_chosen_recipients_are_planned(campaign: Campaign) -> None:
    campaign.add("anna")
    campaign.add("ben")
    plan = campaign.plan(overrides={"only": ["ben"]})
    assert [row.id for row in campaign.shard(plan).rows] == ["ben"]


def test_rows_that_were_not_asked_for_are_not_rejected_either(campaign: Campaign) -> None:
    for ident in ("anna", "ben", "cem"):
        campaign.add(ident)
    campaign.rows[0] = campaign.rows[0].replace(",en,", ",not a tag,")
    campaign.rows[2] = campaign.rows[2].replace("cem.jpg", "nowhere.jpg")
    campaign.write()

    def rejected(*only: str) -> list[tuple[str, str]]:
        plan = campaign.plan(overrides={"only": list(only)})
        assert [row.id for row in campaign.shard(plan).rows] == ["ben"]
        return [(reject.recipient, reject.code) for reject in plan.rejects]

    assert rejected("ben") == []
    assert rejected("ben", "anna") == [("anna", "row.locale")]
    assert rejected("ben", "cem") == [("cem", "photo.missing")]
    with pytest.raises(BadBrief, match="line 2: locale"):
        campaign.plan(overrides={"only": ["anna"]})
    with pytest.raises(BadBrief, match="no row that was asked for"):
        campaign.plan(overrides={"only": ["dora"]})
