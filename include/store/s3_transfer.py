"""Bytes to and from S3: checked on the way, resumed where they broke off.

Up: every request carries Content-MD5, which servers check; the ETag in the answer, where it is
the MD5 of what was stored (plain and SSE-S3 objects), is compared with ours as well, and where it
is not (SSE-KMS) a large object is read back. So a wrong byte is noticed before anything can name
the object. Small objects carry their SHA-256 as metadata.

Down: a connection that breaks is resumed with a range and the first answer's ETag, so the pieces
are of one object; small objects are compared with the SHA-256 that they carry.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from include.errors import CorruptArtifact, StoreUnavailable
from include.store.base import CHUNK_BYTES
from include.store.s3_client import attempts, pause
from include.store.s3_errors import CHECKSUMS, error_code

MULTIPART_BYTES = 16 << 20
"""From this size on, objects travel in parts of this size."""

PART_CONCURRENCY = 2
"""Parts in flight at a time; memory is about this many parts."""

SHA256 = "sha256"
"""Metadata: the SHA-256 of the content."""
WRITE = "write"
"""Metadata: random, tells a conditional write of ours from a rival's."""

_MOST_PARTS = 10_000
_MD5 = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")

At = Mapping[str, str]
"""Bucket and Key."""


def put_bytes(
    client: Any, at: At, data: bytes, *, if_none_match: bool = False, write: str = ""
) -> None:
    """Write a small object by one PUT, again when it arrived wrong.

    Args:
        client: the boto3 client.
        at: where to.
        data: the content.
        if_none_match: only if the key is free; a refusal is raised as a ``ClientError``.
        write: kept as metadata when given.

    Raises:
        StoreUnavailable: it kept arriving wrong (``store.checksum``).
    """
    md5 = _md5(data)
    extra: dict[str, Any] = {"Metadata": {SHA256: hashlib.sha256(data).hexdigest()}}
    if write:
        extra["Metadata"][WRITE] = write
    if if_none_match:
        extra["IfNoneMatch"] = "*"

    for tries in range(1, attempts() + 1):
        reply = _accepted(
            lambda: client.put_object(Body=data, ContentMD5=_base64(md5), **extra, **at)
        )
        if _is_right(reply, md5.hex()) or _stands(client, at, data):
            return
        extra.pop("IfNoneMatch", None)  # what stands there is ours, and wrong
        if tries < attempts():
            pause(tries)
    client.delete_object(**at)  # a server that stores what it was not sent
    raise _wrong(at)


def _stands(client: Any, at: At, data: bytes) -> bool:
    """Whether an object is what was sent, although its ETag is not what MD5 makes of it."""
    return b"".join(Download(client, at).chunks()) == data


