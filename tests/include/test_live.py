"""The live pointer: what it says, who is in a canary, and which keys follow from it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from include.contracts.brief import Brief
from include.contracts.live import Canary
from include.contracts.manifest import BackendRef, BlobRef
from include.contracts.plan import SourceRef
from include.errors import Refused, Usage
from include.keys import template_materials
from include.live import (
    backend_ref,
    chosen_for,
    current,
    default_ref,
    history,
    in_canary,
    live_states,
    set_live,
)
from include.store import ObjectStore, open_store

LANCZOS = backend_ref("upscale", "lanczos")
COMPACT = backend_ref("upscale", "compact")
VIDEO = SourceRef(blob=BlobRef(sha256="a" * 64, size=1, filename="source.mp4"), origin="ad.mp4")


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def point(store: ObjectStore, champion: BackendRef | None, canary: Canary | None = None):
    return set_live(
        store,
        current(store, "acme", "upscale"),
        tenant="acme",
        stage="upscale",
        champion=champion,
        canary=canary,
        by="anna",
    )


def brief(tier: str = "final", **output: object) -> Brief:
    return Brief.model_validate(
        {
            "campaign": "spring",
            "tenant": "acme",
            "template": {"video": "ad.mp4"},
            "recipients": "r.csv",
            "tier": tier,
            "output": output,
        }
    )


def test_without_a_pointer_nothing_is_chosen(store: ObjectStore) -> None:
    assert live_states(store, "acme") == ()
    assert chosen_for((), brief(), "anna") == {}


def test_the_newest_state_holds_and_older_ones_stay(store: ObjectStore) -> None:
    point(store, LANCZOS)
    last = point(store, None)
    assert current(store, "acme", "upscale") == last
    assert [state.champion for state in history(store, "acme", "upscale")] == [LANCZOS, None]
    assert current(store, "globex", "upscale") is None


def test_of_two_writers_one_wins_and_the_other_is_told(store: ObjectStore) -> None:
    def write(ref: BackendRef) -> object:
        try:
            return set_live(store, None, tenant="acme", stage="upscale", champion=ref, by=ref.name)
        except Refused as error:
            return error.code

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(write, (LANCZOS, COMPACT)))
    assert found.count("live.changed") == 1
    assert current(store, "acme", "upscale") in found


def test_the_champion_is_what_auto_means_for_a_final_video(store: ObjectStore) -> None:
    states = (point(store, LANCZOS),)
    assert chosen_for(states, brief(), "anna") == {"upscale": LANCZOS}


@pytest.mark.parametrize(
    "other", [brief("preview"), brief(upscaler="compact"), brief(scale=1)], ids=str
)
def test_previews_and_briefs_that_name_an_upscaler_are_left_alone(
    store: ObjectStore, other: Brief
) -> None:
    states = (point(store, LANCZOS, Canary(backend=COMPACT, share=1, rollout="r")),)
    assert chosen_for(states, other, "anna") == {}


def test_the_share_is_a_stable_choice_of_recipients_and_grows(store: ObjectStore) -> None:
    units = [f"r{number}" for number in range(4000)]
    tenth = {unit for unit in units if in_canary("one", unit, 0.1)}
    fifth = {unit for unit in units if in_canary("one", unit, 0.2)}
    other = {unit for unit in units if in_canary("two", unit, 0.1)}
    assert len(tenth) == pytest.approx(400, abs=80)
    assert tenth < fifth
    assert len(tenth & other) < 100, "another rollout asks other recipients"
    assert all(in_canary("one", unit, 1.0) for unit in units)
    assert not any(in_canary("one", unit, 0.0) for unit in units)


def test_recipients_in_the_share_get_the_canary(store: ObjectStore) -> None:
    states = (point(store, None, Canary(backend=LANCZOS, share=0.5, rollout="r")),)
    for number in range(20):
        chosen = chosen_for(states, brief(), f"r{number}")
        expected = {"upscale": LANCZOS} if in_canary("r", f"r{number}", 0.5) else {}
        assert chosen == expected


def test_weights_that_changed_under_a_champions_name_are_refused(store: ObjectStore) -> None:
    states = (point(store, COMPACT.model_copy(update={"weights_sha256": "0" * 64})),)
    with pytest.raises(Usage, match="live for upscale is compact") as caught:
        chosen_for(states, brief(), "anna")
    assert caught.value.code == "live.mismatch"
    states = (point(store, BackendRef(name="studio", version="1")),)
    with pytest.raises(Usage, match="no backend of that name"):
        chosen_for(states, brief(), "anna")


def test_a_canary_that_is_not_installed_stops_no_campaign(store: ObjectStore) -> None:
    gone = BackendRef(name="studio", version="1")
    states = (point(store, LANCZOS, Canary(backend=gone, share=1, rollout="r")),)
    assert chosen_for(states, brief(), "anna") == {"upscale": LANCZOS}


def test_a_name_that_is_no_backend_is_refused_with_what_there_is() -> None:
    with pytest.raises(Usage, match="compact, lanczos"):
        backend_ref("upscale", "sharp")


@pytest.mark.parametrize("stage", ["face_swap", "lip_sync", "upscale"])
def test_choosing_the_default_changes_no_key(stage: str) -> None:
    sources = {"video": VIDEO}
    silent = template_materials(brief(), sources)
    assert silent == template_materials(brief(), sources, chosen={stage: default_ref(stage)})
