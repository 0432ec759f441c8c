"""What of a finished render is compared: its features, and figures made of them."""

from __future__ import annotations

from collections.abc import Mapping

from include.contracts.features import FeatureValue

_SIGNED = ("mouth_error", "mouth_lag", "av_offset")
OF_A_VOICE = frozenset(("mouth_correlation", *_SIGNED, *(f"{name}_size" for name in _SIGNED)))
"""Measures that a row without a voice does not have."""


def render_measures(values: Mapping[str, FeatureValue]) -> dict[str, float | None]:
    """The measures of one render.

    Args:
        values: its features (see ``include.features.catalogue``), the collected ones included.

    Returns:
        Every number, and: ``failed`` 0; ``not_passed`` 1 unless the safety verdict is ``pass``;
        ``cpu_per_second`` and ``cost_per_second`` of video; ``mouth_error_size``,
        ``mouth_lag_size`` and ``av_offset_size`` without their signs.
    """
    found = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    measures: dict[str, float | None] = {**found, "failed": 0.0}
    verdict = values.get("verdict")
    measures["not_passed"] = None if verdict is None else float(verdict != "pass")
    for name, made in (("cpu_seconds", "cpu_per_second"), ("cost", "cost_per_second")):
        if name in found and found.get("duration"):
            measures[made] = found[name] / found["duration"]
    for name in _SIGNED:
        if name in found:
            measures[f"{name}_size"] = abs(found[name])
    return measures


def failed_measures() -> dict[str, float | None]:
    """The measures of a render that did not come about."""
    return {"failed": 1.0}
