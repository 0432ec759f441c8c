"""What a report says about a run, from the manifests and results of a real store."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from include.contracts.plan import CampaignPlan, ShardRef
from include.contracts.stage import StageResult, StageResultRef, UnitResult
from include.report import gather, write_report
from include.runs import result_ref
from include.settings import Settings
from include.sharding import load_times
from tests.include.test_demand import Campaign


class Reported(Campaign):
    """A campaign of two shards, its plan, and results of its stages."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.settings = Settings(
            store=self.cache.store.uri,
            state=root,
            roots=(root,),
            worker_python=Path("python"),
            nudity_python=Path("python"),
        )
        store = self.cache.store
        store.put("acme/plan/x/template.json", self.own.model_dump_json().encode())
        store.put("acme/plan/x/rejects.csv", b"line,recipient,code,message\n")
        self.refs: list[StageResultRef] = []

    def ref(self, key: str, rows: int) -> ShardRef:
        return ShardRef(store=self.settings.store, tenant="acme", plan=key, label="", rows=rows)

    def campaign(self) -> CampaignPlan:
        return CampaignPlan(
            store=self.settings.store,
            tenant="acme",
            campaign="c",
            plan_id="0" * 64,
            template=self.ref("acme/plan/x/template.json", 0),
            shards=tuple(self.ref(key, 2) for key in self.own.shared_by),
            rejects=(),
            accepted=4,
            min_success_ratio=0.5,
            rejects_csv="acme/plan/x/rejects.csv",
        )

    def result(self, stage: str, status: str, seconds: float = 0.0, started: bool = True) -> None:
        units = tuple(UnitResult(id=row.id, status=status) for row in self.rows)
        result = StageResult(
            stage=stage, plan="p", run_id="r", units=units, seconds=seconds, started_process=started
        )
        key = f"acme/run/{stage}.result.json"
        self.cache.store.put(key, result.model_dump_json().encode())
        self.refs.append(result_ref(result, key))

    def publish(self, name: str) -> None:
        row = next(row for row in self.rows if row.id == name)
        files = {"video.mp4": f"acme/published/c/{name}/video.mp4"}
        self.cache.publish(row.materials["publish"], {}, {"published": files})


@pytest.fixture
def reported(tmp_path: Path) -> Reported:
    return Reported(tmp_path)


def test_a_finished_campaign_says_that_nothing_was_started(reported: Reported) -> None:
    for row in reported.rows:
        reported.publish(row.id)
    reported.result("publish", "hit", started=False)
    totals = write_report(reported.campaign(), "again", reported.refs, reported.settings)
    words = "everything was rendered before: no stage process was started"
    assert (totals["said"], totals["stage_processes"], totals["delivered"]) == (words, 0, 4)
    page = reported.cache.store.get(totals["files"]["report.html"]).decode()
    assert words in page


def test_a_campaign_that_made_nothing_and_delivered_nothing_does_not_say_so(
    reported: Reported,
) -> None:
    reported.result("ingest_recipients", "skipped", started=False)
    outcome = gather(reported.campaign(), "r", reported.refs, reported.settings)
    assert outcome.said == "0 stage processes were started"
    assert outcome.delivered == []


def test_what_the_stages_took_is_kept_for_the_next_plan(reported: Reported) -> None:
    reported.result("compose", "made", seconds=20.0)
    totals = write_report(reported.campaign(), "r", reported.refs, reported.settings)
    assert totals["said"] == "1 stage processes were started"
    times = load_times(reported.cache.store, "acme", reported.template)
    assert times.row_seconds()["compose"] == 5.0


def test_every_row_is_in_the_table_with_what_became_of_it(reported: Reported) -> None:
    reported.publish("ben")
    totals = write_report(reported.campaign(), "r", [], reported.settings)
    table = reported.cache.store.get(totals["files"]["results.csv"]).decode("utf-8-sig")
    status = {row["recipient"]: row["status"] for row in csv.DictReader(io.StringIO(table))}
    assert status == {"ann": "failed", "ben": "delivered", "cem": "failed", "dan": "failed"}
