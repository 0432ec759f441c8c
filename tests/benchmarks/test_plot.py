"""Figures are well-formed, complete, and readable on light and dark pages."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measure import Spread
from benchmarks.plot import WIDTH, _ticks, bars, grid

SVG = "{http://www.w3.org/2000/svg}"


def spread(median: float) -> Spread:
    return Spread(median, 0.9 * median, 1.2 * median, 5)


def words(figure: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(figure).iter(f"{SVG}text")]


def test_bars_name_every_group_series_and_value() -> None:
    groups = {
        "1 recipient": {"linear": spread(88.0), "delta": spread(40.0)},
        "3 <recipients>": {"linear": spread(87.0), "delta": spread(24.0)},
    }
    figure = bars('Cost & "speed"', "CPU seconds", groups)
    said = words(figure)
    assert {"1 recipient", "3 <recipients>", "linear", "delta", "CPU seconds"} <= set(said)
    assert {"88", "40", "87", "24"} <= set(said)
    assert 'Cost & "speed"' in said
    assert "prefers-color-scheme:dark" in figure


def test_bars_are_as_long_as_their_values_and_stay_inside() -> None:
    figure = bars("Cost", "s", {"one": {"a": spread(50.0)}, "two": {"a": spread(100.0)}})
    root = ElementTree.fromstring(figure)
    lengths = [float(r.get("width")) for r in root.iter(f"{SVG}rect") if r.get("height") == "14"]
    assert lengths[1] == pytest.approx(2 * lengths[0], abs=0.2)
    ends = [float(line.get("x2")) for line in root.iter(f"{SVG}line")]
    assert max(ends) < WIDTH


def test_a_grid_shows_every_cell_and_leaves_out_what_was_not_measured() -> None:
    cells = {("face 5%", "30%"): spread(20.0), ("face 40%", "100%"): spread(2.0)}
    said = words(grid("Times fewer", "share", "on screen", cells))
    assert {"face 5%", "face 40%", "30%", "100%", "20", "2"} <= set(said)
    assert said.count("20") == 1


@given(st.floats(1e-3, 1e6))
def test_an_axis_has_a_handful_of_round_ticks(highest: float) -> None:
    ticks = _ticks(highest)
    assert 3 <= len(ticks) <= 9
    assert ticks[0] == 0
    assert ticks[-1] <= highest * (1 + 1e-9)
