"""One artifact at the endpoints that offer it: what is counted, what is left, who is asked next."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from include.contracts.brief import BudgetSpec
from include.contracts.manifest import BackendRef, KeyMaterial, Manifest
from include.errors import BadInput, BudgetExceeded, Preempted, RemoteUnavailable, UnderstudyError
from include.media.images import save_png
from include.remote.budget import Ledger
from include.remote.call import Caller
from include.remote.config import Remotes
from include.stages.context import Output
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.services.canned_http import CannedServer, Reply, canned_http

SWAP = KeyMaterial(stage="face_swap", stage_version=1)
MATERIAL = KeyMaterial(
    stage="upscale",
    stage_version=1,
    backend=BackendRef(name="compact", version="1"),
    upstream={"face_swap": SWAP.key()},
)
KEY = MATERIAL.key()
BUSY, LOST = Reply(503), Reply(404)


@dataclass
class Row:
    """What a call reads of a row's context, with a swapped face to upscale."""

    root: Path
    limit: float | None = None
    warned: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cache = ArtifactCache(open_store(str(self.root / "store")), "acme")
        save_png(np.zeros((8, 8, 3), np.uint8), self.root / "a.png")
        self.swapped: Manifest = self.cache.publish(
            SWAP, {"clip": (self.root / "a.png", "image/png")}, {}
        )
        self.png = (self.root / "a.png").read_bytes()

    @property
    def spent(self) -> float:
        return Ledger(self.cache.store, "acme", "spring").spent()

    def status(self, **more: object) -> Reply:
        body = {"job": "j" * 16, "key": KEY, "state": "queued", **more}
        return Reply(202, json.dumps(body).encode())

    def done(self, price: float = 0.0) -> Reply:
        made = {
            "sha256": hashlib.sha256(self.png).hexdigest(),
            "size": len(self.png),
            "media_type": "image/png",
            "filename": "a.png",
        }
        facts = {"clips": [], "left": [], "scale": 1}
        return self.status(state="done", price=price, outputs={"open-000": made}, facts=facts)

    def call(self, *offers: tuple[CannedServer, float], caller: Caller | None = None) -> Output:
        """Have it made by servers called ``api-0``, ``api-1`` ..., each at its price."""
        endpoints = [
            {
                "name": f"api-{number}",
                "url": server.url,
                "models": [{"stage": "upscale", "backend": "compact", "per_call": price}],
            }
            for number, (server, price) in enumerate(offers)
        ]
        caller = caller or Caller(Remotes())
        caller.remotes = Remotes.model_validate({"endpoints": endpoints})
        budget = None if self.limit is None else BudgetSpec(currency="USD", limit=self.limit)
        owner = SimpleNamespace(materials={"upscale": MATERIAL, "face_swap": SWAP})
        scratch = self.root / f"scratch-{len(list(self.root.glob('scratch-*')))}"
        scratch.mkdir()
        ctx = SimpleNamespace(
            spec=STAGES["upscale"],
            unit=SimpleNamespace(id="eve"),
            shard=SimpleNamespace(
                brief=SimpleNamespace(campaign="spring", budget=budget), chunk_s=0.0
            ),
            cache=self.cache,
            scratch=scratch,
            events=SimpleNamespace(emit=lambda *_, **__: None),
            owner=lambda _: owner,
            manifest=lambda _: self.swapped,
            facts=lambda _: {"frames": 25, "fps": (25, 1), "shots": [0], "segments": []},
            warn=self.warned.append,
        )
        return caller.whole(ctx, "upscale")


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    monkeypatch.setattr("include.remote.http.BACKOFF_S", 0.01)
    return Row(tmp_path)


def test_a_job_that_one_endpoint_keeps_counts_beside_the_next_ones(row: Row) -> None:
    row.limit = 2.0
    with (
        canned_http(row.status(), LOST) as first,
        canned_http(row.done(0.9), Reply(200, row.png)) as second,
    ):
        assert row.call((first, 0.2), (second, 0.9)).cost.remote.endpoint == "api-1"
    assert row.spent == pytest.approx(1.1)


def test_the_next_endpoints_price_has_to_fit_as_well(row: Row) -> None:
    row.limit = 1.0
    with canned_http(row.status(), LOST) as first, canned_http(row.done(0.9)) as second:
        with pytest.raises(UnderstudyError, match=r"0\.9000 USD; 0\.2000 of"):
            row.call((first, 0.2), (second, 0.9))
        assert second.requests == []
    assert row.spent == 0.2


