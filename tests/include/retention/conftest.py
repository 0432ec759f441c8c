from __future__ import annotations

from pathlib import Path

import pytest

from include.store import DirectoryStore
from include.store.cache import ArtifactCache
from tests.include.retention.world import TENANT, World


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def cache(store: DirectoryStore) -> ArtifactCache:
    return ArtifactCache(store, TENANT)


@pytest.fixture
def world(store: DirectoryStore) -> World:
    return World.beside(store)
