from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.consent import (
    dump_consent,
    issue_consent,
    load_consent,
    sign_consent,
    tenant_key,
)
from include.contracts.live import Canary
from include.contracts.manifest import BackendRef
from include.contracts.plan import ShardPlan, SourceRef, UnitPlan
from include.errors import BadBrief, ConsentError, UnderstudyError, Usage
from include.gate import check_consents
from include.inputs import ref_of_bytes
from include.keys import row_materials
from include.live import backend_ref, current, in_canary, set_live
from include.planning import plan_campaign, shard_size
from include.remote.config import Step
from include.remote.fallback import with_step
from include.settings import Settings
from include.stages.context import Events, StageContext
from include.stages.specs import STAGES
from include.store import DirectoryStore, open_store
from include.store.cache import ArtifactCache

BRIEF = """
campaign: spring
tenant: acme
template: {video: ad.mp4, consent: presenter.json}
recipients: recipients.csv
"""
HEAD = "id,face,audio,script,consent,locale,voice,name\n"


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Campaign:
    """A campaign folder whose media are any bytes: planning does not look inside them."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.brief = root / "brief.yaml"
        self.brief.write_text(BRIEF)
        (root / "ad.mp4").write_bytes(b"video")
        self.consent("presenter.json", root / "ad.mp4", {"template"})
        self.rows: list[str] = []

    def consent(self, name: str, face: Path, scope: set[str], **more: object) -> None:
        record = issue_consent(
            tenant="acme",
            subject=name,
            scope=scope,
            face_sha256=sha(face),
            keys=self.settings.state / "consent",
            **more,
        )
        (self.root / name).write_bytes(dump_consent(record))

    def add(self, ident: str, script: str = "Hello {name}", name: str = "Anna", **more: object):
        photo = self.root / f"{ident}.jpg"
        photo.write_bytes(ident.encode())
        self.consent(f"{ident}.json", photo, {"face_swap", "lip_sync"}, **more)
        self.rows.append(f"{ident},{ident}.jpg,,{script},{ident}.json,en,,{name}\n")
        self.write()

    def write(self) -> None:
        (self.root / "recipients.csv").write_text(HEAD + "".join(self.rows))

    def plan(self, **more: object):
        return plan_campaign(str(self.brief), self.settings, **more)

    def shard(self, plan, index: int = 0) -> ShardPlan:
        data = open_store(plan.store).get(plan.shards[index].plan)
        return ShardPlan.model_validate_json(data)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        store=str(tmp_path / "store"),
        state=tmp_path / "state",
        roots=(tmp_path / "in",),
        worker_python=Path("python"),
        nudity_python=Path("python"),
    )


@pytest.fixture
def campaign(tmp_path: Path, settings: Settings) -> Campaign:
    (tmp_path / "in").mkdir()
    return Campaign(tmp_path / "in", settings)


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


def reject_code(campaign: Campaign) -> str:
    """The code of the broken row; a good one beside it goes on."""
    campaign.add("zoe")
    plan = campaign.plan()
    assert plan.accepted == 1
    found = [reject for reject in plan.rejects if reject.line > 1]
    assert len(found) == 1
    assert "recipients.csv line 2" in found[0].message
    table = open_store(plan.store).get(plan.rejects_csv).decode("utf-8-sig")
    assert found[0].code in table
    return found[0].code


def _missing_photo(c: Campaign) -> None:
    (c.root / "anna.jpg").unlink()


def _traversal(c: Campaign) -> None:
    c.rows[0] = c.rows[0].replace("anna.jpg", "../../etc/passwd")


def _absolute(c: Campaign) -> None:
    c.rows[0] = c.rows[0].replace("anna.jpg", "/etc/passwd")


def _link_out(c: Campaign) -> None:
    (c.root / "anna.jpg").unlink()
    (c.root / "anna.jpg").symlink_to("/etc/passwd")


def _folder(c: Campaign) -> None:
    (c.root / "anna.jpg").unlink()
    (c.root / "anna.jpg").mkdir()


def _loop(c: Campaign) -> None:
    (c.root / "anna.jpg").unlink()
    (c.root / "anna.jpg").symlink_to("anna.jpg")


def _long_name(c: Campaign) -> None:
    c.rows[0] = c.rows[0].replace("anna.json", "a" * 300)


def _no_consent_file(c: Campaign) -> None:
    (c.root / "anna.json").unlink()


def _garbled_consent(c: Campaign) -> None:
    (c.root / "anna.json").write_text("{}")


def _huge_consent(c: Campaign) -> None:
    with (c.root / "anna.json").open("ab") as stream:
        stream.truncate(64 * 1024 + 1)


def _swapped_photo(c: Campaign) -> None:
    (c.root / "anna.jpg").write_bytes(b"somebody else")


def _expired(c: Campaign) -> None:
    now = datetime.now(UTC)
    times = {"not_before": now - timedelta(days=9), "expires": now - timedelta(days=1)}
    c.consent("anna.json", c.root / "anna.jpg", {"face_swap", "lip_sync"}, **times)


@pytest.mark.parametrize(
    ("breaks", "code"),
    [
        (_missing_photo, "photo.missing"),
        (_traversal, "path.traversal"),
        (_absolute, "path.outside"),
        (_link_out, "path.outside"),
        (_folder, "file.unreadable"),
        (_loop, "file.unreadable"),
        (_long_name, "file.unreadable"),
        (_no_consent_file, "consent.missing"),
        (_garbled_consent, "consent.unreadable"),
        (_huge_consent, "file.too_large"),
        (_swapped_photo, "consent.face"),
        (_expired, "consent.expired"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_bad_row_is_rejected_by_itself(
    campaign: Campaign, breaks: Callable[[Campaign], None], code: str
) -> None:
    campaign.add("anna")
    breaks(campaign)
    campaign.write()
    assert reject_code(campaign) == code


def recorded(campaign: Campaign, *scope: str) -> None:
    """Give the first row a recording of the person's voice, and a record that names it."""
    audio = campaign.root / "anna.wav"
    audio.write_bytes(b"sound")
    photo = campaign.root / "anna.jpg"
    campaign.consent("anna.json", photo, set(scope), audio_sha256=sha(audio))
    campaign.rows[0] = campaign.rows[0].replace("anna.jpg,,", "anna.jpg,anna.wav,")
    campaign.write()


