"""Where a run's brief comes from: a form, or the next one in a folder."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from include.errors import BadBrief

pytestmark = pytest.mark.airflow


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of briefs that tasks may read."""
    folder = tmp_path / "briefs"
    folder.mkdir()
    monkeypatch.setenv("UNDERSTUDY_ROOTS", str(folder))
    monkeypatch.setenv("UNDERSTUDY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    return folder


def write_brief(folder, name="brief.yaml", **more):
    template = {"video": "media/ad.mp4", "consent": "presenter.json"}
    brief = {"campaign": "spring", "tenant": "acme", "template": template}
    brief |= {"recipients": "recipients.csv", **more}
    (folder / name).write_text(yaml.safe_dump(brief))
    (folder / "recipients.csv").write_text("id,face,consent\na,a.jpg,a.json\n")
    return str(folder / name)


FORM = {"recipient": "eve", "face": "eve.jpg", "consent": "eve.json", "script": "Hi, Ève!"}


class TestOneRow:
    def brief(self, **form):
        from operators.config import task_settings
        from operators.one_row import one_row_brief

        return one_row_brief(form, task_settings())

    def test_a_form_becomes_a_brief_of_one_row(self, folder):
        source = write_brief(folder, tier="preview", policy={"review": "all"})
        made = Path(self.brief(brief=source, **FORM))
        data = yaml.safe_load(made.read_text())
        assert (data["tier"], data["policy"]["review"]) == ("preview", "all")
        assert data["template"]["video"] == str(folder / "media/ad.mp4")
        with (made.parent / "recipients.csv").open(encoding="utf-8") as stream:
            (row,) = csv.DictReader(stream)
        assert (row["id"], row["script"]) == ("eve", "Hi, Ève!")
        assert row["face"] == str(folder / "eve.jpg")

    def test_the_planner_accepts_what_is_written(self, folder):
        from include.inputs import open_inputs
        from include.planning import parse_brief
        from include.table import read_table
        from operators.config import task_settings

        inputs = open_inputs(self.brief(brief=write_brief(folder), **FORM), task_settings())
        brief, _ = parse_brief(inputs)
        table = read_table(inputs.read(brief.recipients), brief.recipients)
        assert [row.id for row in table.rows] == ["eve"]
        assert table.rejects == []

    def test_the_same_form_gives_the_same_brief(self, folder):
        source = write_brief(folder)
        first = self.brief(brief=source, **FORM)
        assert self.brief(brief=source, **FORM) == first
        assert self.brief(brief=source, **{**FORM, "script": "Ho"}) != first

    @pytest.mark.parametrize("missing", ["face", "consent"])
    def test_a_missing_field_is_named(self, folder, missing):
        form = {**FORM, missing: None}
        with pytest.raises(BadBrief, match=missing):
            self.brief(brief=write_brief(folder), **form)

    def test_a_brief_outside_the_roots_is_refused(self, folder, tmp_path):
        other = tmp_path / "elsewhere"
        other.mkdir()
        with pytest.raises(BadBrief, match="UNDERSTUDY_ROOTS"):
            self.brief(brief=write_brief(other), **FORM)

    def test_a_remote_brief_is_refused_with_advice(self, folder):
        with pytest.raises(BadBrief, match="recipient"):
            self.brief(brief="s3://bucket/brief.yaml", **FORM)


class TestSchedule:
    @pytest.fixture(autouse=True)
    def variable(self, folder, monkeypatch):
        from airflow.sdk import Variable

        monkeypatch.setattr(Variable, "get", lambda name, default=None: str(folder))

    def next(self, run_id):
        from operators.config import task_settings
        from operators.schedule import next_brief

        return next_brief(task_settings(), run_id)

    def test_each_brief_is_taken_once_in_order(self, folder):
        first, second = write_brief(folder, "a.yaml"), write_brief(folder, "b.yaml", tier="preview")
        assert [self.next("r1"), self.next("r2"), self.next("r3")] == [first, second, None]

    def test_a_retry_of_a_run_gets_its_brief_again(self, folder):
        brief = write_brief(folder)
        assert [self.next("r1"), self.next("r1")] == [brief, brief]

    def test_a_changed_table_makes_a_brief_new(self, folder):
        brief = write_brief(folder)
        assert self.next("r1") == brief
        (folder / "recipients.csv").write_text("id,face,consent\nb,b.jpg,b.json\n")
        assert self.next("r2") == brief

    @pytest.mark.parametrize(
        "text",
        ["campaign: [", "campaign: 2026-13-45", "[" * 5000, "a: !!bool x", "limit: &a [*a]"],
        ids=["yaml", "no date", "deep", "no bool", "anchor"],
    )
    def test_a_broken_brief_does_not_block_the_others(self, folder, text):
        (folder / "a.yaml").write_text(text)
        good = write_brief(folder, "b.yaml")
        assert self.next("r1") == good

    def test_an_empty_folder_has_nothing_to_do(self, folder):
        assert self.next("r1") is None

    def test_a_brief_waits_while_drift_stops_its_tenant_and_is_taken_when_it_is_settled(
        self, folder, tmp_path, monkeypatch
    ):
        from include.drift import gates
        from include.store import open_store
        from tests.include.drift.test_gates import verdict

        monkeypatch.setenv("UNDERSTUDY_DRIFT_POLICY", "acme=stop")
        store = open_store(str(tmp_path / "store"))
        brief = write_brief(folder)
        gates.apply(store, "acme", [verdict("drift")], "run", "report.html")
        assert self.next("r1") is None
        gates.settle(store, "acme", "photo", "resumed", by="Ada", said="repaired")
        assert self.next("r2") == brief


def test_campaigns_with_a_schedule_also_begin_when_a_gate_closes():
    from operators.drift import GATE_CLOSED
    from operators.schedule import campaign_schedule

    assert campaign_schedule("") is None
    scheduled = campaign_schedule("0 6 * * *")
    assert [asset.name for asset in scheduled.asset_condition.objects] == [GATE_CLOSED.name]
