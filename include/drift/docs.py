"""Great Expectations' own report (Data Docs) as pages that fetch nothing.

As they are built, its pages load scripts and styles from five hosts and a logo with the time in its
address from a sixth: whoever opens one tells them. Here what is remote is taken out, scripts as
well; results are plain tables and stay. A note on every page says so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from include.store import ObjectStore

_SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.IGNORECASE | re.DOTALL)
_LINK = re.compile(r"<link\b[^>]*>", re.IGNORECASE | re.DOTALL)
_LOCAL = re.compile(r"href\s*=\s*[\"']\.{0,2}/?static/", re.IGNORECASE)
_REMOTE = re.compile(r"<(?:img|iframe|source)\b[^>]*\bsrc\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.I)
_BODY = re.compile(r"<body[^>]*>", re.IGNORECASE)
_NOTE = (
    '<p class="understudy">Great Expectations\u2019 Data Docs, without what they would load from '
    "other hosts: this page fetches nothing and runs no script.</p>"
)
_STYLE = """<style>
body { font:14px/1.5 system-ui,sans-serif; margin:0 auto; max-width:1100px; padding:16px 24px }
p.understudy { border:1px solid #ccd; border-radius:8px; padding:8px 14px; color:#556 }
table { border-collapse:collapse; width:100% } td,th { border-top:1px solid #ddd; padding:5px 8px;
  text-align:left; vertical-align:top } .cooltip .top, .ge-navigation-sidebar { display:none }
.fa-check-circle::before { content:"\u2713"; color:#1f7a4d }
.fa-times::before { content:"\u2717"; color:#b3261e } .modal, .btn { display:none }
</style>"""


def offline(page: str, pages: Iterable[str] = ()) -> str:
    """A page of Data Docs without anything from elsewhere.

    Args:
        page: HTML as Great Expectations wrote it.
        pages: addresses of other pages to list, relative to this one: its own list is a script.
    """
    if _NOTE in page:
        return page
    page = _SCRIPT.sub("", page)
    page = _LINK.sub(lambda found: found[0] if _LOCAL.search(found[0]) else "", page)
    page = _REMOTE.sub("", page)
    listed = "".join(f'<li><a href="{escape(at)}">{escape(at)}</a></li>' for at in pages)
    more = _STYLE + _NOTE + (f"<ul>{listed}</ul>" if listed else "")
    return _BODY.sub(lambda found: found[0] + more, page, count=1)


def make_offline(docs: Path) -> None:
    """Change the pages of a folder that Great Expectations built so that they fetch nothing."""
    pages = sorted(docs.rglob("*.html"))
    others = [page.relative_to(docs).as_posix() for page in pages if page.parent != docs]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        page.write_text(offline(text, others if page.parent == docs else ()), encoding="utf-8")


def store_docs(store: ObjectStore, docs: Path, prefix: str) -> str | None:
    """Put Data Docs into the store, fetching nothing, without fonts and logos.

    Returns:
        Object key of the first page; None where nothing was built.
    """
    make_offline(docs)
    first = None
    for path in sorted(docs.rglob("*")):
        if path.suffix in (".html", ".css"):
            key = docs_key(prefix, path.relative_to(docs).as_posix())
            store.put(key, path.read_bytes())
            first = key if path.name == "index.html" and path.parent == docs else first
    return first


def docs_key(prefix: str, path: str) -> str:
    """Where a page lies, by its path below the first one: names too long for a key are digests."""
    key = f"{prefix}/{path}"
    if any(len(part.encode()) > 255 for part in key.split("/")) or len(key.encode()) > 1024:
        suffix = Path(path).suffix
        return f"{prefix}/{hashlib.sha256(key.encode()).hexdigest()}{suffix}"
    return key