def test_a_recording_is_used_only_with_consent_to_the_voice(campaign: Campaign) -> None:
    campaign.add("anna")
    recorded(campaign, "face_swap", "lip_sync", "voice")
    assert campaign.plan().accepted == 1
    recorded(campaign, "face_swap", "lip_sync")
    assert reject_code(campaign) == "consent.scope"


def test_consent_to_the_voice_is_asked_for_again_before_anything_is_released(
    campaign: Campaign, tmp_path: Path
) -> None:
    campaign.add("anna")
    recorded(campaign, "face_swap", "lip_sync", "voice")
    plan = campaign.plan()
    shard = campaign.shard(plan)
    cache = ArtifactCache(open_store(plan.store), "acme")

    def check(unit: UnitPlan) -> None:
        check_consents(
            StageContext(
                STAGES["sign"], shard, unit, cache, tmp_path, campaign.settings, Events("sign"), "r"
            )
        )

    check(shard.rows[0])
    recorded(campaign, "face_swap", "lip_sync")
    blob = ref_of_bytes("anna.json", record := (campaign.root / "anna.json").read_bytes())
    cache.store.put(cache.blob_key(blob.sha256), record)
    source = SourceRef(blob=blob, origin="anna.json")
    unit = shard.rows[0]
    with pytest.raises(ConsentError, match="voice") as caught:
        check(unit.model_copy(update={"sources": {**unit.sources, "consent": source}}))
    assert caught.value.code == "consent.scope"


