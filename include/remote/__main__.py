"""``python -m include.remote NAME --request URI``: one stage, made by model APIs.

The same request, events and exit codes as ``python -m include.stages``; the work is done by the
endpoints that ``UNDERSTUDY_REMOTE`` declares. SIGTERM cancels the jobs that are under way. Killed
outright, the process leaves its jobs running, and the next attempt finds them by their keys.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback

from include.contracts.stage import StageRequest
from include.errors import Bug, Preempted, UnderstudyError, Usage
from include.remote.call import Caller
from include.remote.config import WEBHOOK_SECRET_ENV, load_remotes
from include.remote.webhook import listening
from include.settings import Settings
from include.stages.context import Events
from include.stages.runner import Elsewhere, load_request, run_stage
from include.stages.specs import STAGES


def main(argv: list[str] | None = None) -> int:
    """Run one stage; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m include.remote", description=__doc__)
    parser.add_argument("stage", choices=[name for name, spec in STAGES.items() if spec.remote])
    parser.add_argument("--request", required=True, metavar="URI", help="file or store-uri#key")
    args = parser.parse_args(argv)
    events = Events(args.stage)
    try:
        request = load_request(args.request, args.stage)
        call(request, events)
    except UnderstudyError as error:
        events.emit("error", message=error.message, data={"code": error.code})
        return error.exit_code
    except Exception:
        events.emit("error", message=traceback.format_exc(), data={"code": "bug"})
        return Bug.exit_code
    return 0


def call(request: StageRequest, events: Events) -> None:
    """Have a request's artifacts made; errors as for ``run_stage``."""
    caller = Caller(load_remotes())
    at_once = max((endpoint.parallel for endpoint in caller.remotes.endpoints), default=1)

    def end(*_: object) -> None:
        # From a thread: the handler may have interrupted whoever holds the bell.
        threading.Thread(target=caller.end).start()

    signal.signal(signal.SIGTERM, end)
    with contextlib.ExitStack() as stack:
        host, secret = Settings.from_env().remote_callback, os.environ.get(WEBHOOK_SECRET_ENV, "")
        if host and not secret:
            raise Usage(f"UNDERSTUDY_REMOTE_CALLBACK needs a secret in {WEBHOOK_SECRET_ENV}")
        if host:
            caller.callback = stack.enter_context(listening(caller.bell, secret, host))
        run_stage(request, events, Elsewhere(caller.whole, caller.chunk, at_once))
    if caller.stop.is_set():
        raise Preempted("the task was ended; its jobs were cancelled")


if __name__ == "__main__":
    sys.exit(main())
