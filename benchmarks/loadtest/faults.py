"""A stand-in for the worker's interpreter that strikes some of the stage processes it starts.

Whether a process is struck, how and when is drawn from the seed and the request's key, which names
task, shard and try: every try has its own luck, and a run can be repeated. A struck process is
started like any other and ended at a random point of the time that its stage usually takes:

- ``kill``: SIGKILL, as the kernel does to a process that takes too much memory;
- ``preempt``: SIGTERM, as a machine that is taken away; the exit is the stage's own;
- ``transient``: ended, with the exit code of a store that did not answer.

A process that is done before its time came is not struck.

With ``replay`` the process is not the stage's: it takes the time that the stage took when it was
measured, times a factor, then puts the manifests of its artifacts, made beforehand, into the store
and writes its result. All around it (operator, process, store, faults) stays as it is.

Standard library only: it starts fast.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KINDS = ("kill", "preempt", "transient")
TRANSIENT = 75
"""Exit code of ``include.errors.Transient``."""


def install(
    folder: Path,
    python: Path,
    project: Path,
    *,
    probability: float,
    kinds: Sequence[str],
    seed: int,
    usual: Mapping[str, float],
    replay: Mapping[str, Any] | None = None,
) -> Path:
    """Write the stand-in and what it needs to know.

    Args:
        folder: where to; also gets ``struck.jsonl``, one line for each process that was struck.
        python: the worker's interpreter.
        project: the project's folder.
        probability: of a process to be struck, 0 to 1.
        kinds: some of ``KINDS``, equally likely.
        seed: of the draws.
        usual: seconds that each stage's process usually takes.
        replay: ``folder`` of the manifests (see ``benchmarks.loadtest.replay``), ``times`` of each
            stage and the ``factor`` they are multiplied with; None starts the real stages.

    Returns:
        The stand-in's path.
    """
    config = folder / "faults.json"
    body = {
        "python": str(python),
        "probability": probability,
        "kinds": list(kinds),
        "seed": seed,
        "usual": dict(usual),
        "log": str(folder / "struck.jsonl"),
        "replay": None if replay is None else dict(replay),
    }
    config.write_text(json.dumps(body), encoding="utf-8")
    return _write_script(folder / "python-with-faults", project, config)


def _write_script(script: Path, project: Path, config: Path) -> Path:
    lines = [
        f"#!{sys.executable} -IS",
        "import sys",
        f"sys.path.insert(0, {str(project)!r})",
        "from benchmarks.loadtest.faults import run",
        f"sys.exit(run({str(config)!r}, sys.argv[1:]))",
    ]
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    script.chmod(0o755)
    return script


def fate(config: Mapping[str, Any], key: str, stage: str) -> tuple[str, float] | None:
    """What happens to a process: kind and seconds until then; None when it is left alone."""
    luck = random.Random(f"{config['seed']}|{key}")
    if luck.random() >= config["probability"]:
        return None
    kind = luck.choice(config["kinds"])
    return str(kind), luck.random() * float(config["usual"].get(stage, 1.0))


def run(config_file: str, arguments: Sequence[str]) -> int:
    """Start the stage process (``-m include.stages NAME --request URI``); strike it or not."""
    config = json.loads(Path(config_file).read_text(encoding="utf-8"))
    command = [config["python"], *arguments]
    stage, key = arguments[2], arguments[-1].partition("#")[2]
    drawn = fate(config, key, stage)
    if config["replay"]:
        return _replay(config, arguments[-1], stage, drawn)
    if drawn is None:
        os.execv(command[0], command)
    kind, seconds = drawn
    child = subprocess.Popen(command)
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM if kind == "preempt" else signal.SIGKILL)
    return _die(config, kind, stage, key, child.wait())


def _replay(
    config: Mapping[str, Any], uri: str, stage: str, drawn: tuple[str, float] | None
) -> int:
    base, _, key = uri.removeprefix("file://").partition("#")
    request = json.loads(Path(base, key).read_text(encoding="utf-8"))
    (unit,) = request["units"]
    replay = config["replay"]
    # The same row takes the same time in every try.
    seconds = random.Random(f"{config['seed']}|{unit}|{stage}").choice(replay["times"][stage])
    seconds *= replay["factor"]
    if drawn is not None:
        kind, share = drawn[0], drawn[1] / float(config["usual"].get(stage, 1.0))
        time.sleep(share * seconds)
        code = -signal.SIGTERM if kind == "preempt" else -signal.SIGKILL
        return _die(config, kind, stage, key, code)
    time.sleep(seconds)
    for manifest in Path(replay["folder"], unit, stage).iterdir():
        _write(Path(base, manifest.name.replace("%", "/")), manifest.read_bytes())
    made = [{"id": unit, "status": "made", "seconds": seconds}]
    result = {"stage": stage, "plan": request["plan"], "run_id": request["run_id"], "units": made}
    _write(Path(base, request["result"]), json.dumps(result).encode())
    return 0


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(body)
    part.replace(path)


def _die(config: Mapping[str, Any], kind: str, stage: str, key: str, code: int) -> int:
    """Note the fault and end as it would."""
    with open(config["log"], "a", encoding="utf-8") as log:
        log.write(json.dumps({"kind": kind, "stage": stage, "key": key}) + "\n")
    if kind == "transient":
        event = {"event": "error", "stage": stage, "message": "the store did not answer (a fault)"}
        print(json.dumps(event), flush=True)
        return TRANSIENT
    if code < 0:  # die of the same signal
        os.kill(os.getpid(), -code)
    return code
