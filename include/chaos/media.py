"""Makes the campaign's media: ``python -m include.chaos.media FOLDER``, where stages run."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from include.chaos.campaign import RECIPIENTS
from include.samples.crowd import Shape, make_campaign
from include.settings import Settings

SHAPE = Shape(face_share=0.08, on_screen=0.6, size=(320, 240), seconds=1.6)


def main(argv: list[str]) -> int:
    """Make the media; the folder appears whole or not at all."""
    folder = Path(argv[0])
    part = folder.with_name(f".{folder.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    path = make_campaign(part, Settings.from_env(), RECIPIENTS, shape=SHAPE, upscaler="lanczos")
    brief = yaml.safe_load(path.read_text(encoding="utf-8"))
    brief["policy"] |= {"min_success_ratio": 1.0, "review": "none"}
    brief["output"]["scale"] = 1
    path.write_text(yaml.safe_dump(brief, allow_unicode=True), encoding="utf-8")
    part.rename(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
