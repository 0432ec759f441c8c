"""How good a finished render is, measured against the recipient, the command and the plate."""

from models.registry import Backend

BACKENDS: dict[str, Backend] = {
    "measures": Backend(
        stage="quality",
        name="measures",
        version="1",
        # Of dlib_face_recognition_resnet_model_v1.dat, whose embedding decides two figures.
        weights_sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        licence="Apache-2.0; the embedding network: CC0-1.0",
        origin="Understudy; dlib's face embedding in the package face_recognition_models",
        limits={"frames": "a sample of the frames that a recipient changes"},
    ),
}
