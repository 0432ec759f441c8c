"""What planning refuses: rows by themselves, briefs as a whole, with the reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from include.contracts.plan import SourceRef, UnitPlan
from include.errors import BadBrief, ConsentError, UnderstudyError
from include.gate import check_consents
from include.inputs import ref_of_bytes
from include.planning import plan_campaign
from include.stages.context import Events, StageContext
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.campaign import BRIEF, Campaign, sha


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
    c.expire("anna")


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
