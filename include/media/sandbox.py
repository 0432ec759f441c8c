"""Limited child processes: where every stranger's file is opened.

A child gets rlimits, an almost empty environment, the root folder as its own and a wall clock. Its
answer goes to an unlinked temporary file, so RLIMIT_FSIZE bounds what a hijacked child can make us
read. Limits are set by the child itself before it touches the file (``child.py``): unlike
``preexec_fn`` that is safe in a process with threads.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import astuple
from pathlib import Path
from typing import Any, NoReturn

from include.errors import BadMedia, Bug, OutOfMemory, StoreUnavailable, UnsafeMedia
from include.media.limits import ProcessLimits

PROJECT = Path(__file__).resolve().parents[2]
_STDERR_TAIL = 4000
_REPORTED = 3
# ffmpeg catches SIGXCPU, ends its files and exits with this.
_FFMPEG_STOPPED = 255


def run_child(
    verb: str, arguments: list[str], path: Path, limits: ProcessLimits
) -> tuple[dict[str, Any], bytes]:
    """Run one verb of ``include.media.child`` on a file.

    Args:
        verb: ``probe`` or ``decode``.
        arguments: the verb's own arguments.
        path: the file, for messages.
        limits: what the child may use.

    Returns:
        Its JSON answer and the bytes that follow it.

    Raises:
        BadMedia: the child says that the file cannot be used.
        UnsafeMedia: it says that the file is hostile, or it hit a limit or crashed.
        OutOfMemory: the system killed it.
    """
    out, stderr, returncode = _spawn(verb, arguments, path, limits)
    if returncode not in (0, _REPORTED):
        _raise_death(returncode, path, stderr)
    line, _, payload = out.partition(b"\n")
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise UnsafeMedia(
            f"{path}: the process that opened it gave no answer: use another file",
            code="media.crashed",
            where=str(path),
        ) from error
    if returncode == _REPORTED:
        kind = UnsafeMedia if answer.get("unsafe") else BadMedia
        raise kind(f"{path}: {answer['message']}", code=str(answer["code"]), where=str(path))
    return answer, payload


def run_limited_ffmpeg(arguments: list[str], path: Path, limits: ProcessLimits) -> tuple[int, str]:
    """Run an ffmpeg command line under limits.

    Args:
        arguments: the whole command line, the binary first.
        path: the stranger's file, for messages.
        limits: what it may use.

    Returns:
        Its exit code and what it said.

    Raises:
        UnsafeMedia: it hit a limit or crashed.
        StoreUnavailable: the disk is full (code ``disk.full``).
        OutOfMemory: the system killed it.
    """
    _, stderr, returncode = _spawn("exec", arguments, path, limits)
    said = stderr.decode(errors="replace").strip()
    if "No space left on device" in said:
        raise StoreUnavailable(
            f"the disk is full while converting {path}: free some space and run again",
            code="disk.full",
            where=str(path),
        )
    if returncode < 0 or returncode == _FFMPEG_STOPPED or "Cannot allocate memory" in said:
        _raise_death(returncode, path, stderr)
    return returncode, said


def _spawn(
    verb: str, arguments: list[str], path: Path, limits: ProcessLimits
) -> tuple[bytes, bytes, int]:
    command = [sys.executable, "-s", "-B", "-m", "include.media.child"]
    command += [json.dumps(astuple(limits)), verb, *arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(),
                cwd="/",
                timeout=limits.wall_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnsafeMedia(
                f"{path}: opening it took longer than {limits.wall_s:.0f} s: "
                "use a shorter or simpler file",
                code="media.timeout",
                where=str(path),
            ) from error
        out.seek(0)
        err.seek(max(0, err.seek(0, 2) - _STDERR_TAIL))
        return out.read(), err.read(), done.returncode


def _environment() -> dict[str, str]:
    """Nothing of ours that a hijacked child could use: no credentials, no home."""
    return {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(PROJECT),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _raise_death(returncode: int, path: Path, stderr: bytes) -> NoReturn:
    said = stderr.decode(errors="replace").strip()
    where = str(path)
    if returncode == -signal.SIGKILL:
        raise OutOfMemory(f"the process that opened {path} was killed by the system", where=where)
    if (
        returncode in (-signal.SIGXCPU, -signal.SIGXFSZ, _FFMPEG_STOPPED)
        or "MemoryError" in said
        or ("Cannot allocate memory" in said)
    ):
        raise UnsafeMedia(
            f"{path}: decoding it needs more memory, time or space than a file of its kind may "
            "take: use a smaller or simpler file",
            code="media.resources",
            where=where,
        )
    if returncode < 0:
        name = signal.Signals(-returncode).name
        raise UnsafeMedia(
            f"{path}: the decoder crashed on it ({name}): use another file",
            code="media.crashed",
            where=where,
        )
    raise Bug(f"the process that opens {path} failed with {returncode}: {said}", where=where)
