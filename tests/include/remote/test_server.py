"""The reference server's own manners: who may ask, what it takes, what it forgets."""

from __future__ import annotations

import hashlib
import json

import pytest

from include.contracts.manifest import KeyMaterial
from include.contracts.remote import JobFile, JobInput, JobRequest
from include.remote.server.blobs import Blobs
from include.stages.specs import STAGES
from tests.services.canned_http import Reply, canned_http
from tests.services.model_api import ModelApi

DATA = b"some bytes"
SHA = hashlib.sha256(DATA).hexdigest()
SPEC = STAGES["upscale"]


def request(**changes: object) -> JobRequest:
    upstream = {name: KeyMaterial(stage=name, stage_version=1) for name in SPEC.upstream}
    keys = {name: material.key() for name, material in upstream.items()}
    material = KeyMaterial(stage="upscale", stage_version=SPEC.version, upstream=keys)
    file = JobFile(sha256=SHA, size=len(DATA), filename="video.mkv")
    inputs = (JobInput(material=upstream["ingest_template"], files={"video": file}),)
    made = {"material": material, "upstream": upstream, "inputs": inputs, "total_s": 60}
    return JobRequest.model_validate({**made, **changes})


def submit(api: ModelApi, body: JobRequest, key: str | None = None):
    headers = {"Idempotency-Key": key or body.material.key()}
    return api.ask("POST", "/v1/jobs", headers=headers, body=body.model_dump_json())


def test_without_the_token_nothing_is_done(api: ModelApi) -> None:
    for token in ("", "wrong"):
        assert api.ask("GET", f"/v1/jobs/{'0' * 64}", token=token).status == 401
        answer = api.ask("PUT", f"/v1/blobs/{SHA}", token=token, body=DATA)
        assert answer.status == 401


def test_inputs_that_are_missing_are_named_and_taken_by_digest(api: ModelApi) -> None:
    answer = submit(api, request())
    assert (answer.status, answer.json()["missing"]) == (409, [SHA])
    assert api.ask("PUT", f"/v1/blobs/{SHA}", body=b"other bytes").status == 422
    assert submit(api, request()).status == 409
    assert api.ask("PUT", f"/v1/blobs/{SHA}", body=DATA).status == 204
    answer = submit(api, request())
    assert (answer.status, answer.json()["job"]) == (202, request().material.key())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"material": KeyMaterial(stage="sign", stage_version=1)}, "sign is not done here"),
        ({"upstream": {}}, "upstream does not have the keys"),
        (
            {"inputs": (JobInput(material=KeyMaterial(stage="compose", stage_version=1)),)},
            "none of upstream",
        ),
    ],
    ids=["a stage with keys and consent", "without its inputs' keys", "with other inputs"],
)
def test_jobs_that_can_never_be_done_are_refused(api: ModelApi, changes, said: str) -> None:
    answer = submit(api, request(**changes))
    assert answer.status == 422
    assert said in answer.json()["message"]


def test_the_idempotency_key_is_the_artifacts(api: ModelApi) -> None:
    assert submit(api, request(), "0" * 64).json()["code"] == "job.key"


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 5000, b"\xff"])
def test_what_is_no_job_is_refused(api: ModelApi, body: bytes) -> None:
    assert api.ask("POST", "/v1/jobs", body=body).status == 422


@pytest.mark.parametrize("path", ["/", "/v1/jobs/../x", "/v1/jobs/ABC", f"/v1/jobs/{'0' * 64}"])
def test_what_there_is_not_is_not_found(api: ModelApi, path: str) -> None:
    assert api.ask("GET", path).status == 404


def test_uploads_and_the_queue_are_limited(api: ModelApi) -> None:
    api.stop()
    api.start("--max-bytes", "20", "--slots", "0", "--queue", "1")
    assert api.ask("PUT", f"/v1/blobs/{SHA}", body=DATA * 3).status == 422
    assert api.ask("PUT", f"/v1/blobs/{SHA}", body=DATA).status == 204
    assert submit(api, request()).status == 202
    other = request(
        chunk_s=1.0, material=request().material.model_copy(update={"params": {"a": 1}})
    )
    answer = submit(api, other)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert submit(api, request()).status == 202, "the same job again takes no place"


def test_waiting_jobs_are_cancelled_at_once_and_done_anew_when_asked(api: ModelApi) -> None:
    api.stop()
    api.start("--slots", "0")
    api.ask("PUT", f"/v1/blobs/{SHA}", body=DATA)
    job = submit(api, request()).json()["job"]
    assert api.ask("DELETE", f"/v1/jobs/{job}").json()["state"] == "cancelled"
    assert submit(api, request()).json()["state"] == "queued"


def test_what_ended_is_forgotten_in_time(api: ModelApi, tmp_path) -> None:
    api.stop()
    api.start("--slots", "0", "--keep-s", "0", "--sweep-s", "0.1")
    api.ask("PUT", f"/v1/blobs/{SHA}", body=DATA)
    while submit(api, request()).status == 409:  # a sweep may be quicker
        api.ask("PUT", f"/v1/blobs/{SHA}", body=DATA)
    job = request().material.key()
    api.ask("DELETE", f"/v1/jobs/{job}")
    while api.ask("GET", f"/v1/jobs/{job}").status != 404:
        pass
    while list((api.root / "blobs").iterdir()):
        pass
    assert list((api.root / "jobs").iterdir()) == []


def test_inputs_are_fetched_only_from_where_that_is_allowed(tmp_path) -> None:
    with canned_http(Reply(200, DATA)) as server:
        file = JobFile(sha256=SHA, size=len(DATA), filename="a", url=f"{server.url}/bucket/a")
        for allowed in ((), ("https://elsewhere/",), (f"{server.url}/other/",)):
            assert not Blobs(tmp_path, max_bytes=100, fetch_from=allowed).fetchable(file)
        blobs = Blobs(tmp_path, max_bytes=100, fetch_from=(f"{server.url}/bucket/",))
        assert blobs.fetchable(file)
        blobs.fetch(file)
        assert blobs.path(SHA).read_bytes() == DATA


def test_counts_hold_no_names(api: ModelApi) -> None:
    assert json.dumps(api.counts()) == "{}"
