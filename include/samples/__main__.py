"""``python -m include.samples``: make the sample campaign or the golden one, if need be."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from include.samples.golden import GOLDEN, make_golden
from include.samples.ready import SAMPLES, make_ready
from include.settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Make the sample campaign, or the golden one, and print the path of its brief."""
    parser = argparse.ArgumentParser(prog="python -m include.samples", description=__doc__)
    parser.add_argument("--golden", action="store_true", help="what backends are tried on")
    parser.add_argument("--out", type=Path, metavar="DIR")
    args = parser.parse_args(argv)
    make, place = (make_golden, GOLDEN) if args.golden else (make_ready, SAMPLES)
    sys.stdout.write(f"{make(args.out or place, Settings.from_env())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
