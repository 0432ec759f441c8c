"""``python -m include.stages NAME --request URI``: one stage, in this process.

Prints one JSON event a line on stdout. Exit codes are those of ``include/errors.py``; SIGTERM ends
it with 143, scratch files removed and leases given back.
``--self-test`` instead says whether this environment can run stages.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from typing import TextIO

from include.errors import Bug, OutOfMemory, UnderstudyError
from include.stages.context import Events
from include.stages.progress import keep_progress, progress_key
from include.stages.runner import from_the_system, load_request, run_stage
from include.stages.specs import STAGES
from include.store import open_store

SHAPES_KEPT = 32
"""Convolutions, of one shape each, that a thread keeps prepared; a network has under ten."""


def main(argv: list[str] | None = None) -> int:
    """Run one stage; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m include.stages", description=__doc__)
    parser.add_argument("stage", choices=list(STAGES), metavar="NAME", help=", ".join(STAGES))
    parser.add_argument("--request", required=True, metavar="URI", help="file or store-uri#key")
    if (sys.argv[1:] if argv is None else argv) == ["--self-test"]:
        return _self_test()
    args = parser.parse_args(argv)
    events = Events(args.stage, _claim_stdout())
    try:
        request = load_request(args.request, args.stage)
        limit_libraries(request.threads)
        if "#" in args.request:
            key = progress_key(args.request.partition("#")[2])
            events.also = keep_progress(open_store(request.store), key)
        run_stage(request, events)
    except UnderstudyError as error:
        events.emit("error", message=error.message, data={"code": error.code})
        return error.exit_code
    except MemoryError as error:
        message = f"{args.stage} ran out of memory" + (f": {error}" if str(error) else "")
        events.emit("error", message=message, data={"code": "memory"})
        return OutOfMemory.exit_code
    except Exception as error:
        known = from_the_system(error)
        message, code = (known.message, known.code) if known else (traceback.format_exc(), "bug")
        events.emit("error", message=message, data={"code": code})
        return known.exit_code if known else Bug.exit_code
    return 0


def _self_test() -> int:
    from include.stages.selftest import self_test

    faults = self_test()
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return Bug.exit_code if faults else 0


def _claim_stdout() -> TextIO:
    """Keep stdout for events: libraries that print to it reach stderr instead."""
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return events


def limit_libraries(threads: int) -> None:
    """Hold the libraries below us to some threads, and to memory that does not grow.

    Must happen before numpy, OpenCV or torch are imported: they read these variables once.

    Args:
        threads: of this process.
    """
    for name in ("OMP", "OPENBLAS", "MKL", "OPENCV_FOR"):
        suffix = "THREADS_NUM" if name == "OPENCV_FOR" else "NUM_THREADS"
        os.environ[f"{name}_{suffix}"] = str(threads)
    # PyTorch's convolutions keep code and memory for every shape of window that they have met: a
    # megabyte for each GOP of a video. This many hold those that are in use.
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = str(SHAPES_KEPT * threads)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GLOG_minloglevel", "3")


def _end(*_: object) -> None:
    """Leave through every ``with``, as the default action does not; asked again changes nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
