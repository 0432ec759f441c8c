"""The limited child: ``python -m include.media.child LIMITS VERB ...``.

Only the standard library is imported before the limits hold. Verbs::

    probe video|image|audio FORMAT PATH   one JSON line of facts
    decode image|audio FORMAT PATH        a JSON line, then raw samples
    exec PROGRAM ARGUMENT...              becomes that program

Exit code 0 is an answer, 3 a refusal (the line then has ``code``, ``message`` and ``unsafe``).
No sockets: ffmpeg may use the protocol ``file`` only, with the format fixed by our own sniffing.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any

REFUSED = 3


class Refusal(Exception):
    """The file cannot be used; ``unsafe`` says that it is hostile rather than bad."""

    def __init__(self, code: str, message: str, *, unsafe: bool = False) -> None:
        super().__init__(message)
        self.code, self.message, self.unsafe = code, message, unsafe


def apply_limits(memory: int, cpu_s: int, file_bytes: int, open_files: int) -> None:
    """Bound this process; soft CPU limit first, so that its signal tells why it died."""
    # Python ignores this signal; without it a program that fills its quota just sees write errors.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def main(arguments: list[str]) -> int:
    """Set the limits, run the verb, write its answer."""
    memory, cpu_s, file_bytes, open_files, _wall = json.loads(arguments[0])
    apply_limits(memory, cpu_s, file_bytes, open_files)
    verb, rest = arguments[1], arguments[2:]
    if verb == "exec":
        os.execv(rest[0], rest)
    from include.media import child_verbs  # after the limits: it loads the decoders

    try:
        answer, payload = child_verbs.VERBS[verb, rest[0]](rest[1], rest[2])
    except Refusal as refusal:
        return _refuse(refusal)
    except MemoryError:
        raise
    except Exception as error:  # whatever a file makes our code stumble over is the file's doing
        said = f"{type(error).__name__}: {error}"[:300]
        return _refuse(
            Refusal("media.crashed", f"it cannot be read ({said}): export it again", unsafe=True)
        )
    _write(answer, payload)
    return 0


def _refuse(refusal: Refusal) -> int:
    _write({"code": refusal.code, "message": refusal.message, "unsafe": refusal.unsafe}, b"")
    return REFUSED


def _write(answer: dict[str, Any], payload: Any) -> None:
    out = sys.stdout.buffer
    out.write(json.dumps(answer).encode() + b"\n")
    out.write(payload)
    out.flush()


if __name__ == "__main__":
    # The module that the verbs raise from is the imported one, not __main__.
    from include.media.child import main as imported_main

    sys.exit(imported_main(sys.argv[1:]))