def test_a_campaign_of_bad_rows_only_says_why(campaign: Campaign) -> None:
    campaign.add("anna")
    _missing_photo(campaign)
    with pytest.raises(BadBrief, match=r"anna\.jpg") as caught:
        campaign.plan()
    assert caught.value.code == "table.no_usable_row"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("campaign: [", "brief.yaml", "not YAML"),
        ("- a\n- b\n", "brief.yaml", "mapping"),
        ("campaign: 2026-13-45", "brief.yaml", r"brief\.yaml is not YAML: month"),
        ("campaign: !!bool maybe", "brief.yaml", r"brief\.yaml is not YAML"),
        ("campaign: !!timestamp today", "brief.yaml", r"brief\.yaml is not YAML"),
        ("[" * 5000, "brief.yaml", r"brief\.yaml is not YAML.*deep"),
        ("campaign: &a [*a]", "brief.field", r"brief\.yaml: campaign"),
        (BRIEF + "budget: {currency: USD, limit: .inf}\n", "brief.field", r"brief\.yaml"),
        (BRIEF.replace("ad.mp4", r'"\ud800"'), "brief.field", r"brief\.yaml"),
        (BRIEF.replace("recipients.csv", "r" * 300), "file.unreadable", "rrr"),
        (BRIEF.replace("tenant: acme", "tenant: a/b"), "brief.field", "tenant"),
        (BRIEF + "colour: red\n", "brief.field", "colour"),
        (BRIEF + "policy: {required: [moon]}\n", "brief.field", "moon"),
        (BRIEF + "voice: {longer: slow_video}\n", "brief.field", "slow_video"),
        (BRIEF.replace("ad.mp4", "nowhere.mp4"), "file.missing", r"nowhere\.mp4"),
        (BRIEF.replace("recipients.csv", "no.csv"), "file.missing", r"no\.csv"),
        (BRIEF.replace(", consent: presenter.json", ""), "consent.missing", "presenter"),
    ],
    ids=[
        "yaml",
        "list",
        "no date",
        "no bool",
        "no time",
        "deep",
        "anchor",
        "infinite",
        "surrogate",
        "long name",
        "tenant",
        "unknown",
        "check",
        "unsupported",
        "video",
        "table",
        "consent",
    ],
)
def test_a_wrong_brief_is_refused_with_the_field(
    campaign: Campaign, text: str, code: str, said: str
) -> None:
    campaign.add("anna")
    campaign.brief.write_text(text)
    with pytest.raises(UnderstudyError, match=said) as caught:
        campaign.plan()
    assert caught.value.code == code


def test_a_brief_outside_the_roots_is_refused(campaign: Campaign, tmp_path: Path) -> None:
    campaign.add("anna")
    other = tmp_path / "elsewhere"
    shutil.copytree(campaign.root, other)
    with pytest.raises(BadBrief, match="UNDERSTUDY_ROOTS") as caught:
        plan_campaign(str(other / "brief.yaml"), campaign.settings)
    assert caught.value.code == "path.outside"


def test_the_presenters_consent_must_be_for_this_very_video(campaign: Campaign) -> None:
    campaign.add("anna")
    (campaign.root / "ad.mp4").write_bytes(b"another video")
    with pytest.raises(ConsentError) as caught:
        campaign.plan()
    assert caught.value.code == "consent.face"


def test_the_presenters_consent_is_not_read_whatever_its_size(campaign: Campaign) -> None:
    campaign.add("anna")
    with (campaign.root / "presenter.json").open("ab") as stream:
        stream.truncate(64 * 1024 + 1)
    with pytest.raises(BadBrief, match=r"brief\.yaml: .*presenter\.json.*64 KiB") as caught:
        campaign.plan()
    assert caught.value.code == "file.too_large"


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
    _expired(campaign)
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


LANCZOS = backend_ref("upscale", "lanczos")


def point(campaign: Campaign, champion: BackendRef | None, canary: Canary | None = None) -> None:
    """Put the next state of the upscaler's pointer."""
    store = open_store(campaign.settings.store)
    before = current(store, "acme", "upscale")
    set_live(
        store, before, tenant="acme", stage="upscale", champion=champion, canary=canary, by="anna"
    )


