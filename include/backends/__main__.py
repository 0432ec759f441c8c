"""``./understudy backends``: lists the ways to do a stage, and declares weights of your own.

    ./understudy backends list
    ./understudy backends declare WEIGHTS --name N --licence L --origin O [--file F] [...]

``declare`` opens the weights, measures how far the network looks and writes the entry that
``models/registry.py`` describes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from include.backends import declare
from include.errors import UnderstudyError, Usage
from models.registry import DECLARED_ENV, backends

STAGES = ("face", "face_swap", "lip_sync", "speech", "upscale", "safety")
"""Packages below ``models`` that have backends."""


def main(argv: list[str] | None = None) -> int:
    """Declare a backend or list them; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        if args.verb == "declare":
            _declare(args)
        else:
            _list()
    except UnderstudyError as error:
        sys.stderr.write(f"understudy: {error.message}\n")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./understudy backends", description="ways to do a stage")
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("list", help="all backends with licence and origin")
    new = verbs.add_parser("declare", help="an upscaler with weights of your own (RRDBNet)")
    new.add_argument("opened", type=Path, metavar="WEIGHTS", help=".safetensors or .pth")
    new.add_argument("--name", required=True, help="what briefs will call it")
    new.add_argument("--licence", required=True, help="SPDX expression, or where the terms are")
    new.add_argument("--origin", required=True, help="who made it, and from what")
    new.add_argument("--as", dest="weights", help="path or s3:// URI by which workers see the file")
    new.add_argument("--margin", type=int, help="effective radius in pixels; default: measured")
    new.add_argument("--file", type=Path, help=f"declarations; default: {DECLARED_ENV}")
    return parser


def _declare(args: argparse.Namespace) -> None:
    file = args.file or os.environ.get(DECLARED_ENV)
    if not file:
        raise Usage(f"which file? Give --file F, or set {DECLARED_ENV}")
    if args.margin is not None and args.margin < 1:
        raise Usage(f"--margin is {args.margin}; it must be at least 1")
    made = declare(
        Path(file),
        name=args.name,
        weights=args.weights or str(args.opened.absolute()),
        licence=args.licence,
        origin=args.origin,
        margin=args.margin,
        opened=args.opened,
        threads=os.cpu_count() or 1,
    )
    _say(f"{file}: {made.name} enlarges by {made.scale}, margin {made.margin} pixels")
    if os.environ.get(DECLARED_ENV) != str(file):
        where = Path(file).absolute()
        _say(f"set {DECLARED_ENV}={where} where campaigns are planned and rendered")


def _list() -> None:
    for stage in STAGES:
        for item in backends(stage).values():
            whose = "declared" if item.declared else "built in"
            _say(f"{stage}: {item.name} ({whose})")
            _say(f"    version  {item.version}\n    licence  {item.licence}")
            _say(f"    origin   {item.origin}")
            if item.weights_sha256:
                _say(f"    weights  sha256 {item.weights_sha256}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
