"""``./understudy demo``: the whole product on a sample campaign, through Airflow."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import webbrowser
from dataclasses import dataclass, replace
from pathlib import Path

from include.cli.follow import DAG, Run, run_on_stack
from include.cli.progress import Progress
from include.cli.stack import Stack, free_port
from include.errors import UnderstudyError
from include.report import Outcome, export, gather
from include.runs import latest_results
from include.settings import PROJECT, Settings

HOME = PROJECT / ".understudy" / "demo"
"""The demo's own Airflow, campaign, store and keys: nothing else is touched."""


@dataclass
class Verdict:
    """What the verify command said about one video."""

    video: Path
    ok: bool
    said: str


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 only if every video was delivered and verified."""
    parser = argparse.ArgumentParser(prog="./understudy demo", description=__doc__)
    parser.add_argument("--keep-ui", action="store_true", help="leave Airflow's UI up at the end")
    parser.add_argument("--out", type=Path, default=PROJECT / "out" / "demo")
    parser.add_argument("--port", type=int, default=8080, help="of the UI, if it is free")
    args = parser.parse_args(argv)
    start = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stack is stopped
    settings = demo_settings()
    stack = Stack(HOME / "airflow", free_port(args.port), open_doors=True, settings=settings)
    try:
        ok = _demo(stack, args.out.resolve(), start)
        if args.keep_ui:
            _keep(stack)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nunderstudy: stopped", file=sys.stderr)
        return 130
    finally:
        stack.stop()
    return 0 if ok else 1


def demo_settings() -> Settings:
    """The demo's settings; also put into our environment, for the processes that we start."""
    os.environ["UNDERSTUDY_STORE"] = str(HOME / "store")
    os.environ["UNDERSTUDY_STATE"] = str(HOME / "state")
    os.environ["UNDERSTUDY_ROOTS"] = str(HOME)
    os.environ.pop("UNDERSTUDY_DATABASE_URL", None)
    # One row for each shard keeps every core busy with three recipients.
    return replace(Settings.from_env(), shard_size=1)


def _demo(stack: Stack, out: Path, start: float) -> bool:
    settings = stack.settings
    progress = Progress()
    progress.line("making the sample campaign (people, presenter, voices, consent)")
    progress.line("starting Airflow")
    with SampleCampaign(settings) as sample:  # beside Airflow's boot: each keeps one core busy
        stack.stop()  # what an earlier demo left up
        stack.start()
        progress.line(f"Airflow is up: {stack.url} (no login, this machine only)")
        brief = sample.wait()
    progress.line(f"sample campaign: {brief.parent}")
    run = run_on_stack(
        stack.api(),
        {"brief": str(brief), "review": "hold", "shard_size": settings.shard_size},
        progress,
    )
    return _conclude(run, out, settings, progress, start)


class SampleCampaign:
    """The sample campaign, being made, or found, by a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._folder = HOME / "campaign"
        self._log = HOME / "sample.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(settings.worker_python), "-m", "include.samples", "--out"]
        with self._log.open("w") as stream:
            self._process = subprocess.Popen(
                [*command, str(self._folder)], stdout=stream, stderr=stream
            )

    def __enter__(self) -> SampleCampaign:
        """Nothing more to do."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave no process behind."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def wait(self) -> Path:
        """Wait until it is there; returns its brief.

        Raises:
            UnderstudyError: it could not be made.
        """
        if self._process.wait():
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])
            raise UnderstudyError(f"the sample campaign could not be made ({self._log}):\n{tail}")
        return self._folder / "brief.yaml"


def _conclude(run: Run, out: Path, settings: Settings, progress: Progress, start: float) -> bool:
    plan = run.plan
    if plan is None:
        return False
    videos = export(plan, run.run_id, out, settings)
    verdicts = [verify(video, settings) for video in videos]
    for verdict in verdicts:
        what = "verified" if verdict.ok else f"NOT VERIFIED: {verdict.said}"
        progress.line(f"{verdict.video.parent.name:18} {what}")
    outcome = gather(plan, run.run_id, latest_results(plan, DAG, run.run_id), settings)
    _summary(outcome, verdicts, out, time.monotonic() - start)
    complete = len(outcome.delivered) == len(outcome.rows) == len(verdicts)
    return run.state == "success" and complete and all(verdict.ok for verdict in verdicts)


def verify(video: Path, settings: Settings) -> Verdict:
    """Check a video with the verify command, in a process of its own."""
    done = subprocess.run(
        [str(settings.worker_python), "-m", "include.provenance.verify", str(video)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).strip()
    return Verdict(video, done.returncode == 0, said.splitlines()[-1] if said else "")


def _summary(outcome: Outcome, verdicts: list[Verdict], out: Path, seconds: float) -> None:
    print()
    for row in outcome.rows:
        if row.status == "delivered":
            print(f"  {row.recipient:18} {out / row.recipient / 'video.mp4'}")
        else:
            print(f"  {row.recipient:18} {row.status.upper()}: {row.message}")
    good = sum(verdict.ok for verdict in verdicts)
    cached = sum(stage.hit for stage in outcome.stages.values())
    print(
        f"\n{good} of {len(outcome.rows)} videos delivered and verified in {seconds:.0f} s; "
        f"{outcome.cpu_seconds:.0f} CPU seconds in stages, about {outcome.cost:.4f} "
        f"{outcome.currency} ({outcome.core_hour:g} a core hour)"
        + (f"; {cached} stage results were there already" if cached else "")
    )
    print(f"Report: {out / 'report.html'}")


def _keep(stack: Stack) -> None:
    print(f"\nAirflow's UI: {stack.url}/dags/{DAG}   (Ctrl-C stops it)")
    if os.environ.get("DISPLAY"):
        webbrowser.open(stack.url)
    try:
        while stack.running():
            time.sleep(1.0)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
