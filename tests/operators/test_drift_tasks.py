"""The tasks of drift_validation: who is told, who is asked, what an answer does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from include.drift import gates
from include.errors import Transient, Usage
from include.samples.feature_rows import RowModel, changed, measured_rows
from include.store import open_store
from tests.services.inboxes import mail_inbox, web_inbox
from tests.support.campaign import Campaign

pytestmark = pytest.mark.airflow

PROJECT = Path(__file__).resolve().parents[2]
TENANT = "acme"
START = datetime(2026, 3, 1, tzinfo=UTC)
CLEAN = RowModel.fit("photo", measured_rows("photo"))
WARM = RowModel.fit("photo", changed(measured_rows("photo"), warmth=12.0))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def drifted(store):
    """A store with an accepted reference, and 200 rows that are unlike it."""
    from include.drift.reference import accept, keep_batch
    from include.drift.rows import read_rows, write_rows

    write_rows(store, TENANT, "first", CLEAN.rows_of(1, 500, start=START))
    batch = keep_batch(store, TENANT, "photo", read_rows(store, TENANT, "photo"))
    accept(store, TENANT, "photo", batch, by="Ada")
    write_rows(store, TENANT, "second", WARM.rows_of(2, 200, start=START + timedelta(days=3)))
    return store


def event(store, number=1):
    return {
        "id": f"photo-gate-{number:06d}",
        "store": store.uri,
        "tenant": TENANT,
        "subject": "Drift in photo assets of acme",
        "text": "warmth: <median> 12",
        "link": "http://ui/understudy/drift?key=acme/drift/report/x.html",
    }


@pytest.fixture
def webhook(monkeypatch):
    with web_inbox() as inbox:
        connection = {"conn_type": "http", "host": inbox.url, "password": "secret"}
        monkeypatch.setenv("AIRFLOW_CONN_UNDERSTUDY_WEBHOOK", json.dumps(connection))
        yield inbox


@pytest.fixture
def mails(monkeypatch):
    with mail_inbox() as inbox:
        extra = {"from_email": "u@example.org", "to": "ops@example.org"}
        extra |= {"disable_ssl": True, "disable_tls": True}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": inbox.port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_UNDERSTUDY_EMAIL", json.dumps(connection))
        yield inbox


def test_an_event_is_posted_once_whoever_tries_again(store, webhook):
    from operators.notify import send_webhook

    assert send_webhook(event(store), {}) == "sent"
    assert send_webhook(event(store), {}) == "sent before"
    (posted,) = webhook.posted
    assert posted["subject"] == "Drift in photo assets of acme"
    assert posted["link"].endswith("x.html")
    assert webhook.headers[0]["Authorization"] == "Bearer secret"
    assert send_webhook(event(store, number=2), {}) == "sent"


def test_a_webhook_that_refuses_is_tried_again_later(store, webhook):
    from operators.notify import send_webhook

    webhook.status = 503
    with pytest.raises(Transient, match="did not take it"):
        send_webhook(event(store), {})
    webhook.status = 200
    assert send_webhook(event(store), {}) == "sent"


def test_a_redirect_is_no_receipt_and_gets_no_token(store, webhook):
    from operators.notify import send_webhook

    with web_inbox() as elsewhere:
        webhook.status, webhook.location = 302, elsewhere.url
        with pytest.raises(Transient, match="did not take it"):
            send_webhook(event(store), {})
        assert elsewhere.posted == elsewhere.headers == []


def test_a_mail_says_what_happened_and_where_to_look(store, mails):
    from operators.notify import send_email

    assert send_email(event(store), {}) == "sent"
    assert send_email(event(store), {}) == "sent before"
    (mail,) = mails.mails
    assert (mail["To"], mail["From"]) == ("ops@example.org", "u@example.org")
    assert mail["Subject"] == "Drift in photo assets of acme"
    body = mail.get_body(("html",)).get_content()
    assert "warmth: &lt;median&gt; 12" in body
    assert 'href="http://ui/understudy/drift?key=acme/drift/report/x.html"' in body


def test_without_connections_nobody_is_told_and_nothing_fails(store, monkeypatch):
    from operators.notify import send_email, send_webhook

    monkeypatch.setenv("AIRFLOW_CONN_UNDERSTUDY_WEBHOOK", '{"conn_type": "http"}')
    monkeypatch.setenv("AIRFLOW_CONN_UNDERSTUDY_EMAIL", '{"conn_type": "smtp"}')
    assert send_webhook(event(store), {}) == "not configured"
    assert send_email(event(store), {}) == "not configured"


def test_a_connection_that_cannot_be_used_says_what_is_missing(store, monkeypatch):
    from operators.notify import send_email, send_webhook

    half = {"conn_type": "http", "host": "example.org"}
    monkeypatch.setenv("AIRFLOW_CONN_UNDERSTUDY_WEBHOOK", json.dumps(half))
    monkeypatch.setenv("AIRFLOW_CONN_UNDERSTUDY_EMAIL", json.dumps(half | {"conn_type": "smtp"}))
    with pytest.raises(Usage, match="the whole URL"):
        send_webhook(event(store), {})
    with pytest.raises(Usage, match="who gets the mail"):
        send_email(event(store), {})


def ref_of(store, run="run"):
    """What ``validate`` hands on."""
    from include.drift.validate import validate_tenant
    from operators.drift import gate_event

    done = validate_tenant(store, TENANT, run, kinds=("photo",))
    events = [gate_event(store.uri, state, "http://ui/report") for state in done.changed]
    ref = {"store": store.uri, "tenant": TENANT, "verdict": done.key, "link": "http://ui/report"}
    return {**ref, "events": events}


def test_a_gate_that_opened_is_asked_about_once_and_again_when_wanted(drifted):
    from operators.drift import questions

    first = ref_of(drifted)
    (asked,) = questions([first], {"ask": "new"}, "run")
    assert (asked["kind"], asked["label"]) == ("photo", "acme: photo")
    assert questions([first], {"ask": "never"}, "run") == []
    assert questions([{**first, "events": []}], {"ask": "new"}, "run") == []
    later = ref_of(drifted, "a run without new rows")
    assert questions([later], {"ask": "new"}, "run") == []
    assert questions([later], {"ask": "always"}, "run") == [asked]


def test_a_first_reference_is_asked_for_once_a_day(store):
    from include.drift.rows import write_rows
    from operators.drift import load_verdict, question_text, questions

    write_rows(store, TENANT, "first", CLEAN.rows_of(1, 300, start=START))
    ref = ref_of(store)
    (asked,) = questions([ref], {"ask": "new"}, "run")
    assert questions([ref], {"ask": "new"}, "run") == [asked], "another try of the same task"
    assert questions([ref], {"ask": "new"}, "another run") == []
    subject, _ = question_text(asked, load_verdict(asked))
    assert subject == "Take 300 photo assets of acme as the first reference?"


def test_the_question_says_what_drifted_and_links_the_report(drifted):
    from operators.drift import load_verdict, question_text, questions

    (asked,) = questions([ref_of(drifted)], {"ask": "new"}, "run")
    subject, body = question_text(asked, load_verdict(asked))
    assert subject == "Photo assets of acme have drifted. What now?"
    assert "- `warmth: median" in body
    assert "/understudy/drift?key=acme/drift/report/" in body


@pytest.mark.parametrize(
    ("answer", "reason", "version"),
    [
        ("Accept as the new reference", "accepted", 2),
        ("The data was repaired", "resumed", 1),
        ("Keep the alarm", None, 1),
    ],
)
def test_an_answer_does_what_it_says(drifted, answer, reason, version):
    from include.drift.reference import newest
    from operators.drift import questions, settle

    (asked,) = questions([ref_of(drifted)], {"ask": "new"}, "run")
    given = {"chosen_options": [answer], "responded_by_user": {"id": "1", "name": "ada"}}
    told = settle(asked, {**given, "params_input": {"note": "new light"}}, {"run_id": "run"})
    state = gates.current(drifted, TENANT, "photo")
    assert newest(drifted, TENANT, "photo").version == version
    if reason is None:
        assert told is None
        assert state.state == "open"
    else:
        assert (state.state, state.reason, state.by) == ("closed", reason, "ada")
        assert told["closed"]


def test_no_answer_in_time_leaves_the_alarm(drifted):
    from operators.drift import questions, settle

    (asked,) = questions([ref_of(drifted)], {"ask": "new"}, "run")
    silence = {"chosen_options": ["Keep the alarm"], "responded_by_user": None}
    assert settle(asked, silence, {"run_id": "run"}) is None
    assert gates.current(drifted, TENANT, "photo").state == "open"


def test_rows_are_collected_and_told_whatever_becomes_of_the_report(store, tmp_path, monkeypatch):
    from airflow.sdk.exceptions import AirflowSkipException

    from include.settings import Settings
    from operators.campaign import collect_features
    from operators.drift import FEATURE_ROWS

    monkeypatch.setenv("UNDERSTUDY_CONSENT_KEYS", str(tmp_path / "state" / "consent"))
    (tmp_path / "in").mkdir()
    settings = replace(Settings.from_env(), roots=(tmp_path / "in",))
    campaign = Campaign(tmp_path / "in", settings)
    campaign.add("anna")
    plan = campaign.plan()
    told = defaultdict(SimpleNamespace)
    context = {"run_id": "run", "outlet_events": told}
    ref = {"store": plan.store, "plan": f"acme/plan/{plan.plan_id}/plan.json"}
    assert collect_features(ref, context) == 0
    assert told[FEATURE_ROWS].extra == {"tenant": TENANT, "rows": 0}
    with pytest.raises(AirflowSkipException):
        collect_features(None, context)


def run_dag(tmp_path, conf) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "PYTHONPATH": str(PROJECT)}
    database = f"sqlite:///{tmp_path}/airflow.db?timeout=60"
    env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database
    (tmp_path / "airflow").mkdir()
    command = [sys.executable, "-m", "operators.inprocess", "drift_validation"]
    command += ["--conf", json.dumps(conf), "--events", "2"]
    return subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True)


def test_a_run_that_does_not_know_or_reach_everybody_fails():
    from include.errors import BadInput
    from operators.drift import report

    anna, ben = ({"tenant": name, "label": name} for name in ("anna", "ben"))
    found = {"tenant": "anna", "said": "", "link": "", "outcomes": {}, "report": "x"}
    assert list(report([anna], [found])) == ["anna"]
    assert report([], []) == {}
    for tenants, refs, failed, words in (
        (None, [], ["find_tenants"], "is not known; see find_tenants"),
        ([anna, ben], [found], [], r"1 of 2 tenants could not be validated \(ben\)"),
        ([anna], [found], ["send_webhook_0"], "see send_webhook_0"),
    ):
        with pytest.raises(BadInput, match=words) as caught:
            report(tenants, refs, failed)
        assert caught.value.code == "drift.incomplete"


def test_media_that_could_not_be_measured_let_nobody_else_be_judged(drifted, monkeypatch):
    from operators.drift import find_tenants

    assert find_tenants({"media": "brief.yaml"}, {}, ()) == []
    assert [item["tenant"] for item in find_tenants({}, {}, ())] == [TENANT]


@pytest.mark.slow
def test_a_run_whose_media_cannot_be_measured_is_red(drifted, tmp_path):
    done = run_dag(tmp_path, {"ask": "never", "media": str(tmp_path / "none.yaml")})
    assert done.returncode != 0
    assert "whose rows to validate is not known" in done.stdout + done.stderr or (
        "see measure_incoming" in done.stdout + done.stderr
    )


def test_the_operator_offers_what_settling_understands():
    from include.drift import settle
    from operators import drift

    assert (drift.ACCEPT, drift.RESUME, drift.KEEP) == settle.OPTIONS


@pytest.mark.slow
def test_the_dag_runs_from_rows_to_alerts(drifted, webhook, mails, tmp_path):
    done = run_dag(tmp_path, {"ask": "never"})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert [post["id"] for post in webhook.posted] == ["photo-gate-000001"]
    assert [mail["Subject"] for mail in mails.mails] == ["Drift in photo assets of acme"]
    (verdict,) = list(drifted.list(f"{TENANT}/drift/verdict/"))
    assert "outcome" in drifted.get(verdict.key).decode()
    later = ref_of(drifted, "a second run")
    assert later["events"] == [], "what was told is not told again"
