"""Shows a campaign's pictures, videos and drift reports in the Airflow UI, to whoever is logged in.

Questions to a person (``operators/review.py``, ``operators/drift.py``) link here. Only blobs of the
configured store are served, and only as picture or video; and drift reports and Great Expectations'
Data Docs (``include/drift/docs.py``), which are pages without script.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from operators.drift import DataDocsLink, DriftReportLink

_TENANT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
BLOB = re.compile(rf"{_TENANT}/blob/[0-9a-f]{{2}}/[0-9a-f]{{64}}")
REPORT = re.compile(rf"{_TENANT}/drift/report/[A-Za-z0-9._-]{{1,160}}\.html")
DOCS = re.compile(rf"({_TENANT}/drift/docs/[A-Za-z0-9._-]{{1,160}})/([^\\\x00-\x1f]+\.(html|css))")
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PAGE_HEADERS = {
    "Cache-Control": "private, max-age=3600",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
}
"""A report shows what strangers named their files: even if something got through, nothing runs."""
DOCS_HEADERS = {**PAGE_HEADERS, "Content-Security-Policy": f"{_POLICY} 'self'"}
"""Data Docs have their style in files; nothing of theirs comes from another host."""
MAX_RANGE = 4 << 20
"""Most bytes of a video in one answer; browsers ask for the rest."""


def media_type(head: bytes) -> str | None:
    """What a file is by its first bytes; None unless it is a picture or a video that we show."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "video/mp4" if head[4:8] == b"ftyp" else None


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a ``Range`` header; None for a whole answer.

    Args:
        header: such as ``bytes=0-`` (RFC 9110, 14.1.2; one range only).
        size: of the file.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not match or match.group(0) == "bytes=-" or not size:
        return None
    if not match[1]:
        first, last = max(0, size - int(match[2])), size - 1
    else:
        first = int(match[1])
        last = int(match[2]) if match[2] else size - 1
    if first >= size or last < first:
        return None
    return first, min(last, size - 1, first + MAX_RANGE - 1)


def stored(key: str) -> bytes | None:
    """An object of the configured store; None where there is none under that key."""
    from include.errors import UnderstudyError
    from include.store import open_store
    from operators.config import task_settings

    try:
        return open_store(task_settings().store).get(key)
    except UnderstudyError:
        return None


def make_app() -> Any:
    """The web application; built on its first request, because every process loads plugins."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import requires_access_dag
    from fastapi import Depends, FastAPI, Header, HTTPException, Response

    app = FastAPI(title="Understudy media", docs_url=None, redoc_url=None, openapi_url=None)
    allowed = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.HITL_DETAIL))

    def serve(key: str, range: str | None = Header(default=None)) -> Response:
        data = stored(key) if BLOB.fullmatch(key) else None
        kind = media_type(data[:12]) if data else None
        if data is None or kind is None:
            raise HTTPException(404, "no such object")
        headers = {"Cache-Control": "private, max-age=3600", "Accept-Ranges": "bytes"}
        wanted = byte_range(range, len(data))
        if wanted is None:
            return Response(data, media_type=kind, headers=headers)
        first, last = wanted
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return Response(data[first : last + 1], 206, headers, kind)

    def drift(key: str) -> Response:
        page = stored(key) if REPORT.fullmatch(key) else None
        if page is None:
            raise HTTPException(404, "no such report")
        return Response(page, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS)

    def docs(key: str) -> Response:
        from include.drift.docs import docs_key

        found = DOCS.fullmatch(key)
        page = stored(docs_key(found[1], found[2])) if found else None
        if found is None or page is None:
            raise HTTPException(404, "no such page")
        kind = f"text/{found[3]}; charset=utf-8"
        return Response(page, media_type=kind, headers=DOCS_HEADERS)

    # Annotations are text here and FastAPI resolves them in the module: give it the objects.
    serve.__annotations__.update({"key": str, "range": str | None, "return": Response})
    app.get("/object", dependencies=[allowed])(serve)
    drift.__annotations__.update({"key": str, "return": Response})
    app.get("/drift", dependencies=[allowed])(drift)
    docs.__annotations__.update({"key": str, "return": Response})
    app.get("/docs/{key:path}", dependencies=[allowed])(docs)
    return app


class LazyApp:
    """An ASGI application that is made when it is first asked."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory
        self._app: Any = None

    async def __call__(
        self,
        scope: Any,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Serve one request."""
        if self._app is None:
            self._app = self._factory()
        await self._app(scope, receive, send)


class UnderstudyMedia(AirflowPlugin):
    """Registers the application at ``/understudy``, and links to it."""

    name = "understudy_media"
    # Airflow's base class declares it without ClassVar.
    fastapi_apps = [  # noqa: RUF012
        {"app": LazyApp(make_app), "url_prefix": "/understudy", "name": "Understudy"}
    ]
    operator_extra_links = [DriftReportLink(), DataDocsLink()]  # noqa: RUF012