def test_a_job_of_an_earlier_attempt_counts_while_its_endpoint_is_busy(row: Row) -> None:
    with canned_http(row.status(), LOST) as server, pytest.raises(RemoteUnavailable):
        row.call((server, 0.2))
    with canned_http(BUSY) as server, pytest.raises(RemoteUnavailable) as caught:
        row.call((server, 0.2))
    assert caught.value.code == "remote.busy"
    assert row.spent == 0.2, "it may be done, and charged"


def test_a_job_that_was_never_accepted_does_not_count(row: Row) -> None:
    with canned_http(BUSY) as server, pytest.raises(RemoteUnavailable):
        row.call((server, 0.2))
    assert row.spent == 0


def test_a_job_whose_inputs_cannot_be_read_does_not_count(row: Row) -> None:
    sha = row.swapped.outputs["clip"].sha256
    row.cache.store.delete(row.cache.blob_key(sha))
    asks = {"code": "inputs.missing", "message": "1 is missing", "missing": [sha]}
    with (
        canned_http(Reply(409, json.dumps(asks).encode())) as server,
        pytest.raises(UnderstudyError, match=sha),
    ):
        row.call((server, 0.2))
    assert row.spent == 0


def test_a_task_that_is_ended_before_it_submits_reserves_nothing(row: Row) -> None:
    caller = Caller(Remotes())
    caller.end()
    with canned_http(row.status()) as server:
        with pytest.raises(Preempted):
            row.call((server, 0.2), caller=caller)
        assert server.requests == []
    assert row.spent == 0
    with (
        canned_http(Reply(202, b"{", length=500)) as server,
        pytest.raises(RemoteUnavailable) as caught,
    ):
        row.call((server, 0.2))
    assert caught.value.code == "remote.unavailable"
    assert row.spent == 0.2, "its answer was lost, not the job"


def test_a_call_that_does_not_fit_is_not_made(row: Row) -> None:
    row.limit = 0.1
    with canned_http(row.status()) as server:
        with pytest.raises(BudgetExceeded):
            row.call((server, 0.2))
        assert server.requests == []


def test_a_job_that_is_found_done_again_is_counted_once(row: Row) -> None:
    gone = Reply(404)
    with canned_http(row.done(0.2), gone) as server, pytest.raises(RemoteUnavailable) as caught:
        row.call((server, 0.3))
    assert caught.value.code == "remote.output", "its download failed"
    for _ in range(2):  # the second time as after a task that was killed before it published
        with canned_http(row.done(0.2), Reply(200, row.png)) as server:
            row.call((server, 0.3))
        assert row.spent == 0.2
    with canned_http(row.done(0.25), Reply(200, row.png)) as server:
        row.call((server, 0.3))
    assert row.spent == 0.25, "what it costs more than was settled counts"


def test_a_job_that_is_done_once_more_is_counted_once_more(row: Row) -> None:
    failed = {"code": "memory", "message": "out of memory", "exit_code": 70}
    over = row.status(state="failed", price=0.1, error=failed)
    with canned_http(row.status(), over) as server, pytest.raises(RemoteUnavailable):
        row.call((server, 0.3))
    assert row.spent == 0.1
    with canned_http(row.done(0.1), Reply(200, row.png)) as server:
        row.call((server, 0.3))
    assert row.spent == 0.2, "it had failed: this is another attempt of the API's"
    with canned_http(row.status(), row.done(0.1), Reply(200, row.png)) as server:
        row.call((server, 0.3))
    assert row.spent == pytest.approx(0.3), "the API had forgotten it and did it anew"


def test_a_job_that_is_found_failed_again_is_counted_once(row: Row) -> None:
    error = {"code": "face.none", "message": "no face", "exit_code": 65}
    for _ in range(2):
        over = row.status(state="failed", price=0.1, error=error)
        with canned_http(over) as server, pytest.raises(BadInput, match="no face"):
            row.call((server, 0.3))
        assert row.spent == 0.1


def test_the_next_endpoint_makes_what_the_first_did_not_deliver(row: Row) -> None:
    with (
        canned_http(row.done(), Reply(200, b"other bytes")) as first,
        canned_http(row.done(), Reply(200, row.png)) as second,
    ):
        made = row.call((first, 0.2), (second, 0.2))
    assert made.cost.remote.endpoint == "api-1"
    path, _ = made.files["open-000"]
    assert path.read_bytes() == row.png
    assert len(row.warned) == 1


@pytest.mark.parametrize("price", [float("inf"), float("nan"), 1e300, 1_000_001, -1])
def test_a_price_that_is_none_is_refused_and_the_reservation_stands(row: Row, price: float) -> None:
    with canned_http(row.done(price)) as server:
        with pytest.raises(RemoteUnavailable, match=r"keep to the contract.*price") as caught:
            row.call((server, 0.2))
        assert len(server.requests) == 1, "nothing is fetched"
    assert caught.value.code == "remote.answer"
    assert row.spent == 0.2
