"""The ffmpeg binary as a child process: where it is, how it starts, what its death means."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import imageio_ffmpeg

from include.errors import Bug, OutOfMemory, StoreUnavailable, UnderstudyError

# -nostdin keeps ffmpeg from reading keys off a terminal; frames through pipe:0 are not affected.
GLOBAL_ARGUMENTS = ("-hide_banner", "-nostdin", "-loglevel", "error", "-y")
TAIL_BYTES = 2000


@cache
def ffmpeg_binary() -> str:
    """Path of the ffmpeg that comes with imageio-ffmpeg."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def stderr_tail(stderr: bytes) -> str:
    """Return ffmpeg's last words as text."""
    return stderr[-TAIL_BYTES:].decode(errors="replace").strip()


def failure(what: str, path: Path, returncode: int, stderr: bytes) -> UnderstudyError:
    """Translate the death of an ffmpeg of ours into the error that decides the retry.

    Args:
        what: what was being done, such as ``encoding``.
        path: the file that it was done to.
        returncode: as ``subprocess`` gives it; negative means killed by that signal.
        stderr: all or the end of what it said.
    """
    tail = stderr_tail(stderr)
    if "No space left on device" in tail:
        return StoreUnavailable(
            f"the disk is full while {what} {path}: free some space on it and run again",
            code="disk.full",
            where=str(path),
        )
    if returncode == -9 or "Cannot allocate memory" in tail:
        return OutOfMemory(
            f"ffmpeg ran out of memory or was killed while {what} {path}: {tail or 'no message'}",
            where=str(path),
        )
    return Bug(f"ffmpeg failed with {returncode} while {what} {path}: {tail}", where=str(path))


def run_ffmpeg(arguments: list[str], what: str, path: Path, timeout_s: float = 600.0) -> bytes:
    """Run ffmpeg on files of our own and return what it wrote on stderr.

    Raises:
        StoreUnavailable: the disk is full.
        OutOfMemory: it was killed or could not allocate.
        Bug: it failed otherwise or took longer than ``timeout_s``.
    """
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Bug(f"ffmpeg took longer than {timeout_s:.0f} s while {what} {path}") from error
    if done.returncode:
        raise failure(what, path, done.returncode, done.stderr)
    return done.stderr
