from __future__ import annotations

from pathlib import Path

import pytest

from include.settings import Settings
from tests.support.campaign import Campaign


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        store=str(tmp_path / "store"),
        state=tmp_path / "state",
        roots=(tmp_path / "in",),
        worker_python=Path("python"),
        nudity_python=Path("python"),
    )


@pytest.fixture
def campaign(tmp_path: Path, settings: Settings) -> Campaign:
    (tmp_path / "in").mkdir()
    return Campaign(tmp_path / "in", settings)
