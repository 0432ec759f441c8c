"""What botocore raises, translated into what to do about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from include.errors import StoreUnavailable
from include.store.base import ObjectMissing

_MISSING = {"NoSuchKey", "404", "NotFound"}
CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted"})
"""A condition that did not hold (412), or that could not be decided yet (409)."""

_CREDENTIALS = {
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "Forbidden",
    "403",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
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


def unavailable(code: str, uri: str, bucket: str, error: Exception) -> StoreUnavailable:
    """Make the error for an S3 error code or a botocore exception's name."""
    if code == "NoSuchBucket":
        return StoreUnavailable(
            f"The bucket {bucket!r} of {uri} does not exist. Create it, or correct the store's "
            "URI or endpoint.",
            code="store.bucket",
            where=uri,
        )
    if code in _CREDENTIALS or "Credential" in code or code in ("ProfileNotFound", "TokenError"):
        return StoreUnavailable(
            f"{uri} refuses us ({code}). Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the "
            "role), that they may list, read, write and delete in this bucket, and the clock.",
            code="store.credentials",
            where=uri,
        )
    if code in _FULL:
        return StoreUnavailable(
            f"{uri} is full or over its quota ({code}). Free space there or raise the quota; the "
            "run then resumes.",
            code="disk.full",
            where=uri,
        )
    if code in _THROTTLED:
        return StoreUnavailable(
            f"{uri} asks us to slow down ({code}) and kept asking through all retries. Try again "
            "later, or lower the number of parallel tasks.",
            code="store.throttled",
            where=uri,
        )
    return StoreUnavailable(
        f"{uri} cannot be used: {error}. Check that the endpoint is up and reachable from here.",
        code="store.unreachable",
        where=uri,
    )
