"""``./understudy gc``: deletes what nothing needs, and nothing that a running render needs."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import timedelta

from include.cli.follow import absolute
from include.errors import UnderstudyError, Usage
from include.retention.collect import Collected, collect
from include.retention.policy import Retention, load_retention
from include.settings import Settings
from include.store import ObjectStore, open_store

_UNITS = {"m": 60, "h": 3600, "d": 86400}


def main(argv: list[str] | None = None) -> int:
    """Collect garbage; returns the exit code."""
    args = _arguments(argv)
    if args.store:
        os.environ["UNDERSTUDY_STORE"] = absolute(args.store)
    try:
        store = open_store(Settings.from_env().store)
        policy = load_retention(store)
        if args.hot_days is not None:
            policy = policy.model_copy(update={"hot_days": args.hot_days})
        for tenant in [args.tenant] if args.tenant else tenants(store):
            _print(collect(store, tenant, policy, args.grace, dry_run=args.dry_run), policy)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


def tenants(store: ObjectStore) -> list[str]:
    """Whoever has objects in a store. Lists all of it: name the tenant where it is large."""
    names = {info.key.split("/", 1)[0] for info in store.list() if "/" in info.key}
    return sorted(name for name in names if not name.startswith("."))


def duration(text: str) -> timedelta:
    """Read ``90m``, ``12h`` or ``7d``.

    Raises:
        Usage: it is none of them.
    """
    try:
        return timedelta(seconds=float(text[:-1]) * _UNITS[text[-1:]])
    except (KeyError, ValueError, OverflowError):
        raise Usage(f"{text!r} is no duration; write 90m, 12h or 7d", code="usage") from None


def _duration(text: str) -> timedelta:
    try:
        return duration(text)
    except Usage as error:
        raise argparse.ArgumentTypeError(error.message) from None


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./understudy gc", description=__doc__)
    parser.add_argument("--store", help="object store: a folder or s3://bucket/prefix")
    parser.add_argument("--tenant", help="default: every tenant of the store")
    parser.add_argument(
        "--grace",
        type=_duration,
        default=timedelta(days=7),
        help="what was written, planned or run this recently stays: 12h, 7d (default 7d); longer "
        "than the longest pause of a run",
    )
    parser.add_argument(
        "--hot-days", type=float, help="instead of the policy's: days that intermediates are kept"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go; delete nothing")
    return parser.parse_args(argv)


def _print(found: Collected, policy: Retention) -> None:
    verb = "would go" if found.dry_run else "deleted"
    print(
        f"{found.tenant}: {found.kept} artifacts and {found.blobs_kept} files stay "
        f"({found.plans} live shard plans, intermediates {policy.hot_days:g} days)"
    )
    for name, count in sorted(found.doomed.items()):
        print(f"  {count:8} {name} {verb}")
    print(f"  {found.blobs:8} files {verb}, {found.bytes / 1e6:.1f} MB")
    if found.leftovers:
        print(f"  {found.leftovers:8} interrupted uploads {verb}")


if __name__ == "__main__":
    sys.exit(main())
