"""Whether a GPU may be used: from what it says of itself to a verdict with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["healthy", "degraded", "drain"]

NEAR_SLOWDOWN: Final = 3
"""Degrees below the temperature at which the hardware slows down."""
HARDWARE_THERMAL, POWER_BRAKE = 0x40, 0x80
SOFTWARE_THERMAL = 0x20
"""Bits of NVML's clock throttle reasons. A power cap is how a busy GPU works, and no reason."""


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What a device says of itself; None where it does not know."""

    index: int
    """In the order of PCI addresses, as ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` counts."""
    uuid: str
    name: str
    total_mib: int = 0
    free_mib: int = 0
    """Of its memory, whoever uses the rest."""
    lost: str | None = None
    """What the driver said when it could not be queried (an XID error, fallen off the bus)."""
    ecc_volatile: int | None = None
    """Uncorrected memory errors since the driver was loaded or the device was reset."""
    ecc_aggregate: int | None = None
    """In its whole life."""
    remap_pending: bool | None = None
    """A row of memory is to be replaced at the next reset."""
    remap_failed: bool | None = None
    """There was no row left to replace it with."""
    pages_pending: bool | None = None
    """The same on devices before Ampere: a page is to be retired."""
    temperature: int | None = None
    """Degrees Celsius, of the GPU."""
    slowdown_at: int | None = None
    shutdown_at: int | None = None
    clock_mhz: int | None = None
    clock_most_mhz: int | None = None
    throttle: int | None = None
    """NVML's bits: why clocks are lower than they could be."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    verdict: Verdict
    reason: str
    lasting: bool = False
    """It does not pass by itself: the device has to be reset, or replaced."""


@dataclass(frozen=True)
class Health:
    """The verdict on a device, and what it rests on, worst first."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()

    @property
    def reasons(self) -> str:
        """In one line."""
        return "; ".join(finding.reason for finding in self.findings)

    @property
    def lasting(self) -> bool:
        """Whether what drains it does not pass by itself."""
        return any(found.lasting for found in self.findings if found.verdict == "drain")


def judge(readings: Readings) -> Health:
    """Judge a device.

    ``drain``: not to be used by anybody. ``degraded``: where there is no better one.
    """
    found = [*_access(readings), *_memory(readings), *_heat(readings)]
    found.sort(key=lambda finding: finding.verdict != "drain")
    return Health(found[0].verdict if found else "healthy", tuple(found))


def _access(readings: Readings) -> Iterator[Finding]:
    if readings.lost is not None:
        yield Finding("drain", f"cannot be queried ({readings.lost})", lasting=True)


def _memory(readings: Readings) -> Iterator[Finding]:
    if readings.remap_failed:
        yield Finding("drain", "a bad row of memory could not be remapped: replace it", True)
    if readings.remap_pending or readings.pages_pending:
        yield Finding("drain", "bad memory waits to be remapped: reset it", True)
    if readings.ecc_volatile:
        count = readings.ecc_volatile
        yield Finding("drain", f"{count} uncorrected memory errors since its last reset", True)
    elif readings.ecc_aggregate:
        yield Finding("degraded", f"{readings.ecc_aggregate} uncorrected memory errors in its life")


def _heat(readings: Readings) -> Iterator[Finding]:
    limits = [at for at in (readings.slowdown_at, readings.shutdown_at) if at]
    if readings.temperature is not None and limits:
        at, limit = readings.temperature, min(limits)
        if at >= limit:
            yield Finding("drain", f"{at} °C; it slows down at {limit}")
        elif at >= limit - NEAR_SLOWDOWN:
            yield Finding("degraded", f"{at} °C; it slows down at {limit}")
    reasons = readings.throttle or 0
    if reasons & HARDWARE_THERMAL:
        yield Finding("drain", "the hardware has slowed it down for heat")
    if reasons & POWER_BRAKE:
        yield Finding("degraded", "the power supply has slowed it down")
    if reasons & SOFTWARE_THERMAL:
        yield Finding("degraded", "the driver has slowed it down for heat")
