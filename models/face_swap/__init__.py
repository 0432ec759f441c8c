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
        ),
        "mesh-batched": Backend(
            stage="face_swap",
            name="mesh-batched",
            version="1",
            weights_sha256=None,
            licence="Apache-2.0",
            origin="Understudy",
            limits={
                "as": "mesh, in batches, for GPUs; its pixels are a little off mesh's",
                "devices": "cuda; cpu, several times slower than mesh",
            },
        ),
    }
)


def runs_on_a_gpu(name: str) -> bool:
    """Whether a backend has something for a GPU to do."""
    return name == "mesh-batched"


def load_swapper(
    name: str,
    source_rgb: NDArray[np.uint8],
    source_points: NDArray[np.float32],
    *,
    device: str = "cpu",
    memory_mib: int | None = None,
) -> MeshSwapper:
    """Make a swapper for one recipient.

    Args:
        name: a key of ``BACKENDS``.
        source_rgb: uint8 [h, w, 3] the recipient's photo.
        source_points: float32 [478, 3] its landmarks in pixels.
        device: ``cpu`` or ``cuda``, for a backend that runs on a GPU.
        memory_mib: what a batch may take of the device's memory; None for a modest default.

    Raises:
        KeyError: there is no such backend.
        ValueError: shapes are wrong, or the device is not there.
    """
    if name not in BACKENDS:
        raise KeyError(f"no face_swap backend {name!r}; there are {', '.join(sorted(BACKENDS))}")
    if name == "mesh":
        from models.face_swap.mesh import MeshSwapper

        return MeshSwapper(source_rgb, source_points)
    from models.face_swap.batch import BatchedMeshSwapper
    from models.upscale.batches import MEMORY_MIB

    return BatchedMeshSwapper(
        source_rgb, source_points, device=device, memory_mib=memory_mib or MEMORY_MIB
    )
