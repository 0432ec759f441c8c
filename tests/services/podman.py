"""Real containers for tests: podman with runc, and a base image made on this machine.

The base stands in for ``python:3.11-slim-bookworm``, which is not pulled: Debian bookworm with the
CPython 3.11 that runs the tests copied to ``/usr/local``. Needs root and Debian's packages, so
only where the system may be changed (``UNDERSTUDY_SYSTEM_TESTS=1``). What fails is an error, never
a skip.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from include.cli.environments import TOOLS, pinned
from include.cli.pip_settings import has_cpu_torch, pip_settings, uv_environment

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "iptables", "catatonit", "mmdebstrap")
BASE = "localhost/understudy-test-base:4"
"""What the Dockerfiles' argument BASE is in tests."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_LIBRARIES = (
    "ca-certificates", "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libncursesw6",
    "libreadline8", "libsqlite3-0", "libssl3", "libstdc++6", "libuuid1", "passwd", "zlib1g",
)  # fmt: skip
_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_LEFT_OUT = shutil.ignore_patterns(
    "site-packages", "test", "tests", "__pycache__", "idlelib", "tkinter", "turtledemo", "config-*"
)


@lru_cache
def install() -> None:
    """Install podman from Debian's archive unless it is there.

    Raises:
        RuntimeError: apt-get failed; its last lines are in the message.
    """
    if all(shutil.which(name) for name in ("podman", "runc", "catatonit", "mmdebstrap")):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    for prepare in ([], ["apt-get", "update"]):
        if prepare:
            subprocess.run(prepare, env=environment, check=False, capture_output=True)
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
    raise RuntimeError(f"{' '.join(command)} failed; is this root?\n{done.stderr[-2000:]}")


@lru_cache
def environment() -> dict[str, str]:
    """The environment podman runs in: ulimits and a runtime that a plain machine can do."""
    conf = Path(tempfile.mkdtemp(prefix="understudy-podman-")) / "containers.conf"
    conf.write_text(_CONF)
    return {**os.environ, "CONTAINERS_CONF": str(conf)}


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run podman.

    Raises:
        RuntimeError: it failed, and ``check`` was asked for.
    """
    done = subprocess.run(
        ["podman", *arguments], env=environment(), check=False, capture_output=True, text=True
    )
    if check and done.returncode:
        said = (done.stderr or done.stdout)[-3000:]
        raise RuntimeError(f"podman {' '.join(arguments)} ended with {done.returncode}:\n{said}")
    return done


def base_image() -> str:
    """Make the base image unless this machine has it; returns its name."""
    install()
    if podman("image", "exists", BASE, check=False).returncode == 0:
        return BASE
    with tempfile.TemporaryDirectory(prefix="understudy-base-") as folder:
        root = Path(folder) / "root"
        _run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_LIBRARIES)}",
             "bookworm", str(root))  # fmt: skip
        _copy_python(root / "usr" / "local")
        _run("chroot", str(root), "ldconfig")
        archive = Path(folder) / "base.tar"
        _run("tar", "-C", str(root), "-cf", str(archive), ".")
        podman("import", "--change", f"ENV PATH={PATH}", str(archive), BASE)
    return BASE


def build(tag: str, dockerfile: str, *options: str, context: str = ".") -> str:
    """Build an image of this project; returns the tag.

    Args:
        tag: what to call it.
        dockerfile: its path in the project.
        *options: further options of ``podman build``.
        context: the folder, in the project, that it copies from.
    """
    podman(
        "build", "--quiet", "--isolation", "oci", "--network", "host", "--format", "docker",
        "--build-arg", f"BASE={base_image()}", "-f", str(PROJECT / dockerfile), "-t", tag,
        *options, str(PROJECT / context),
    )  # fmt: skip
    return tag


@lru_cache
def mirror_options() -> tuple[str, ...]:
    """Let a build find packages where this machine's pip does; nothing of it stays in the image."""
    settings = pip_settings(TOOLS.python)
    wanted = uv_environment(settings, {})
    folder = Path(tempfile.mkdtemp(prefix="understudy-mirrors-"))
    lines = ["[global]", *(f"{n} = {v.strip()}".replace("\n", "\n  ") for n, v in settings.items())]
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
    toml = {
        "find-links": [p for p in wanted.get("UV_FIND_LINKS", "").split(",") if p],
        "extra-index-url": wanted.get("UV_EXTRA_INDEX_URL", "").split(),
        "index-url": wanted.get("UV_INDEX_URL"),
        "index-strategy": wanted.get("UV_INDEX_STRATEGY"),
        "system-certs": True,
    }
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in toml.items() if value)
    (folder / "uv.toml").write_text(text)
    local = {"/etc/ssl/certs/ca-certificates.crt"}
    for word in " ".join(settings.values()).split():
        path = unquote(urlsplit(word).path) if word.startswith("file:") else word
        if path.startswith("/") and Path(path).exists():
            local.add(path.removesuffix("/simple"))
    mounts = [f"{path}:{path}:ro" for path in sorted(local)]
    mounts += [f"{folder}/pip.conf:/etc/pip.conf:ro", f"{folder}/uv.toml:/etc/uv/uv.toml:ro"]
    options = [word for mount in mounts for word in ("--volume", mount)]
    torch = pinned("docker/worker/requirements.txt", "torch")
    if has_cpu_torch(wanted.get("UV_FIND_LINKS", ""), torch):
        options += ["--build-arg", "TORCH_BACKEND="]
    return tuple(options)


def _copy_python(prefix: Path) -> None:
    source = Path(sys.base_prefix)
    library = Path("lib") / "python3.11"
    shutil.copytree(source / library, prefix / library, ignore=_LEFT_OUT, dirs_exist_ok=True)
    (prefix / library / "site-packages").mkdir(exist_ok=True)
    for path in source.glob("lib/libpython3*"):
        shutil.copy2(path, prefix / "lib", follow_symlinks=False)
    (prefix / "bin").mkdir(exist_ok=True)
    shutil.copy2(source / "bin" / "python3.11", prefix / "bin" / "python3.11")
    for name in ("python3", "python"):
        (prefix / "bin" / name).unlink(missing_ok=True)
        (prefix / "bin" / name).symlink_to("python3.11")


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
