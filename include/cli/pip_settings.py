"""Carries pip's settings over to uv, which reads none of them. Standard library, Python 3.8."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SECTION_ORDER = ("global", "install", ":env:")


def pip_settings(python: Path) -> dict[str, str]:
    """What ``pip config list`` says, by option name; later sections win, the environment last."""
    listing = subprocess.run(
        [str(python), "-m", "pip", "config", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    ).stdout
    return parse_listing(listing)


def parse_listing(listing: str) -> dict[str, str]:
    """Read the lines ``section.option='value'`` of ``pip config list``."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTION_ORDER}
    for line in listing.splitlines():
        name, separator, value = line.partition("=")
        section, dot, option = name.rpartition(".")
        if not separator or not dot or section not in found:
            continue
        try:
            found[section][option] = str(ast.literal_eval(value))
        except (SyntaxError, ValueError):
            continue
    merged: dict[str, str] = {}
    for section in _SECTION_ORDER:
        merged.update(found[section])
    return merged


def uv_environment(settings: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that make uv look where pip would.

    Args:
        settings: from ``pip_settings``.
        env: the current environment; what it says to uv already stays.
    """
    wanted = {
        "UV_FIND_LINKS": ",".join(settings.get("find-links", "").split()),
        "UV_INDEX_URL": settings.get("index-url", ""),
        "UV_EXTRA_INDEX_URL": " ".join(settings.get("extra-index-url", "").split()),
        "UV_INSECURE_HOST": " ".join(settings.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": settings.get("timeout") or settings.get("default-timeout", ""),
        "UV_NO_INDEX": "1" if settings.get("no-index", "") in ("1", "true", "yes", "on") else "",
        "SSL_CERT_FILE": settings.get("cert", ""),
        "HTTPS_PROXY": settings.get("proxy", ""),
        "HTTP_PROXY": settings.get("proxy", ""),
    }
    if wanted["UV_EXTRA_INDEX_URL"]:
        # pip takes the best version of all indexes, uv by default the first index with any.
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "UV_INDEX" in env or "UV_DEFAULT_INDEX" in env:
        wanted["UV_INDEX_URL"] = wanted["UV_EXTRA_INDEX_URL"] = ""
    return {name: value for name, value in wanted.items() if value and name not in env}


def has_cpu_torch(find_links: str, version: str) -> bool:
    """Whether a local find-links folder holds a CPU build of this torch version."""
    for place in find_links.replace(",", " ").split():
        folder = Path(unquote(urlsplit(place).path) if place.startswith("file:") else place)
        if folder.is_dir() and any(folder.glob("torch-" + version + "+cpu-cp311-*.whl")):
            return True
    return False


def current_uv_environment(python: Path) -> dict[str, str]:
    """The whole environment for a uv process."""
    env = dict(os.environ)
    env.pop("VIRTUAL_ENV", None)
    env.pop("PYTHONPATH", None)
    env.update(uv_environment(pip_settings(python), env))
    return env
