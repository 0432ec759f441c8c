"""Safety checks on pixels and text, and the verdict that they add up to."""

from models.registry import Backend
from models.safety.policy import DEFAULT_POLICY
from models.safety.script import lists_sha256

BACKENDS: dict[str, Backend] = {
    "ensemble": Backend(
        stage="safety",
        name="ensemble",
        # New thresholds or word lists make new verdicts, whoever forgets to say so.
        version=f"{DEFAULT_POLICY.version}+{DEFAULT_POLICY.sha256[:12]}+{lists_sha256()[:12]}",
        # Of the detector's 320n.onnx, which docker/nudity/detect.py reports when it starts.
        weights_sha256="c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
        licence="Apache-2.0; the nudity detector in its own process: AGPL-3.0-only",
        origin="Understudy; NudeNet 3.4.2 (320n) for nudity; ffmpeg photosensitivity for flashes",
        limits={
            "nudity": "sampled frames: one a second and after each cut",
            "script": "word lists for " + ", ".join(("de", "en", "es", "fr", "it", "ja", "pt")),
        },
    ),
}
