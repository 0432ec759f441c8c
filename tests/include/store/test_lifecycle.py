"""``understudy store lifecycle`` and ``understudy gc`` on every backend."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.cli import gc
from include.cli import store as store_command
from include.contracts.manifest import KeyMaterial
from include.errors import Usage
from include.retention.policy import POLICY_KEY, Retention, artifacts, load_retention, worth_of
from include.retention.rules import apply_rules, present_rules, rules_of
from include.stages.specs import MAKER
from include.store import ObjectStore
from include.store.cache import ArtifactCache
from include.store.s3 import S3Store
from tests.services.canned_http import Reply, canned_http


def test_every_artifact_has_a_class_and_only_what_is_made_once_is_a_plate() -> None:
    classes = {name: worth_of(name) for name in artifacts()}
    plates = {name for name, spec in MAKER.items() if spec.scope == "template"}
    assert {name for name, worth in classes.items() if worth == "plate"} == plates
    assert {name for name, worth in classes.items() if worth == "published"} == {"publish"}
    assert {classes["compose"], classes["face_swap"], classes["upscale_plate/chunk"]} == {"hot"}


def test_the_rules_come_back_from_the_server_as_they_were_put_and_others_stay(
    s3_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = S3Store(s3_uri)
    for tenant in ("acme", "globex"):
        store.put(f"{tenant}/published/spring/eve/video.mp4", b"x")
    foreign = {
        "ID": f"of another team {store.prefix}",
        "Status": "Enabled",
        "Filter": {"Prefix": f"their-logs-{store.prefix}/"},
        "Expiration": {"Days": 3},
    }
    apply_rules(store, [foreign])
    assert store_command.main(["lifecycle", "--store", s3_uri]) == 0
    said = capsys.readouterr().out
    assert said.count("missing") == 3
    assert "Nothing was changed" in said
    assert present_rules(store)[0] == []

    asked = ["lifecycle", "--store", s3_uri, "--apply", "--hot-days", "14", "--tier-days", "60"]
    assert store_command.main(asked) == 0
    assert capsys.readouterr().out.count("set  ") == 3
    ours, others = present_rules(store)
    policy = Retention(hot_days=14, tier_days=60)
    assert load_retention(store) == policy
    wanted = {rule["ID"]: rule for rule in rules_of(store, ["acme", "globex"], policy)}
    assert {rule["ID"] for rule in ours} == set(wanted)
    for rule in ours:
        for name, value in wanted[rule["ID"]].items():
            assert rule[name] == value
    moved = {rule["Filter"]["Prefix"] for rule in ours if "Transitions" in rule}
    assert moved == {f"{store.prefix}/{name}/published/" for name in ("acme", "globex")}
    assert not any("Expiration" in rule for rule in ours), "no rule takes blobs from a render"
    assert foreign["ID"] in {rule["ID"] for rule in others}

    assert store_command.main(["lifecycle", "--store", s3_uri, "--apply", "--tier-days", "0"]) == 0
    ours, others = present_rules(store)
    assert [rule["ID"].rpartition(":")[2] for rule in ours] == ["uploads"]
    assert foreign["ID"] in {rule["ID"] for rule in others}
    apply_rules(store, [])


def test_a_storage_class_that_the_server_does_not_know_is_named_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")
    none = Reply.s3_error(404, "NoSuchLifecycleConfiguration")
    with canned_http(none, Reply.s3_error(400, "InvalidArgument")) as server:
        store = S3Store(f"s3://bucket?endpoint={server.url}")
        with pytest.raises(Usage, match="--tier-class"):
            apply_rules(store, rules_of(store, ["acme"], Retention(tier_class="FROZEN")))


def test_the_policy_is_kept_in_the_store_and_carried_out_by_gc_on_every_backend(
    store: ObjectStore,
    store_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Time does not pass for a store: instead, the present of the collector is moved on."""
    cache = ArtifactCache(store, "acme")
    for stage in ("face_swap", "upscale_plate"):
        path = tmp_path / stage
        path.write_bytes(stage.encode())
        cache.publish(KeyMaterial(stage=stage, stage_version=1), {"out": (path, "text/plain")}, {})
    arguments = ["lifecycle", "--store", store_uri, "--apply", "--hot-days", "10"]
    assert store_command.main([*arguments, "--tier-days", "0"]) == 0
    assert load_retention(store).hot_days == 10

    from include.retention import collect

    present = collect.store_time
    for days, left in ((9, {"face_swap", "upscale_plate"}), (11, {"upscale_plate"})):
        ahead = timedelta(days=days)
        monkeypatch.setattr(
            "include.retention.collect.store_time", lambda *a, ahead=ahead: present(*a) + ahead
        )
        assert gc.main(["--store", store_uri, "--tenant", "acme", "--dry-run"]) == 0
        assert gc.main(["--store", store_uri, "--grace", "3d"]) == 0
        there = {name for name in ("face_swap", "upscale_plate") if cache.existing(name)}
        assert there == left
        assert len(list(store.list("acme/blob/"))) == len(left)
    said = capsys.readouterr().out
    assert "1 face_swap would go" in said
    assert "1 face_swap deleted" in said
    assert store.head(POLICY_KEY) is not None


def test_an_unreadable_policy_stops_gc_and_says_how_to_set_it(
    store: ObjectStore, store_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put(POLICY_KEY, b"{")
    assert gc.main(["--store", store_uri]) == Usage.exit_code
    assert "store lifecycle --apply" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"), [("90m", timedelta(minutes=90)), ("7d", timedelta(days=7))]
)
def test_durations_are_read_as_people_write_them(text: str, expected: timedelta) -> None:
    assert gc.duration(text) == expected


@pytest.mark.parametrize("text", ["", "7", "d", "a week", "1e999d"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(Usage, match="no duration"):
        gc.duration(text)
