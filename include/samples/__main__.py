"""``python -m include.samples --out DIR``: make the sample campaign, unless it is there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from include.samples.ready import SAMPLES, make_ready
from include.settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Make the sample campaign and print the path of its brief."""
    parser = argparse.ArgumentParser(prog="python -m include.samples", description=__doc__)
    parser.add_argument("--out", type=Path, default=SAMPLES, metavar="DIR")
    args = parser.parse_args(argv)
    sys.stdout.write(f"{make_ready(args.out, Settings.from_env())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
