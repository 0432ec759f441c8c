"""Face swap: the recipient's face on the presenter's, one frame of a window at a time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from models.registry import Backend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.face_swap.mesh import MeshSwapper

BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {
        "mesh": Backend(
            stage="face_swap",
            name="mesh",
            version="1",
            weights_sha256=None,
            licence="Apache-2.0",
            origin="Understudy",
            limits={
                "photo": "one frontal face, eyes 40 pixels apart or more, under 40 degrees of yaw",
                "target": "fades out between 45 and 65 degrees of yaw",
                "glasses": "a photo's come along flat; the presenter's keep only their temples",
                "beard": "cut at the jaw where it is longer than the face",
                "shape": "head, hair and jaw stay the presenter's",
                "eyes": "the presenter's where the photo's are far less open",
            },
        )
    }
)


def load_swapper(
    name: str, source_rgb: NDArray[np.uint8], source_points: NDArray[np.float32]
) -> MeshSwapper:
    """Make a swapper for one recipient.

    Args:
        name: a key of ``BACKENDS``.
        source_rgb: uint8 [h, w, 3] the recipient's photo.
        source_points: float32 [478, 3] its landmarks in pixels.

    Raises:
        KeyError: there is no such backend.
    """
    if name not in BACKENDS:
        raise KeyError(f"no face_swap backend {name!r}; there are {', '.join(sorted(BACKENDS))}")
    from models.face_swap.mesh import MeshSwapper

    return MeshSwapper(source_rgb, source_points)
