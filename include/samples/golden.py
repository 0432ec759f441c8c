"""The golden campaign that backends are tried on when nobody named another.

The sample's three people, each photographed and spoken to in several ways, in two seconds of the
sample's presenter: enough recipients for an interval that can decide, in the time that three whole
sample videos take.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from include.provenance.state import exclusive
from include.samples.campaign import made_once, media_digest
from include.samples.crowd import Shape, make_campaign
from include.samples.ready import SAMPLES
from include.samples.shifts import taken_again
from include.settings import Settings

GOLDEN = SAMPLES.with_name("golden") / "campaign"
"""Where it lies by default; the folder above it is where makers take turns."""
RECIPIENTS = 12
SHAPE = Shape(face_share=0.12, on_screen=1.0, size=(640, 360), seconds=2.0)
_SEED = 7


def make_golden(folder: Path, settings: Settings) -> Path:
    """Make the golden campaign unless it is there; returns the brief's path.

    Photos and template are the same bytes whenever they are made, so that what was rendered before
    is found again. Consent, which holds for a year, is issued anew every month.

    Args:
        folder: where it lies, below a root that briefs may be read from.
        settings: says where the tenant's development key is kept.
    """
    digest = f"{media_digest()} {settings.consent_keys} {datetime.now(UTC):%Y-%m}"

    def write(work: Path) -> None:
        rng = np.random.default_rng(_SEED)
        make_campaign(
            work, settings, RECIPIENTS, shape=SHAPE, photo=lambda jpeg: taken_again(jpeg, rng)
        )

    with exclusive(folder.parent):
        made_once(folder, digest, write)
    return folder / "brief.yaml"
