"""Enough of JUMBF, CBOR and COSE to check what the C2PA library leaves unchecked.

JUMBF: ISO/IEC 19566-5. CBOR: RFC 8949 (definite lengths only, as C2PA writes it). COSE: RFC 9052.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 16
_TYPE_SUFFIX = bytes.fromhex("00110010800000aa00389b71")
_TYPES = (b"c2pa", b"c2ma", b"c2um", b"c2as", b"c2cl", b"c2cs", b"c2vc", b"cbor", b"json")
_TOGGLES = (0x03, 0x13)
"""Requestable with a label, and the same with a salt; the other bits are reserved or unused."""
_PARTS = ["c2pa.assertions", "c2pa.claim.v2", "c2pa.signature"]
"""What our manifest consists of, by label."""
_NEEDED = ({"c2pa.assertions"}, {"c2pa.claim", "c2pa.claim.v2"}, {"c2pa.signature"})
"""What every manifest, an ingredient's too, has: one of each."""


class Malformed(ValueError):
    """The bytes are not what they should be."""


@dataclass(frozen=True)
class CoseSign1:
    """The signature of a claim, with the parts that matter here."""

    certificates: tuple[bytes, ...]
    """DER, leaf first (``x5chain``)."""
    padding: tuple[bytes, ...]
    """The contents of ``pad`` and ``pad2``, which no signature covers."""
    unprotected: frozenset[str]
    """Names of all unprotected header parameters."""


def active_signature(store: bytes) -> CoseSign1:
    """The signature of the active (last) manifest in a store.

    Raises:
        Malformed: there is none, or it cannot be read.
    """
    manifests = [content for _, content in _superboxes(_only_superbox(store))]
    if not manifests:
        raise Malformed("the manifest store is empty")
    for label, content in _superboxes(manifests[-1]):
        if label == "c2pa.signature":
            return _cose(_cbor_content(content))
    raise Malformed("the active manifest has no signature")


def structure_problems(store: bytes) -> list[str]:
    """Check labels and description boxes of the store and its manifests.

    The library rebuilds them before it hashes, so that a flipped bit there goes unnoticed.

    Returns:
        One sentence for each problem.

    Raises:
        Malformed: the store cannot be read.
    """
    content = _only_superbox(store)
    descriptions = [_description(content)]
    manifests = [inner for _, inner in _superboxes(content)]
    descriptions += [found for inner in manifests[-1:] for found in _all_descriptions(inner, 0)]
    problems = []
    if _label(content) != "c2pa":
        problems.append("the manifest store is not labelled c2pa")
    parts = [sorted(label for label, _ in _superboxes(inner)) for inner in manifests]
    if parts and parts[-1] != _PARTS:
        problems.append("the manifest does not consist of assertions, claim and signature")
    for labels in parts[:-1]:
        if any(len(needed.intersection(labels)) != 1 for needed in _NEEDED):
            problems.append("an ingredient's manifest lacks its assertions, claim or signature")
    for description in descriptions:
        if description[:4] not in _TYPES or description[4:16] != _TYPE_SUFFIX:
            problems.append("a manifest box is of an unknown type")
        if description[16] not in _TOGGLES:
            problems.append("a manifest box has unknown flags")
    return problems


def _all_descriptions(content: bytes, depth: int) -> Iterator[bytes]:
    if depth > MAX_DEPTH:
        raise Malformed("JUMBF is nested too deep")
    yield _description(content)
    for kind, inner in _boxes(content):
        if kind == b"jumb":
            yield from _all_descriptions(inner, depth + 1)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    offset = 0
    while offset < len(data):
        if len(data) - offset < 8:
            raise Malformed("a JUMBF box is cut off")
        size, kind = struct.unpack_from(">I4s", data, offset)
        if size < 8 or offset + size > len(data):
            raise Malformed("a JUMBF box has an impossible length")
        yield kind, data[offset + 8 : offset + size]
        offset += size


def _only_superbox(store: bytes) -> bytes:
    boxes = list(_boxes(store))
    if len(boxes) != 1 or boxes[0][0] != b"jumb":
        raise Malformed("the manifest store is not one JUMBF box")
    return boxes[0][1]


