"""What botocore raises, translated into what to do about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from include.errors import StoreRefused, StoreUnavailable, UnderstudyError
from include.store.base import ObjectMissing

_MISSING = {"NoSuchKey", "404", "NotFound"}
CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted"})
"""A condition that did not hold (412), or that could not be decided yet (409)."""

CHECKSUMS = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
)
"""What arrived is not what was sent."""

_CLOCK = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_CREDENTIALS = {
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "Forbidden",
    "403",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
_THROTTLED = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "429",
    "503",
    "ServiceUnavailable",
    "RequestTimeout",
    "BandwidthLimitExceeded",
}
_FULL = {"InsufficientStorage", "507", "QuotaExceeded", "XMinioStorageFull", "InsufficientCapacity"}


def error_code(error: Any) -> str:
    """The S3 error code of a botocore ``ClientError``, 412 under its name."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return "PreconditionFailed" if code == "412" else code


def is_missing(error: Any) -> bool:
    """Whether a ``ClientError`` says that the thing is not there."""
    return error_code(error) in _MISSING | {"NoSuchBucket"}


@contextlib.contextmanager
def s3_errors(
    uri: str, bucket: str, key: str, passing: frozenset[str] = frozenset()
) -> Iterator[None]:
    """Translate botocore's exceptions, except a ``ClientError`` whose code is in ``passing``.

    Raises:
        ObjectMissing: the key is absent.
        StoreRefused: there is no such bucket, the credentials or the clock are wrong.
        StoreUnavailable: everything else, with a code and an advice for its cause.
    """
    from boto3.exceptions import Boto3Error, S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

    try:
        yield
    except ClientError as error:
        code = error_code(error)
        if code in passing:
            raise
        if code in _MISSING:
            raise ObjectMissing(key, uri) from error
        raise unavailable(code, uri, bucket, error) from error
    except S3UploadFailedError as error:  # boto3 hides the cause in the context
        cause = error.__context__
        code = error_code(cause) if isinstance(cause, ClientError) else type(error).__name__
        raise unavailable(code, uri, bucket, error) from error
    except (BotoCoreError, Boto3Error, RetriesExceededError, S3DownloadFailedError) as error:
        raise unavailable(type(error).__name__, uri, bucket, error) from error


def unavailable(code: str, uri: str, bucket: str, error: Exception) -> UnderstudyError:
    """Make the error for an S3 error code or a botocore exception's name."""
    refused = _refused(code, uri, bucket, error)
    if refused:
        return refused
    advice, ours = _passing(code)
    if advice:
        return StoreUnavailable(f"{uri} {advice}", code=ours, where=uri)
    return StoreUnavailable(
        f"{uri} cannot be used: {error}. Check that the endpoint is up and reachable from here.",
        code="store.unreachable",
        where=uri,
    )


def _refused(code: str, uri: str, bucket: str, error: Exception) -> StoreRefused | None:
    """What no retry cures."""
    if code == "NoSuchBucket":
        return StoreRefused(
            f"The bucket {bucket!r} of {uri} does not exist. Create it, or correct the store's "
            "URI or endpoint.",
            code="store.bucket",
            where=uri,
        )
    if code in _CLOCK:
        return StoreRefused(
            f"{uri} says that the clock of this machine is wrong ({code}; {_clocks(error)}). Set "
            "it, for example with NTP; requests are signed with the time.",
            code="store.clock",
            where=uri,
        )
    if code in _CREDENTIALS or "Credential" in code or code in ("ProfileNotFound", "TokenError"):
        return StoreRefused(
            f"{uri} refuses us ({code}). Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the "
            "role), that they may list, read, write and delete in this bucket, and the clock.",
            code="store.credentials",
            where=uri,
        )
    return None


def _passing(code: str) -> tuple[str, str]:
    """Advice and our code for what passes, perhaps with a little help; empty when unknown."""
    if code in _EXPIRED:
        return (
            f"says that our credentials have expired ({code}). Renew AWS_SESSION_TOKEN with its "
            "key, or use a role or a credentials file that renews itself; the next try reads them "
            "again.",
            "store.expired",
        )
    if code in _FULL:
        return (
            f"is full or over its quota ({code}). Free space there or raise the quota; the "
            "run then resumes.",
            "disk.full",
        )
    if code in _THROTTLED:
        return (
            f"asks us to slow down ({code}) and kept asking through all retries. Try again "
            "later, or lower the number of parallel tasks.",
            "store.throttled",
        )
    if code in CHECKSUMS:
        return (
            f"kept receiving other bytes than were sent ({code}). Something between here and "
            "there alters them: check proxies, cables and memory, or use https.",
            "store.checksum",
        )
    if "Timeout" in code:
        return (
            f"did not answer in time ({code}), through all retries. Check the network and the "
            "server's load; UNDERSTUDY_S3_READ_S and UNDERSTUDY_S3_CONNECT_S say how long we wait.",
            "store.timeout",
        )
    return "", ""


def _clocks(error: Exception) -> str:
    """Both clocks, as far as the refusal tells them."""
    response = getattr(error, "response", {})
    theirs = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "unknown")
    return f"there {theirs}, here {datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT"
