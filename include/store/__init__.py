"""Object store, artifact cache, leases and the index of source digests."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from include.errors import Usage
from include.store.base import ObjectInfo, ObjectMissing, ObjectStore
from include.store.directory import DirectoryStore

__all__ = [
    "DirectoryStore",
    "ObjectInfo",
    "ObjectMissing",
    "ObjectStore",
    "open_object",
    "open_store",
]


def open_store(uri: str) -> ObjectStore:
    """Open the object store at a URI; nothing is contacted or created yet.

    Args:
        uri: a directory (absolute or relative path, or ``file:///path``), or
            ``s3://bucket/prefix``, optionally with ``?endpoint=http://host:port``.

    Raises:
        Usage: the URI has another form.
    """
    scheme, _, rest = uri.partition("://")
    if not rest:
        if not uri or "://" in uri:
            raise _unknown(uri)
        return DirectoryStore(Path(uri))
    if scheme == "file":
        parts = urlsplit(uri)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise _unknown(uri)
        return DirectoryStore(Path(unquote(parts.path)))
    if scheme == "s3":
        from include.store.s3 import S3Store

        return S3Store(uri)
    raise _unknown(uri)


def open_object(uri: str) -> tuple[ObjectStore, str]:
    """Split the URI of one object into its store and key.

    Args:
        uri: ``s3://bucket/some/key`` (``?endpoint=`` allowed), ``file:///dir/name`` or a path.

    Raises:
        Usage: the URI has another form or names no object.
    """
    if uri.startswith("s3://"):
        parts = urlsplit(uri)
        key = parts.path.lstrip("/")
        if not key:
            raise Usage(f"{uri!r} names a bucket, not an object in it.", code="store.uri")
        return open_store(urlunsplit(parts._replace(path=""))), key
    store = open_store(uri)
    path = Path(store.root) if isinstance(store, DirectoryStore) else Path(uri)
    return DirectoryStore(path.parent), path.name


def _unknown(uri: str) -> Usage:
    return Usage(
        f"Cannot open a store at {uri!r}. Give a directory, file:///path or s3://bucket/prefix.",
        code="store.uri",
        where=uri,
    )
