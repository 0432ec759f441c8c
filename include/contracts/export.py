"""JSON schemas of the contracts, exported for other languages and checked for drift.

``python -m include.contracts.export`` writes them beside this file; a test holds them to it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from include.contracts.base import Contract
from include.contracts.brief import Brief
from include.contracts.consent import SignedConsent
from include.contracts.features import FeatureRow
from include.contracts.manifest import KeyMaterial, Manifest
from include.contracts.plan import CampaignPlan, ShardPlan
from include.contracts.remote import JobRequest, JobStatus, Problem
from include.contracts.stage import Decision, Event, ReviewItem, StageRequest, StageResult

FOLDER = Path(__file__).parent / "schemas"

EXPORTED: tuple[type[Contract], ...] = (
    Brief,
    CampaignPlan,
    Decision,
    Event,
    FeatureRow,
    JobRequest,
    JobStatus,
    KeyMaterial,
    Manifest,
    Problem,
    ReviewItem,
    ShardPlan,
    SignedConsent,
    StageRequest,
    StageResult,
)
"""Contracts that cross a process or are kept in a store."""


def schema_text(contract: type[Contract]) -> str:
    """The schema (JSON Schema 2020-12) as it is written to its file."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **contract.model_json_schema(),
    }
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def schema_path(contract: type[Contract]) -> Path:
    """Where a contract's schema lies."""
    return FOLDER / f"{contract.__name__}.json"


def main() -> int:
    """Write all schemas."""
    FOLDER.mkdir(exist_ok=True)
    for contract in EXPORTED:
        schema_path(contract).write_text(schema_text(contract), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
