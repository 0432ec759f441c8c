"""An S3 bucket (AWS, Ceph RGW, MinIO, ...) as an object store, through boto3."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from include.errors import StoreUnavailable, Usage
from include.store import s3_transfer
from include.store.base import (
    ObjectInfo,
    ObjectMissing,
    ObjectStore,
    check_key,
    check_prefix,
)
from include.store.disk_errors import write_errors
from include.store.s3_client import forget_clients, pause, s3_client
from include.store.s3_errors import CONFLICTS, error_code, is_missing, s3_errors, unavailable

if TYPE_CHECKING:
    from boto3.s3.transfer import TransferConfig

PAGE_SIZE = 1000
"""Objects per listing request; S3 gives no more."""

_CONFLICT_TRIES = 5
_PRESIGN_MAX_S = 7 * 24 * 3600


class S3Store(ObjectStore):
    """Objects below a prefix of a bucket: ``s3://bucket/prefix?endpoint=http://host:port``.

    Credentials, region and (without ``?endpoint=``) the endpoint come from where boto3 looks for
    them: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``,
    ``AWS_ENDPOINT_URL[_S3]``, profiles, instance roles. The server must honour
    ``If-None-Match: *`` on a plain PUT, as AWS, Ceph RGW and MinIO do (OpenStack Swift does not do
    it atomically). Large objects go up in parts without a condition, because some servers ignore
    it there: only small objects, manifests above all, are ever created conditionally.

    Nothing is contacted before the first operation. A forked process makes its own client.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        if parts.scheme != "s3" or not parts.netloc or set(query) - {"endpoint"}:
            raise Usage(
                f"{uri!r} is not s3://bucket/prefix, optionally with ?endpoint=URL.",
                code="store.uri",
            )
        if "@" in parts.netloc:
            raise Usage(
                "Credentials do not belong in a store's URI; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY instead.",
                code="store.uri",
            )
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/")
        self.endpoint: str | None = query["endpoint"][0] if query else None
        if self.prefix:
            check_key(self.prefix)
        self._bucket_seen = False

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``, with the endpoint if it was given in the URI."""
        path = f"/{self.prefix}" if self.prefix else ""
        query = f"?endpoint={self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}{path}{query}"

    def get(self, key: str) -> bytes:
        """Read a whole object, compared with the digest that it carries."""
        with self._errors(key):
            return s3_transfer.get_bytes(self.client, self._at(key))

    def chunks(self, key: str) -> Iterator[bytes]:
        """Read an object piece by piece; a broken connection is resumed."""
        with self._errors(key):
            yield from s3_transfer.Download(self.client, self._at(key)).chunks()

    def get_file(self, key: str, dst: Path) -> None:
        """Download an object to ``dst``, large ones in parallel ranges."""
        temp = dst.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with write_errors(dst.parent, dst.name):
                with self._errors(key):
                    s3_transfer.get_file(self.client, self._at(key), temp)
                os.replace(temp, dst)
        finally:
            temp.unlink(missing_ok=True)

    def put(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        with self._errors(key):
            s3_transfer.put_bytes(self.client, self._at(key), data)

    def put_file(self, key: str, src: Path) -> None:
        """Upload a file, a large one in parts; an interrupted upload leaves no object."""
        with self._errors(key):
            s3_transfer.put_file(self.client, self._at(key), src)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create an object by one conditional PUT.

        When the answer to it is lost, the request is sent again and refused by what it wrote
        itself; the object's metadata then say that it is ours.
        """
        write, at = uuid.uuid4().hex, self._at(key)
        for attempt in range(_CONFLICT_TRIES):
            try:
                with self._errors(key, CONFLICTS):
                    s3_transfer.put_bytes(self.client, at, data, if_none_match=True, write=write)
                return True
            except _client_error() as error:
                if error_code(error) == "PreconditionFailed":
                    with self._errors(key):
                        return s3_transfer.was_sent_again(error) and s3_transfer.was_ours(
                            self.client, at, write
                        )
                # 409: another write or delete of this key was under way and nothing was decided
                pause(attempt + 1, first_s=0.1)
        raise StoreUnavailable(
            f"{self.uri} kept reporting conflicting writes of {key!r}; try again later.",
            code="store.conflict",
            where=key,
        )

    def head(self, key: str) -> ObjectInfo | None:
        """Look up an object."""
        try:
            with self._errors(key):
                reply = self._head(self._at(key))
        except ObjectMissing:
            return None
        return ObjectInfo(
            key, reply["ContentLength"], reply["ETag"].strip('"'), reply["LastModified"]
        )

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Iterate over objects in key order, a thousand a request."""
        base = f"{self.prefix}/" if self.prefix else ""
        with self._errors(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket,
                Prefix=base + check_prefix(prefix),
                PaginationConfig={"PageSize": PAGE_SIZE},
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield ObjectInfo(
                        item["Key"][len(base) :],
                        item["Size"],
                        item["ETag"].strip('"'),
                        item["LastModified"].replace(microsecond=0),  # as HEAD says it
                    )

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self._errors(key), contextlib.suppress(ObjectMissing):
            self.client.delete_object(**self._at(key))

    def copy(self, src_key: str, dst_key: str) -> None:
        """Copy inside the server, a large object in parts."""
        source = self._at(src_key)
        with self._errors(src_key):
            if source == self._at(dst_key):
                self.client.head_object(**source)
                return
            self.client.copy(CopySource=source, Config=_transfer(), **self._at(dst_key))

    def presign(self, key: str, expires_s: int) -> str:
        """Make a signed GET URL; S3 allows at most seven days."""
        if not 0 < expires_s <= _PRESIGN_MAX_S:
            raise Usage(f"A signed URL lives 1 to {_PRESIGN_MAX_S} s, not {expires_s}.")
        with self._errors(key):
            url: str = self.client.generate_presigned_url(
                "get_object", Params=self._at(key), ExpiresIn=expires_s
            )
        return url

    def sweep(self, older_than_s: float) -> int:
        """Abort multipart uploads that were begun that long ago and never completed."""
        limit = datetime.now(UTC) - timedelta(seconds=older_than_s)
        base = f"{self.prefix}/" if self.prefix else ""
        removed = 0
        with self._errors(base):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.bucket, Prefix=base
            )
            stale = [
                upload
                for page in pages
                for upload in page.get("Uploads", ())
                if upload["Initiated"] <= limit
            ]
            for upload in stale:
                self.client.abort_multipart_upload(
                    Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
                removed += 1
        return removed

    @property
    def client(self) -> Any:
        """The boto3 client, made on first use and shared by the stores of this process."""
        with s3_errors(self.uri, self.bucket, ""):
            return s3_client(self.endpoint)

    def _head(self, at: dict[str, str]) -> Any:
        """Ask for an object's head; a refusal, which has no body there, is asked for its reason."""
        try:
            return self.client.head_object(**at)
        except _client_error() as error:
            if error_code(error) not in ("400", "403", "Forbidden"):
                raise
            self.client.get_object(**at)["Body"].close()
            raise

    def _at(self, key: str) -> dict[str, str]:
        full = f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)
        return {"Bucket": self.bucket, "Key": check_key(full)}

    @contextlib.contextmanager
    def _errors(self, key: str, passing: frozenset[str] = frozenset()) -> Iterator[None]:
        try:
            with s3_errors(self.uri, self.bucket, key, passing):
                yield
        except ObjectMissing:
            self._require_bucket()
            raise
        except StoreUnavailable as error:
            if error.code == "store.expired":
                forget_clients()
            raise

    def _require_bucket(self) -> None:
        """Tell a missing bucket from a missing key, which the reply to a HEAD does not."""
        if self._bucket_seen:
            return
        try:
            self.client.head_bucket(Bucket=self.bucket)
        except _client_error() as error:
            if is_missing(error):
                raise unavailable("NoSuchBucket", self.uri, self.bucket, error) from error
            # a policy may allow objects and forbid the bucket: not our concern
        self._bucket_seen = True


def _transfer() -> TransferConfig:
    """For copies inside the server; nothing passes through here."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=s3_transfer.MULTIPART_BYTES,
        multipart_chunksize=s3_transfer.MULTIPART_BYTES,
        max_concurrency=s3_transfer.PART_CONCURRENCY,
    )


def _client_error() -> type[Exception]:
    from botocore.exceptions import ClientError

    return ClientError
