"""``face_swap`` with its other backend: another artifact, the same picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from include.contracts.plan import ShardPlan
from include.live import backend_ref
from include.local_run import run_campaign
from include.media.decode import VideoReader
from include.planning import plan_campaign
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.tiny import make_tiny, tiny_environment

pytestmark = pytest.mark.slow


def test_the_batched_swap_makes_another_artifact_of_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in tiny_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    tiny = make_tiny(tmp_path)
    brief, settings = str(tiny.write()), tiny.settings
    store = open_store(settings.store)
    cache = ArtifactCache(store, "acme")
    clips, keys = [], []
    for name in ("mesh", "mesh-batched"):
        ref = backend_ref("face_swap", name)
        plan = plan_campaign(brief, settings, backends={"face_swap": ref})
        run = run_campaign(plan, settings, run_id=name, until="face_swap")
        assert run.unit("face_swap", "eve").status == "made"
        shard = ShardPlan.model_validate_json(store.get(plan.shards[0].plan))
        keys.append(shard.rows[0].key("face_swap"))
        made = cache.lookup("face_swap", keys[-1])
        assert made is not None
        roi = next(blob for output, blob in made.outputs.items() if output.startswith("roi-"))
        with VideoReader(cache.fetch(roi, tmp_path / name)) as reader:
            clips.append(np.stack([frame.copy() for frame in reader.frames()]).astype(int))
    assert keys[0] != keys[1]
    assert clips[0].shape == clips[1].shape
    apart = np.abs(clips[0] - clips[1])
    assert 0 < apart.mean() < 2
    assert (apart.max(3) > 8).mean() < 0.05
