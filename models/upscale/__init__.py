"""Single-image super-resolution by 2 or 4.

upscaler = load_upscaler("compact", 2)
large = upscaler.upscale(rgb)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.registry import Backend, backends

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.upscale.base import Upscaler

__all__ = ["BACKENDS", "KINDS", "RECEPTIVE_FIELD", "load_upscaler", "runs_on_a_gpu"]

KINDS: Final[Mapping[str, str]] = {"rrdb": "1"}
"""Code that runs declared weights, to its version: raised when the output for a file changes."""

RECEPTIVE_FIELD: Final[Mapping[str, Mapping[int, int]]] = {
    "compact": {2: 14, 4: 22},
    "lanczos": {2: 4, 4: 4},
}
"""Backend to scale to radius in input pixels, for planning without loading a model."""

BACKENDS: Final[Mapping[str, Backend]] = {
    "compact": Backend(
        stage="upscale",
        name="compact",
        version="3",
        weights_sha256="63e9d63e69a2147fea4484ef226e85763bd302ac43cca0a02cce2046628f5e72",
        licence="Apache-2.0",
        origin="trained by models/upscale/train.py on pictures that ship with scikit-image,"
        " scikit-learn and matplotlib, and on drawn ones",
        limits={
            "scales": "2, 4 (4 is 2 twice)",
            "receptive_field": "14 at scale 2, 22 at scale 4 (radius, input pixels)",
            "devices": "cpu, cuda in half precision (at scale 2 at most one code value apart)",
            "alignment": "2 (windows start and end on even pixels, or at the frame's edge)",
            "content": "luma detail only, chroma is interpolated; invents no texture",
        },
    ),
    "lanczos": Backend(
        stage="upscale",
        name="lanczos",
        version="1",
        weights_sha256=None,
        licence="Apache-2.0",
        origin="OpenCV, INTER_LANCZOS4",
        limits={
            "scales": "2, 4",
            "receptive_field": "4 at scale 2, 4 at scale 4 (radius, input pixels)",
            "devices": "cpu",
            "content": "interpolation: softer than the source's own resolution",
        },
    ),
}


def runs_on_a_gpu(name: str) -> bool:
    """Whether a backend has something for a GPU to do: networks, built in or declared."""
    return name != "lanczos"


def load_upscaler(
    name: str,
    scale: int,
    *,
    threads: int = 1,
    device: str = "cpu",
    memory_mib: int | None = None,
    weights: Path | None = None,
) -> Upscaler:
    """Load a backend.

    Args:
        name: a key of `BACKENDS`, or a declared backend.
        scale: 2 or 4.
        threads: CPU threads for one picture; the result is the same for any number.
        device: ``cpu`` or ``cuda``; `lanczos` always runs on the CPU. On CUDA frames are worked on
            in batches and half precision.
        memory_mib: what a batch may take of the device's memory; None for a modest default.
        weights: of a declared backend, where its file lies here; default as declared.

    Returns:
        The upscaler, ready for many pictures; not to be shared between threads.

    Raises:
        ValueError: unknown backend or scale, missing or changed weights, device not there.
    """
    known = backends("upscale")
    if name not in known:
        raise ValueError(f"no upscale backend {name!r}; there are {', '.join(sorted(known))}")
    declared = known[name].declared
    scales = (declared.scale,) if declared else tuple(RECEPTIVE_FIELD[name])
    if scale not in scales:
        raise ValueError(f"{name} cannot upscale by {scale}; take {' or '.join(map(str, scales))}")
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    if declared:
        from models.upscale.rrdb import Rrdb

        return Rrdb.declared(
            declared, threads=threads, device=device, memory_mib=memory_mib, weights=weights
        )
    if name == "lanczos":
        from models.upscale.lanczos import Lanczos

        return Lanczos(scale)
    from models.upscale.batches import MEMORY_MIB
    from models.upscale.compact import Compact

    return Compact(scale, threads=threads, device=device, memory_mib=memory_mib or MEMORY_MIB)
