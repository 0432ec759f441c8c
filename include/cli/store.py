"""``./understudy store lifecycle``: how long a store keeps what; ``--apply`` makes it so."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from include.cli.follow import absolute
from include.cli.gc import tenants
from include.errors import UnderstudyError
from include.retention.policy import Retention, artifacts, load_retention, save_retention, worth_of
from include.settings import Settings
from include.store import ObjectStore, open_store

_FIELDS = ("hot_days", "plate_days", "tier_days", "tier_class", "upload_days")


def main(argv: list[str] | None = None) -> int:
    """Show the policy and the server's rules, or set them; returns the exit code."""
    args = _arguments(argv)
    if args.store:
        os.environ["UNDERSTUDY_STORE"] = absolute(args.store)
    try:
        _lifecycle(open_store(Settings.from_env().store), args)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./understudy store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("lifecycle", help="show or set how long things are kept")
    one.add_argument("--store", help="object store: a folder or s3://bucket/prefix")
    one.add_argument("--tenant", help="default: every tenant of the store")
    one.add_argument("--apply", action="store_true", help="set the policy and the server's rules")
    one.add_argument("--hot-days", type=float, help="keep intermediates so long (30)")
    one.add_argument("--plate-days", type=float, help="keep templates' plates so long; 0: for ever")
    one.add_argument("--tier-days", type=int, help="move published files after; 0: never (30)")
    one.add_argument("--tier-class", help="to this storage class (STANDARD_IA)")
    one.add_argument("--upload-days", type=int, help="abort uploads never finished after (7)")
    return parser.parse_args(argv)


def _lifecycle(store: ObjectStore, args: argparse.Namespace) -> None:
    given = {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
    policy = Retention.model_validate({**load_retention(store).model_dump(), **given})
    _print_policy(policy)
    if args.apply:
        save_retention(store, policy)
    _server_rules(store, policy, args)
    if not args.apply:
        print("Nothing was changed; --apply sets it.")


def _print_policy(policy: Retention) -> None:
    classes: dict[str, list[str]] = {"hot": [], "plate": [], "published": []}
    for name in artifacts():
        classes[worth_of(name)].append(name)
    plates = f"{policy.plate_days:g} days" if policy.plate_days else "for ever"
    print(f"hot        {policy.hot_days:g} days, longer while a live plan names it: by gc")
    print(f"           {', '.join(classes['hot'])}")
    print(f"plate      {plates}")
    print(f"           {', '.join(classes['plate'])}")
    print("published  for ever, with the signature and verdict behind it")


def _server_rules(store: ObjectStore, policy: Retention, args: argparse.Namespace) -> None:
    """Show or set the rules that an S3 server carries out by itself."""
    from include.retention.rules import apply_rules, present_rules, rules_of, tenants_of
    from include.store.s3 import S3Store

    if not isinstance(store, S3Store):
        print(f"{store.uri} has no rules of its own: ./understudy gc carries the policy out.")
        return
    present = present_rules(store)[0]
    names = {args.tenant} if args.tenant else set(tenants(store))
    wanted = rules_of(store, names | tenants_of(present), policy)
    if args.apply:
        present = apply_rules(store, wanted)
    known = {str(rule["ID"]) for rule in present}
    for rule in wanted:
        mark = "set    " if rule["ID"] in known else "missing"
        print(f"{mark} {rule['Filter']['Prefix'] or '(bucket)'}: {_said(rule)}")


def _said(rule: dict[str, Any]) -> str:
    if "Transitions" in rule:
        move = rule["Transitions"][0]
        return f"to {move['StorageClass']} after {move['Days']} days"
    return (
        f"abort uploads after {rule['AbortIncompleteMultipartUpload']['DaysAfterInitiation']} days"
    )


if __name__ == "__main__":
    sys.exit(main())
