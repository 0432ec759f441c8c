"""Face analysis: landmarks, mesh topology, pose, photo quality, regions of interest."""

from __future__ import annotations
