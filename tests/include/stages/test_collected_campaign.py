"""A real campaign after its intermediates expired: done is done, and a change is made again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from include.contracts.stage import StageResult
from include.local_run import events, run_campaign
from include.planning import plan_campaign
from include.report import write_report
from include.retention.collect import collect
from include.retention.policy import Retention
from include.stages.specs import MAKER, STAGES
from include.store import DirectoryStore
from include.store.cache import ArtifactCache
from tests.support.tiny import Tiny, make_tiny, tiny_environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    root = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_environment(root).items():
            patch.setenv(name, value)
        yield make_tiny(root)


def _age(store: DirectoryStore, days: float) -> None:
    for info in list(store.list()):
        path = store.root / info.key
        then = path.stat().st_mtime - days * 86400
        os.utime(path, (then, then))


def _report(tiny: Tiny, plan, run) -> tuple[dict, str]:
    totals = write_report(plan, "r", run.refs, tiny.settings)
    table = DirectoryStore(Path(tiny.settings.store)).get(totals["files"]["results.csv"])
    return totals, table.decode("utf-8-sig")


def test_a_finished_campaign_stays_finished_and_a_change_makes_what_expired_again(
    tiny: Tiny,
) -> None:
    store = DirectoryStore(Path(tiny.settings.store))
    plan = plan_campaign(str(tiny.write()), tiny.settings)
    first = run_campaign(plan, tiny.settings)
    assert first.unit("publish", "eve").status == "made", first.said
    _, told = _report(tiny, plan, first)
    _waited(first)
    before = sum(info.size for info in store.list("acme/blob/"))

    _age(store, 40)
    found = collect(store, "acme", Retention(), timedelta(days=7))
    cache = ArtifactCache(store, "acme")
    there = {name for name in MAKER if cache.existing(name)}
    plates = {name for name, spec in MAKER.items() if spec.scope == "template"}
    assert there == {*plates, "classify", "sign", "publish"}
    assert found.doomed.keys() == MAKER.keys() - there
    assert sum(info.size for info in store.list("acme/blob/")) < before

    plan = plan_campaign(str(tiny.path), tiny.settings)
    again = run_campaign(plan, tiny.settings, run_id="again")
    assert again.processes == []
    totals, table = _report(tiny, plan, again)
    assert totals["delivered"] == 1
    assert table == told, "the report says the same, digests and verdicts included"

    tiny.rows = [{**row, "script": "Hey {name}."} for row in tiny.rows]
    changed = plan_campaign(str(tiny.write()), tiny.settings)
    other = run_campaign(changed, tiny.settings, run_id="other-script")
    assert other.unit("publish", "eve").status == "made", other.said
    assert other.processes == [name for name, spec in STAGES.items() if spec.scope == "row"]


def _waited(run) -> None:
    """Every process says how long it waited for the store, and never longer than it ran."""
    results: list[StageResult] = [r for r in run.results.values() if r.started_process]
    assert results
    for result in results:
        assert 0 < result.io_seconds <= result.seconds
        for unit in result.units:
            assert 0 <= unit.io_seconds <= unit.seconds + 0.002
    told = [e for said in run.said.values() for e in events(said) if e["event"] == "unit"]
    assert all("io_seconds" in event["data"] for event in told)
