"""``./understudy devices``: this machine's GPUs, how well they are and who uses them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from include.cli.gc import duration
from include.devices.current import check
from include.devices.drains import Drain, drained, forget, remember
from include.devices.health import Health, Readings, judge
from include.devices.shares import Held, held_shares, room_left, runtime_folder
from include.devices.table import devices_here
from include.errors import UnderstudyError, Usage
from include.settings import Settings

_COLUMNS = ("", "GPU", "state", "MiB", "free", "shares", "left", "°C", "MHz")
NOT_ALL_WELL = 1
"""Exit code where a GPU is drained: for a health check of the machine."""


def main(argv: list[str] | None = None) -> int:
    """Print the table, or drain or undrain one; 0 when every GPU may be used."""
    args = _arguments(argv)
    try:
        settings = Settings.from_env()
        folder = runtime_folder(settings.device_dir)
        devices = devices_here(settings.device_table)
        if args.undrain:
            return _undrain(folder, args.undrain, devices)
        if args.drain:
            _drain(folder, find(devices, args.drain), args.reason, args.hours)
        check(folder, devices)
        gone, held = drained(folder), held_shares(folder)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code
    (_print_json if args.json else _print)(devices, gone, held)
    return NOT_ALL_WELL if any(device.uuid in gone for device in devices) else 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./understudy devices", description=__doc__)
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--drain", metavar="GPU", help="let nobody begin to use it: number or UUID")
    one.add_argument("--undrain", metavar="GPU", help="let it be used again")
    parser.add_argument("--reason", default="drained by hand", help="why; shown to others")
    parser.add_argument(
        "--for", dest="hours", metavar="12h", help="90m, 12h, 7d; default: for good"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(argv)


def find(devices: Sequence[Readings], name: str) -> Readings:
    """The GPU of that number or UUID, of which the beginning will do.

    Raises:
        Usage: there is none, or more than one.
    """
    found = [d for d in devices if name == str(d.index) or d.uuid.startswith(name)]
    if len(found) != 1:
        known = ", ".join(f"{device.index} ({device.uuid})" for device in devices) or "none"
        raise Usage(f"{name!r} names {len(found)} GPUs; there are: {known}", code="device.name")
    return found[0]


def _drain(folder: Path, device: Readings, reason: str, length: str | None) -> None:
    now = time.time()
    until = now + duration(length).total_seconds() if length else None
    forget(folder, device.uuid)  # what a person says counts
    remember(folder, Drain(device.uuid, reason, now, until, by="hand"))


def _undrain(folder: Path, name: str, devices: Sequence[Readings]) -> int:
    """A drained GPU that was taken out of the machine can be named by its UUID."""
    uuid = name if name in drained(folder) else find(devices, name).uuid
    if not forget(folder, uuid):
        print(f"{uuid} was not drained")
        return 0
    print(f"{uuid} may be used again")
    for device in devices:
        if device.uuid == uuid and judge(device).verdict == "drain":
            print(f"  but will be drained at once: {judge(device).reasons}")
            return NOT_ALL_WELL
    return 0


def _print(devices: Sequence[Readings], gone: dict[str, Drain], held: Sequence[Held]) -> None:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for device in devices:
        shares = [share for share in held if share.uuid == device.uuid]
        state = "drained" if device.uuid in gone else judge(device).verdict
        numbers = (
            *(device.total_mib, device.free_mib, sum(share.mib for share in shares)),
            max(0, room_left(device, held)) if state != "drained" else 0,
            *("-" if each is None else each for each in (device.temperature, device.clock_mhz)),
        )
        rows.append((str(device.index), device.name, state, *(str(each) for each in numbers)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    for device in devices:
        _print_reasons(device, judge(device), gone.get(device.uuid))
    for share in held:
        print(f"process {share.pid}: {share.stage}, {share.mib} MiB of {share.uuid}")


def _print_reasons(device: Readings, health: Health, drain: Drain | None) -> None:
    if drain is not None:
        end = "until cleared" if drain.until is None else f"until {_clock(drain.until)}"
        since = _clock(drain.since)
        print(f"{device.index} {device.uuid}: {drain.reason} (by {drain.by}, {since} {end})")
    elif health.findings:
        print(f"{device.index} {device.uuid}: {health.reasons}")


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _print_json(devices: Sequence[Readings], gone: dict[str, Drain], held: Sequence[Held]) -> None:
    entries = []
    for device in devices:
        health, drain = judge(device), gone.get(device.uuid)
        entries.append(
            {
                **vars(device),
                "verdict": health.verdict,
                "reasons": [found.reason for found in health.findings],
                "drained": vars(drain) if drain else None,
                "shares": [vars(share) for share in held if share.uuid == device.uuid],
            }
        )
    print(json.dumps(entries, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