def all_keys(campaign: Campaign) -> dict[tuple[str, str], str]:
    """Every key of every row, the template's included, by recipient and artifact."""
    plan = campaign.plan()
    found = {}
    for number in range(len(plan.shards)):
        shard = campaign.shard(plan, number)
        for row in shard.rows:
            materials = {**shard.template.materials, **row.materials}
            found |= {(row.id, name): item.key() for name, item in materials.items()}
    return found


@pytest.fixture
def twelve(campaign: Campaign) -> Campaign:
    for number in range(12):
        campaign.add(f"r{number}")
    return campaign


def test_another_champion_changes_upscaling_and_what_is_made_from_it(twelve: Campaign) -> None:
    before = all_keys(twelve)
    point(twelve, LANCZOS)
    names = {name for (_, name), key in all_keys(twelve).items() if key != before["r0", name]}
    assert names >= {"upscale_plate", "encode_plate", "upscale", "compose", "publish"}
    assert not names & {"ingest_template", "track_face"}
    assert twelve.plan().live[0].champion == LANCZOS


def test_a_canary_gets_its_share_of_the_rows_in_shards_and_a_template_of_their_own(
    twelve: Campaign,
) -> None:
    before = all_keys(twelve)
    point(twelve, None, Canary(backend=LANCZOS, share=0.4, rollout="r"))
    inside = {f"r{number}" for number in range(12) if in_canary("r", f"r{number}", 0.4)}
    assert 0 < len(inside) < 12
    plan = twelve.plan()
    store = open_store(plan.store)
    own = ShardPlan.model_validate_json(store.get(plan.template.plan))
    assert len(own.variants) == 1
    other = ShardPlan.model_validate_json(store.get(own.variants[0].plan))
    assert {*own.shared_by, *other.shared_by} == {ref.plan for ref in plan.shards}
    for ref in plan.shards:
        shard = ShardPlan.model_validate_json(store.get(ref.plan))
        tries = shard.backends == {"upscale": LANCZOS}
        assert {row.id in inside for row in shard.rows} == {tries}
        assert shard.template == (other if tries else own).template
        assert (ref.plan in other.shared_by) is tries
    after = all_keys(twelve)
    for name in ("face_swap", "upscale", "upscale_plate", "publish"):
        moved = {
            unit for unit, each in after if each == name and after[unit, name] != before[unit, name]
        }
        assert moved == (set() if name == "face_swap" else inside)


def test_rolling_back_restores_exactly_the_keys_of_before(twelve: Campaign) -> None:
    before = all_keys(twelve)
    point(twelve, None, Canary(backend=LANCZOS, share=0.4, rollout="r"))
    assert all_keys(twelve) != before
    point(twelve, None)
    assert all_keys(twelve) == before
    point(twelve, LANCZOS)
    point(twelve, backend_ref("upscale", "compact"))
    assert all_keys(twelve) == before, "naming the default is the default"


def test_keys_follow_from_the_plan_whatever_is_live_later(twelve: Campaign) -> None:
    point(
        twelve, LANCZOS, Canary(backend=backend_ref("upscale", "compact"), share=0.4, rollout="r")
    )
    plan = twelve.plan()
    point(twelve, None)
    for number in range(len(plan.shards)):
        shard = twelve.shard(plan, number)
        for row in shard.rows:
            bare = row.model_copy(update={"materials": {}})
            made = row_materials(shard.brief, shard.template, bare, shard.backends)
            assert made == row.materials


def test_a_canary_of_everybody_needs_no_other_template(twelve: Campaign) -> None:
    point(twelve, None, Canary(backend=LANCZOS, share=1, rollout="r"))
    plan = twelve.plan()
    own = ShardPlan.model_validate_json(open_store(plan.store).get(plan.template.plan))
    assert own.variants == ()
    assert own.template.materials["upscale_plate"].backend == LANCZOS


def test_a_backend_can_be_tried_whatever_is_live(twelve: Campaign) -> None:
    point(twelve, None, Canary(backend=LANCZOS, share=0.4, rollout="r"))
    plan = twelve.plan(backends={"upscale": LANCZOS})
    shard = twelve.shard(plan)
    assert {row.materials["upscale"].backend for row in shard.rows} == {LANCZOS}
    assert plan.live == ()
