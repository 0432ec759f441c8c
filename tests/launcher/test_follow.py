"""Following a run while Airflow's API comes and goes."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from include.cli import follow, rest
from include.cli.progress import Progress
from include.cli.rest import AirflowApi, ApiError
from include.cli.stack import free_port

pytestmark = pytest.mark.airflow


class Answers(BaseHTTPRequestHandler):
    """A token, then the state of a run; 404 for anything of a run that is gone."""

    def do_GET(self):
        status = 404 if "/gone" in self.path else 200
        body = b'{"access_token": "t", "state": "running"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(409)
        self.end_headers()

    do_PATCH = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def server(port):
    started = []

    def start():
        http = HTTPServer(("127.0.0.1", port), Answers)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        started.append(http)

    yield start
    for http in started:
        http.shutdown()
        http.server_close()


def test_a_run_is_followed_through_a_restart_of_the_api(port, server, monkeypatch):
    waited = []

    def wait(seconds):
        waited.append(seconds)
        if len(waited) == 5:
            server()

    monkeypatch.setattr(rest.time, "sleep", wait)
    api = AirflowApi(f"http://127.0.0.1:{port}")
    ask = follow._Patient(Progress())
    assert ask(lambda: api.run_state("d", "r")) == "running"
    assert len(waited) == 5


def test_patience_ends_and_an_answer_that_says_no_is_taken(port, server, monkeypatch):
    monkeypatch.setattr(rest.time, "sleep", lambda _: None)
    monkeypatch.setattr(follow, "PATIENCE_S", -1.0)
    api = AirflowApi(f"http://127.0.0.1:{port}")
    ask = follow._Patient(Progress())
    with pytest.raises(ApiError):
        ask(lambda: api.run_state("d", "r"))
    monkeypatch.setattr(follow, "PATIENCE_S", 300.0)
    server()
    with pytest.raises(ApiError, match="404"):
        ask(lambda: api.run_state("d", "gone"))


def test_a_named_run_that_was_started_before_is_not_started_twice(port, server):
    server()
    api = AirflowApi(f"http://127.0.0.1:{port}")
    assert api.trigger("d", {}, "mine") == "mine"
    with pytest.raises(ApiError, match="409"):
        api.trigger("d", {})
