"""Face analysis: landmarks, topology, geometry, quality, windows."""

from models.registry import Backend

BACKENDS: dict[str, Backend] = {
    "facemesh": Backend(
        stage="face",
        name="facemesh",
        version="0.10.21",
        weights_sha256=None,
        licence="Apache-2.0",
        origin="MediaPipe Face Mesh with attention, models in Google's mediapipe wheel",
        limits={"yaw": "reliable to about 60 degrees", "size": "faces of 24 pixels and more"},
    ),
}
