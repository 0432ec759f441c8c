"""Lip sync: phonemes to mouth curves, curves to pixels, and how well they match."""

from __future__ import annotations

from models.registry import Backend

BACKENDS: dict[str, Backend] = {
    "viseme": Backend(
        stage="lip_sync",
        name="viseme",
        version="1",
        weights_sha256=None,
        licence="Apache-2.0",
        origin="This project: coarticulation after Cohen and Massaro (1993), harmonic mesh warp",
        limits={
            "pose": "best within 30 degrees of yaw; cheeks fold beyond",
            "occlusion": "hands, microphones and long beards move with the skin",
            "tongue": "does not articulate; lips do not protrude in depth",
            "expression": "a smiling template keeps its smile lines while the mouth rounds",
            "still": "a closed mouth that never opens gets a painted inside",
            "language": "recordings are aligned in English only, else phonemes are recognised",
        },
    ),
}
