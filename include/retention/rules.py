"""The S3 lifecycle rules of a policy: what the server can do by itself without breaking anything.

A server knows prefixes, tags and ages. Blobs are named by content and shared by artifacts, and
their age says when they were written, not when they were last needed: a rule that expired
intermediates would take them from a running render. So expiry is ``collect``'s business on every
backend, which knows plans; the server moves published files (nobody but people reads them) to a
cheaper class and aborts uploads that were never finished.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from include.errors import Usage
from include.retention.policy import Retention
from include.store.s3 import S3Store
from include.store.s3_errors import s3_errors

_OURS = "understudy"
_PUBLISHED = ":published:"
_NONE = "NoSuchLifecycleConfiguration"
_MALFORMED = frozenset({"InvalidArgument", "InvalidRequest", "MalformedXML", "InvalidStorageClass"})
MOST_RULES = 1000
"""What S3 takes for a bucket."""


def rules_of(store: S3Store, tenants: Iterable[str], policy: Retention) -> list[dict[str, Any]]:
    """The rules of a policy for one store, as the S3 API words them."""
    base, name = _base(store), _name(store)
    rules: list[dict[str, Any]] = [
        {
            "ID": f"{name}:uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": base},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": policy.upload_days},
        }
    ]
    if policy.tier_days:
        move = {"Days": policy.tier_days, "StorageClass": policy.tier_class}
        rules += [
            {
                "ID": f"{name}{_PUBLISHED}{tenant}",
                "Status": "Enabled",
                "Filter": {"Prefix": f"{base}{tenant}/published/"},
                "Transitions": [move],
            }
            for tenant in sorted(tenants)
        ]
    return rules


def present_rules(store: S3Store) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The bucket's rules: those of this store, and those of others.

    Raises:
        StoreRefused: no such bucket, or we may not ask.
        StoreUnavailable: the server cannot be reached.
    """
    name = _name(store)
    rules = _get(store)
    ours = [rule for rule in rules if str(rule.get("ID", "")).startswith(f"{name}:")]
    return ours, [rule for rule in rules if rule not in ours]


def apply_rules(store: S3Store, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put this store's rules in the place of its former ones; rules of others stay.

    Returns:
        This store's rules as the server gives them back.

    Raises:
        Usage: the bucket has more rules than S3 takes, or the server does not know the storage
            class (``lifecycle.rules``).
        StoreRefused, StoreUnavailable: as ``present_rules``.
    """
    _, others = present_rules(store)
    if len(rules) + len(others) > MOST_RULES:
        raise Usage(
            f"The bucket {store.bucket!r} would have {len(rules) + len(others)} lifecycle rules; "
            f"S3 takes {MOST_RULES}. Give big tenants a bucket of their own.",
            code="lifecycle.rules",
        )
    _put(store, [*others, *rules])
    return present_rules(store)[0]


def tenants_of(rules: list[dict[str, Any]]) -> set[str]:
    """The tenants that this store's rules are about."""
    ids = (str(rule["ID"]) for rule in rules)
    return {name.rpartition(_PUBLISHED)[2] for name in ids if _PUBLISHED in name}


def _base(store: S3Store) -> str:
    return f"{store.prefix}/" if store.prefix else ""


def _name(store: S3Store) -> str:
    """What the ids of this store's rules begin with; several stores may share a bucket."""
    return f"{_OURS}:{_base(store)}"


def _get(store: S3Store) -> list[dict[str, Any]]:
    from botocore.exceptions import ClientError

    try:
        with s3_errors(store.uri, store.bucket, "", frozenset({_NONE})):
            reply = store.client.get_bucket_lifecycle_configuration(Bucket=store.bucket)
    except ClientError:
        return []
    return list(reply.get("Rules", ()))


def _put(store: S3Store, rules: list[dict[str, Any]]) -> None:
    from botocore.exceptions import ClientError

    try:
        with s3_errors(store.uri, store.bucket, "", _MALFORMED):
            store.client.put_bucket_lifecycle_configuration(
                Bucket=store.bucket, LifecycleConfiguration={"Rules": rules}
            )
    except ClientError as error:
        raise Usage(
            f"{store.uri} does not take the lifecycle rules ({error}). Name a storage class that "
            "this server has with --tier-class, or none with --tier-days 0.",
            code="lifecycle.rules",
        ) from error
