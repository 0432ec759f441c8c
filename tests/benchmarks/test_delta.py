"""``bench delta`` measures real runs of both arms."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.delta import main, measure
from benchmarks.delta_pairs import Arm, Begun, Point
from benchmarks.floor import CHANGED, PARTS
from benchmarks.measure import THREAD_VARIABLES, Cost
from include.samples.crowd import Shape


@pytest.mark.slow
def test_a_point_is_rendered_by_both_arms_and_measured_part_by_part(tmp_path: Path) -> None:
    shape = Shape(0.2, 0.6, (240, 180), 0.4)
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    found = measure(Point(2, 1, "lanczos", shape), 1, tmp_path, floor=True)
    assert found["template"]["frames"] == 10
    assert found["template"]["frames_with_face"] == 6
    assert found["template"]["face_share"] == pytest.approx(shape.face_share, rel=0.2)
    for kind in ("cpu", "wall"):
        summary = found[f"{kind}_summary"]
        assert summary["linear"]["median"] > 0
        assert summary["delta_cold"]["median"] == pytest.approx(
            summary["delta_warm"]["median"] + summary["template"]["median"] / 2, abs=1e-3
        )
        assert 0 < summary["delta_further"]["median"] < summary["delta_warm"]["median"]
        assert 0 < summary["linear_further"]["median"] < 2 * summary["linear"]["median"]
        assert 0 < summary["floor"]["median"] < summary["delta_warm"]["median"]
        assert set(found[kind]["floor_parts"]) == {*PARTS, CHANGED}
    assert {"upscale", "swap", "encode"} <= set(found["linear_cpu_by_step"])
    assert {"compose", "face_swap"} <= set(found["template"]["cpu_by_stage"])
    assert before == {name: os.environ.get(name) for name in THREAD_VARIABLES}
    assert not list(tmp_path.iterdir()), "campaigns and stores are removed"


@pytest.mark.parametrize("what", ["processor", "code"])
def test_pairs_of_an_interrupted_run_count_where_processor_and_code_are_the_same(
    what: str,
) -> None:
    arm = Arm(Cost(1, 2), Cost(3, 4), Cost(5, 6), {"decode": Cost(7, 8)}, {"frames": 9})
    body: dict[str, Any] = {"sample": []}
    written = []
    begun = Begun(body, "sample", Point(2, 1, "lanczos"), lambda: written.append(json.dumps(body)))
    assert begun.pairs == []
    begun.keep([{"linear": arm, "delta": arm}])
    again = Begun(json.loads(written[-1]), "sample", Point(2, 1, "lanczos"), lambda: None)
    assert again.pairs == [{"linear": arm, "delta": arm}]
    assert Begun(body, "sample", Point(3, 1, "lanczos"), lambda: None).pairs == []
    (held,) = again.body["begun"].values()
    held[what] = "another"
    assert again.pairs == []
    begun.end({"point": {}})
    assert json.loads(written[-1]) == {"sample": [{"point": {}}], "begun": {}}


def test_no_pairs_are_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--pairs", "0"])
