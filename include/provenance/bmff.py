"""The outside of an MP4, read strictly: top-level boxes, brands, where the C2PA store is.

A C2PA hash leaves out ``ftyp``, ``free``, ``skip``, ``mfra`` and the C2PA box itself, so what may
stand there is checked here. ISO/IEC 14496-12 for the boxes, C2PA 2.4 for the ``uuid``.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from include.errors import BadMedia

C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_STORE_HEADER = C2PA_UUID + bytes(4) + b"manifest\0" + bytes(8)
"""Version and flags, the purpose, and the offset of a Merkle box, of which there is none."""
ALLOWED = frozenset({b"ftyp", b"moov", b"mdat", b"uuid", b"free", b"skip"})
BRANDS = frozenset(
    {b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  "}
)
MAX_BOXES = 64
MAX_PADDING = 64 * 1024
MAX_STORE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Box:
    """A top-level box: its type, where it starts, its header's and its own length in bytes."""

    kind: bytes
    offset: int
    header: int
    size: int


def top_level_boxes(path: Path) -> tuple[list[Box], int]:
    """Walk the file's top-level boxes.

    Returns:
        The boxes, and how many bytes at the end belong to none (0 for a sound file).

    Raises:
        BadMedia: the file cannot be opened or does not begin like an MP4.
    """
    boxes: list[Box] = []
    try:
        with path.open("rb") as stream:
            end = os.fstat(stream.fileno()).st_size
            offset = 0
            while offset < end:
                box = _read_box(stream.read(16), offset, end)
                if box is None or len(boxes) == MAX_BOXES:
                    break
                boxes.append(box)
                offset += box.size
                stream.seek(offset)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if not boxes or boxes[0].kind != b"ftyp":
        raise _unreadable(path, "it does not begin like an MP4" if end else "it is empty")
    return boxes, end - offset


def container_problems(path: Path, boxes: list[Box], leftover: int = 0) -> list[str]:
    """What stands where the signature does not look.

    Args:
        path: the file.
        boxes: its top-level boxes.
        leftover: bytes at its end that belong to no box.

    Returns:
        One sentence for each problem.
    """
    problems = [
        f"unexpected box {_name(box)} at byte {box.offset}"
        for box in boxes
        if box.kind not in ALLOWED
    ]
    if leftover:
        problems.append(f"the last {leftover} bytes are no whole box: cut off or appended")
    for kind in (b"ftyp", b"moov", b"uuid"):
        count = sum(box.kind == kind for box in boxes)
        if count > 1:
            problems.append(f"{count} {kind.decode()} boxes instead of one")
    with path.open("rb") as stream:
        stream.seek(boxes[0].header)
        problems += _brand_problems(stream.read(min(boxes[0].size, 4096) - boxes[0].header))
        padding = [box for box in boxes if box.kind in (b"free", b"skip")]
        if sum(box.size for box in padding) > MAX_PADDING:
            problems.append(f"more than {MAX_PADDING} bytes of padding")
        else:
            for box in padding:
                stream.seek(box.offset + box.header)
                if any(stream.read(box.size - box.header)):
                    problems.append(f"the padding at byte {box.offset} is not empty")
    return problems


def file_type(path: Path, boxes: list[Box]) -> str:
    """Content of the first box (``ftyp``) in hexadecimal, at most 256 bytes of it."""
    with path.open("rb") as stream:
        stream.seek(boxes[0].header)
        return stream.read(min(boxes[0].size - boxes[0].header, 256)).hex()


def manifest_store(path: Path, boxes: list[Box]) -> bytes | None:
    """The C2PA manifest store (JUMBF) of the file, None when there is none or it is malformed."""
    for box in boxes:
        if box.kind != b"uuid" or box.size > MAX_STORE:
            continue
        with path.open("rb") as stream:
            stream.seek(box.offset + box.header)
            content = stream.read(box.size - box.header)
        if content.startswith(_STORE_HEADER):
            return content[len(_STORE_HEADER) :]
    return None


def _read_box(header: bytes, offset: int, end: int) -> Box | None:
    if len(header) < 8:
        return None
    size, kind = struct.unpack(">I4s", header[:8])
    length = 8
    if size == 1:
        if len(header) < 16:
            return None
        size, length = struct.unpack(">Q", header[8:16])[0], 16
    elif size == 0:
        size = end - offset
    if size < length or offset + size > end:
        return None
    return Box(kind, offset, length, size)


def _brand_problems(content: bytes) -> list[str]:
    brands = {content[:4], *(content[i : i + 4] for i in range(8, len(content), 4))}
    strange = sorted(brand for brand in brands if brand not in BRANDS)
    return [f"unexpected brand {brand!r}" for brand in strange[:3]]


def _name(box: Box) -> str:
    return box.kind.decode("latin-1")


def _unreadable(path: Path, why: str) -> BadMedia:
    return BadMedia(
        f"{path} cannot be read as an MP4: {why}; fetch the file again",
        code="video.unreadable",
        where=str(path),
    )