def _superboxes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Label and content of every superbox within one."""
    for kind, inner in _boxes(content):
        if kind == b"jumb":
            yield _label(inner), inner


def _description(content: bytes) -> bytes:
    kind, description = next(_boxes(content), (b"", b""))
    if kind != b"jumd" or len(description) < 18:
        raise Malformed("a JUMBF superbox has no description")
    return description


def _label(content: bytes) -> str:
    description = _description(content)
    if not description[16] & 0x02:
        return ""
    return description[17:].partition(b"\0")[0].decode("utf-8", "replace")


def _cbor_content(content: bytes) -> bytes:
    for kind, inner in _boxes(content):
        if kind == b"cbor":
            return inner
    raise Malformed("the signature box holds no CBOR")


def _cose(data: bytes) -> CoseSign1:
    value, end = decode_cbor(data)
    if end != len(data) or not isinstance(value, list) or len(value) != 4:
        raise Malformed("the signature is not a COSE_Sign1")
    protected, unprotected = value[0], value[1]
    if not isinstance(protected, bytes) or not isinstance(unprotected, dict):
        raise Malformed("the signature's headers cannot be read")
    headers = decode_cbor(protected)[0]
    if not isinstance(headers, dict):
        raise Malformed("the signature's protected header is not a map")
    chain = headers.get(33, headers.get("x5chain", unprotected.get("x5chain", unprotected.get(33))))
    certificates = [chain] if isinstance(chain, bytes) else chain
    if not isinstance(certificates, list) or not all(isinstance(c, bytes) for c in certificates):
        raise Malformed("the signature carries no certificates")
    padding = [unprotected[key] for key in ("pad", "pad2") if key in unprotected]
    return CoseSign1(
        certificates=tuple(certificates),
        padding=tuple(p if isinstance(p, bytes) else b"?" for p in padding),
        unprotected=frozenset(str(key) for key in unprotected),
    )


def decode_cbor(data: bytes, offset: int = 0, depth: int = 0) -> tuple[Any, int]:
    """Decode one CBOR item; tags are dropped.

    Returns:
        The value and the offset behind it.

    Raises:
        Malformed: cut off, too deep, or of a kind that C2PA does not use.
    """
    if depth > MAX_DEPTH:
        raise Malformed("CBOR is nested too deep")
    major, argument, offset = _cbor_head(data, offset)
    if major <= 1:
        return (argument if major == 0 else -1 - argument), offset
    if major <= 3:
        chunk = data[offset : offset + argument]
        if len(chunk) != argument:
            raise Malformed("CBOR is cut off")
        return (chunk if major == 2 else chunk.decode("utf-8", "replace")), offset + argument
    if major <= 5:
        return _cbor_items(data, offset, depth, argument, mapping=major == 5)
    if major == 6:
        return decode_cbor(data, offset, depth + 1)
    return {20: False, 21: True}.get(argument), offset


def _cbor_head(data: bytes, offset: int) -> tuple[int, int, int]:
    if offset >= len(data):
        raise Malformed("CBOR is cut off")
    major, low = data[offset] >> 5, data[offset] & 0x1F
    offset += 1
    if low < 24:
        return major, low, offset
    if low > 27:
        raise Malformed("CBOR of indefinite length is not used in C2PA")
    width = 1 << (low - 24)
    if offset + width > len(data):
        raise Malformed("CBOR is cut off")
    return major, int.from_bytes(data[offset : offset + width], "big"), offset + width


def _cbor_items(
    data: bytes, offset: int, depth: int, count: int, *, mapping: bool
) -> tuple[Any, int]:
    if count > len(data):
        raise Malformed("CBOR is cut off")
    items: list[Any] = []
    for _ in range(2 * count if mapping else count):
        item, offset = decode_cbor(data, offset, depth + 1)
        items.append(item)
    if not mapping:
        return items, offset
    keys = items[::2]
    if not all(isinstance(key, (int, str)) for key in keys):
        raise Malformed("CBOR map keys must be numbers or text")
    return dict(zip(keys, items[1::2], strict=True)), offset