def put_file(client: Any, at: At, src: Path) -> None:
    """Write an object from a file; a large one in parts, an interrupted one not at all.

    Raises:
        StoreUnavailable: it kept arriving wrong (``store.checksum``).
    """
    with open(src, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < MULTIPART_BYTES:
            put_bytes(client, at, file.read())
            return
        for tries in range(1, attempts() + 1):
            if _put_parts(client, at, file, size):
                return
            if tries < attempts():
                pause(tries)
    raise _wrong(at)


def _put_parts(client: Any, at: At, file: BinaryIO, size: int) -> bool:
    """Upload a file in parts; whether it arrived as it is here. A wrong one is removed."""
    part = max(MULTIPART_BYTES, math.ceil(size / _MOST_PARTS))
    upload = client.create_multipart_upload(**at)["UploadId"]
    try:
        sent = _send_parts(client, {**at, "UploadId": upload}, file, size, part)
        reply = _complete(client, at, upload, sent)
    except BaseException:
        with contextlib.suppress(Exception):  # what interrupted it counts; a sweep aborts it
            client.abort_multipart_upload(**at, UploadId=upload)
        raise
    digests = b"".join(digest for _, digest in sent)
    whole = hashlib.md5(digests, usedforsecurity=False).hexdigest()
    if _has_md5(reply) and _is_right(reply, f"{whole}-{len(sent)}"):
        return True
    if _same(client, at, file):
        return True
    client.delete_object(**at)
    return False


def _send_parts(
    client: Any, to: At, file: BinaryIO, size: int, part: int
) -> list[tuple[str, bytes]]:
    """Upload the parts, some at a time; their ETags and MD5s in order."""

    def send(number: int) -> tuple[str, bytes]:
        data = os.pread(file.fileno(), part, number * part)
        digest = _md5(data)

        def request() -> Any:
            return client.upload_part(
                PartNumber=number + 1, Body=data, ContentMD5=_base64(digest), **to
            )

        return _accepted(request)["ETag"], digest

    with ThreadPoolExecutor(PART_CONCURRENCY) as pool:
        try:
            return list(pool.map(send, range(math.ceil(size / part))))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _complete(client: Any, at: At, upload: str, sent: list[tuple[str, bytes]]) -> Any:
    from botocore.exceptions import ClientError

    parts = [{"PartNumber": n, "ETag": etag} for n, (etag, _) in enumerate(sent, 1)]
    try:
        return client.complete_multipart_upload(
            **at, UploadId=upload, MultipartUpload={"Parts": parts}
        )
    except ClientError as error:
        # The answer of the first try was lost: then the object is there and the upload is not.
        if error_code(error) != "NoSuchUpload" or not was_sent_again(error):
            raise
        return client.head_object(**at)


def _same(client: Any, at: At, file: BinaryIO) -> bool:
    """Compare a stored object with the file it came from, through SHA-256."""
    stored = hashlib.sha256()
    for chunk in Download(client, at).chunks():
        stored.update(chunk)
    sent = hashlib.sha256()
    file.seek(0)
    while data := file.read(CHUNK_BYTES):
        sent.update(data)
    return sent.digest() == stored.digest()


def _accepted(send: Callable[[], Any]) -> Any:
    """Send until the server finds that it arrived as it was sent, within the budget of tries."""
    from botocore.exceptions import ClientError

    for tries in range(1, attempts()):
        try:
            return send()
        except ClientError as error:
            if error_code(error) not in CHECKSUMS:
                raise
        pause(tries)
    return send()


def _wrong(at: At) -> StoreUnavailable:
    return StoreUnavailable(
        f"The bytes of {at['Key']} kept arriving changed at the object store. Something between "
        "here and there alters them: check proxies, cables and memory, or use https.",
        code="store.checksum",
    )


def was_ours(client: Any, at: At, write: str) -> bool:
    """Whether what stands at a key was written by the conditional write of this name."""
    found = client.head_object(**at).get("Metadata", {})
    return bool(found.get(WRITE) == write)


def was_sent_again(error: Any) -> bool:
    """Whether a ``ClientError`` answers a repeated request: an earlier one may have been done."""
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


class Download:
    """One object, or a range of it, read piece by piece; a broken connection is resumed."""

    def __init__(self, client: Any, at: At, start: int = 0, stop: int | None = None) -> None:
        """Nothing is asked yet.

        Args:
            client: the boto3 client.
            at: the object.
            start: first byte.
            stop: exclusive; None for the end.
        """
        self.etag: str | None = None
        self.sha256: str | None = None
        """What the object says of itself, after the first piece."""
        self._client, self._at = client, at
        self._next, self._stop = start, stop

    def chunks(self) -> Iterator[bytes]:
        """Read it.

        Raises:
            StoreUnavailable: it was replaced meanwhile (``store.changed``). What botocore raises
                comes out as it is, after as many tries without a new byte as are allowed.
        """
        failures = 0
        while self._stop is None or self._next < self._stop or not self.etag:
            body, before = self._ask()["Body"], self._next
            try:
                with contextlib.closing(body):
                    for chunk in body.iter_chunks(CHUNK_BYTES):
                        self._next += len(chunk)
                        yield chunk
                return
            except _broken():
                failures = failures + 1 if self._next == before else 1
                if failures >= attempts():
                    raise
            pause(failures)

    def _ask(self) -> Any:
        from botocore.exceptions import ClientError

        extra: dict[str, str] = {}
        if self._next or self._stop is not None:
            last = "" if self._stop is None else str(self._stop - 1)
            extra["Range"] = f"bytes={self._next}-{last}"
        if self.etag:
            extra["IfMatch"] = self.etag
        try:
            reply = self._client.get_object(**extra, **self._at)
        except ClientError as error:
            if error_code(error) != "PreconditionFailed":
                raise
            raise StoreUnavailable(
                f"{self._at['Key']} was replaced while it was read; try again.",
                code="store.changed",
            ) from error
        self.etag = self.etag or reply.get("ETag")
        self.sha256 = reply.get("Metadata", {}).get(SHA256)
        if self._stop is None:
            self._stop = self._next + reply["ContentLength"]
        return reply


def get_bytes(client: Any, at: At) -> bytes:
    """Read a whole object, again when it arrived wrong.

    Raises:
        CorruptArtifact: it does not match the SHA-256 that it carries (``store.corrupt``).
    """
    for tries in range(1, attempts() + 1):
        download = Download(client, at)
        data = b"".join(download.chunks())
        if download.sha256 in (None, hashlib.sha256(data).hexdigest()):
            return data
        if tries < attempts():
            pause(tries)
    raise CorruptArtifact(
        f"The stored bytes of {at['Key']} do not match the digest they carry. Run what makes "
        "them again.",
        where=at["Key"],
    )


def get_file(client: Any, at: At, dst: Path) -> None:
    """Download an object to a new file, a large one in ranges, some at a time."""
    head = client.head_object(**at)
    size = int(head["ContentLength"])
    with open(dst, "xb") as file:
        if size < MULTIPART_BYTES:
            file.write(get_bytes(client, at))
            return
        stopped = threading.Event()

        def fetch(start: int) -> None:
            download = Download(client, at, start, min(start + MULTIPART_BYTES, size))
            download.etag = head["ETag"]
            offset = start
            for chunk in download.chunks():
                if stopped.is_set():
                    return
                offset += os.pwrite(file.fileno(), chunk, offset)

        with ThreadPoolExecutor(PART_CONCURRENCY) as pool:
            try:
                list(pool.map(fetch, range(0, size, MULTIPART_BYTES)))
            except BaseException:
                stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _broken() -> tuple[type[Exception], ...]:
    """What a body raises that ends too early or not at all."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError
    from urllib3.exceptions import ProtocolError

    return HTTPClientError, IncompleteReadError, ProtocolError, ConnectionError


def _is_right(reply: Mapping[str, Any], md5: str) -> bool:
    """False when an answer's ETag is the MD5 of something else."""
    return not _has_md5(reply) or reply["ETag"].strip('"') == md5


def _has_md5(reply: Mapping[str, Any]) -> bool:
    """Whether the ETag says what was stored: not with keys of one's own, nor on S3 Express."""
    encrypted = reply.get("ServerSideEncryption") not in (None, "AES256")
    if encrypted or reply.get("SSECustomerAlgorithm"):
        return False
    return _MD5.fullmatch(reply.get("ETag", "").strip('"')) is not None


def _md5(data: bytes) -> bytes:
    """The one end-to-end check that every S3 server makes; not for security."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def _base64(digest: bytes) -> str:
    return b64encode(digest).decode()
