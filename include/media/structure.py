"""What a file is and where its parts end, read from its bytes with no decoder involved.

A few dozen bytes decide the container, by magic and never by name. Then the parts are walked to
the end of the file: what is cut short, what carries something else behind it (a file that is two
files), what is encrypted and what claims absurd dimensions is refused before a decoder sees it.

Formats: ISO/IEC 14496-12 (boxes), RFC 8794 (EBML), PNG (W3C), ITU-T T.81 (JPEG), RIFF WebP.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from include.errors import BadMedia, UnsafeMedia

HEAD_BYTES = 64
_LARGEST_MOOV = 64 << 20
_LARGEST_FILLER = 1 << 20
# Nothing honest has more parts than this; walking millions of empty ones would be the attack.
_MOST_PARTS = 200_000
_DEEPEST_NESTING = 8

# ffmpeg's demuxer for each container that we accept.
DEMUXERS = {
    "mp4": "mov",
    "matroska": "matroska",
    "wav": "wav",
    "mp3": "mp3",
    "flac": "flac",
    "ogg": "ogg",
}
VIDEO_CONTAINERS = frozenset({"mp4", "matroska"})
AUDIO_CONTAINERS = frozenset(DEMUXERS)
IMAGE_CONTAINERS = frozenset({"jpeg", "png", "webp"})

_STILL_BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis"})
_TOP_LEVEL_BOXES = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"moof", b"mfra", b"sidx"}
    | {b"ssix", b"styp", b"meta", b"pdin", b"prft", b"emsg", b"udta", b"pnot", b"bloc", b"pssh"}
)
_FILLER_BOXES = frozenset({b"free", b"skip", b"wide"})
_CONTAINER_BOXES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
_ENCRYPTED_ENTRIES = frozenset({b"encv", b"enca", b"encs", b"enct", b"drms", b"drmi"})
_SCRIPTS = (b"#extm3u", b"ffconcat", b"<?xml", b"<mpd", b"<svg", b"v=0", b"[playlist]", b"#ext-x-")


@dataclass(frozen=True, slots=True)
class Box:
    """One box of an MP4 file: its type, and where its content starts and ends."""

    kind: bytes
    start: int
    end: int


def open_regular(path: Path, max_bytes: int) -> BinaryIO:
    """Open a file that is a plain, non-empty one within the size limit.

    Raises:
        BadMedia: it is missing, unreadable or empty.
        UnsafeMedia: it is a link or a special file, or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        bad(path, "media.missing", "there is no such file: check the path")
    except OSError as error:
        if path.is_symlink():
            unsafe(path, "media.symlink", "it is a symbolic link: give the file itself")
        bad(path, "media.unreadable", f"it cannot be read ({error.strerror}): check permissions")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            unsafe(path, "media.not_regular", "it is not a regular file: give a media file")
        if status.st_size == 0:
            bad(path, "media.empty", "it is empty: upload it again")
        if status.st_size > max_bytes:
            unsafe(
                path,
                "media.too_large",
                f"it has {status.st_size} bytes, at most {max_bytes} are accepted: make it smaller",
            )
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def sniff(path: Path, head: bytes, accepted: frozenset[str]) -> str:
    """Name the container from its first bytes.

    Raises:
        UnsafeMedia: a playlist or script that would make a decoder open other files
            (``media.playlist``), or nothing that is accepted here (``media.magic``).
    """
    kind = _magic(head)
    if kind in accepted:
        return str(kind)
    text = head.lstrip(b"\xef\xbb\xbf\r\n\t ").lower()
    if kind is None and text.startswith(_SCRIPTS):
        unsafe(
            path,
            "media.playlist",
            "it is a playlist or script, not media: give the media file that it names",
        )
    wanted = ", ".join(sorted(accepted))
    unsafe(path, "media.magic", f"its content is {kind or 'unknown'}, accepted are {wanted}")


def _magic(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return "heif" if head[8:12] in _STILL_BRANDS else "mp4"
    if head[:4] == b"RIFF":
        return {b"WAVE": "wav", b"WEBP": "webp"}.get(head[8:12])
    for magic, kind in (
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"ID3", "mp3"),
        (b"GIF8", "gif"),
        (b"%PDF", "pdf"),
        (b"PK\x03\x04", "zip"),
    ):
        if head.startswith(magic):
            return kind
    # An MPEG audio frame: eleven sync bits, layer III.
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 == 0x02:
        return "mp3"
    return None


def boxes(path: Path, file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Walk the boxes between two offsets.

    Raises:
        BadMedia: a box leaves its parent (``media.truncated``).
        UnsafeMedia: what follows is no box (``media.polyglot``).
    """
    for _ in range(_MOST_PARTS):
        if start >= end:
            return
        file.seek(start)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        body = start + 8
        if size == 1:
            size, body = int.from_bytes(header[8:16], "big"), start + 16
        elif size == 0:
            size = end - start
        if end - start < 8 or size < body - start:
            unsafe(path, "media.polyglot", "it has foreign data inside: export it again")
        yield Box(kind, body, start + size)
        start += size
    _refuse_parts(path)


def check_mp4(path: Path, file: BinaryIO, length: int) -> None:
    """Walk an MP4 or MOV file to its end and refuse what is not only that.

    Raises:
        BadMedia: cut short (``media.truncated``).
        UnsafeMedia: ``media.polyglot`` or ``media.encrypted``.
    """
    filler, index_found = 0, False
    for box in boxes(path, file, 0, length):
        if box.kind not in _TOP_LEVEL_BOXES:
            unsafe(
                path,
                "media.polyglot",
                f"it carries something else after the video (at byte {box.start - 8}): "
                "export it again",
            )
        if box.end > length:
            bad(path, "media.truncated", "its end is missing: upload it again")
        if box.kind == b"pssh":
            _refuse_encrypted(path)
        if box.kind in _FILLER_BOXES:
            filler += box.end - box.start
        if box.kind in (b"moov", b"moof"):
            index_found = index_found or box.kind == b"moov"
            if box.end - box.start > _LARGEST_MOOV:
                unsafe(path, "media.too_large", "its index is too large: export it again")
            _check_encryption(path, file, box, 0)
    if filler > max(_LARGEST_FILLER, length // 10):
        unsafe(path, "media.polyglot", "it hides data in unused boxes: export it again")
    if not index_found:
        bad(path, "media.truncated", "its index (moov) is missing: upload it again")


def _check_encryption(path: Path, file: BinaryIO, parent: Box, depth: int) -> None:
    for box in boxes(path, file, parent.start, parent.end):
        if box.end > parent.end:
            bad(path, "media.truncated", "its index is damaged: export it again")
        if box.kind in (b"pssh", b"senc"):
            _refuse_encrypted(path)
        if box.kind == b"stsd":
            entries = Box(b"stsd", box.start + 8, box.end)
            if any(e.kind in _ENCRYPTED_ENTRIES for e in boxes(path, file, entries.start, box.end)):
                _refuse_encrypted(path)
        elif box.kind in _CONTAINER_BOXES and depth < _DEEPEST_NESTING:
            _check_encryption(path, file, box, depth + 1)


def _refuse_parts(path: Path) -> NoReturn:
    unsafe(path, "media.too_many_parts", "it is cut into too many pieces: export it again")


def _refuse_encrypted(path: Path) -> NoReturn:
    unsafe(path, "media.encrypted", "it is encrypted: export it without copy protection")


_EBML_SEGMENT, _EBML_TRACKS, _EBML_ENTRY = 0x18538067, 0x1654AE6B, 0xAE
_EBML_ENCODINGS, _EBML_ENCODING, _EBML_ENCRYPTION = 0x6D80, 0x6240, 0x5035
_EBML_INSIDE = frozenset(
    {_EBML_SEGMENT, _EBML_TRACKS, _EBML_ENTRY, _EBML_ENCODINGS, _EBML_ENCODING}
)
_EBML_TOP = frozenset({0x1A45DFA3, _EBML_SEGMENT, 0xEC, 0xBF})


def check_matroska(path: Path, file: BinaryIO, length: int) -> None:
    """Walk a Matroska or WebM file to its end and refuse what is not only that.

    Raises:
        BadMedia: cut short (``media.truncated``).
        UnsafeMedia: ``media.polyglot`` or ``media.encrypted``.
    """
    position = 0
    for _ in range(_MOST_PARTS):
        if position >= length:
            return
        kind, start, end = _element(file, position, length)
        if kind not in _EBML_TOP:
            unsafe(
                path, "media.polyglot", "it carries something else after the video: export it again"
            )
        if end > length:
            bad(path, "media.truncated", "its end is missing: upload it again")
        if kind == _EBML_SEGMENT:
            _check_segment(path, file, start, end, 0)
        position = max(end, position + 1)
    _refuse_parts(path)


def _check_segment(path: Path, file: BinaryIO, start: int, end: int, depth: int) -> None:
    position = start
    for _ in range(_MOST_PARTS):
        if position >= end:
            return
        kind, body, stop = _element(file, position, end)
        if kind == _EBML_ENCRYPTION:
            _refuse_encrypted(path)
        if kind in _EBML_INSIDE and stop <= end and depth < _DEEPEST_NESTING:
            _check_segment(path, file, body, stop, depth + 1)
        position = max(stop, position + 1)
    _refuse_parts(path)


def _element(file: BinaryIO, position: int, parent_end: int) -> tuple[int, int, int]:
    """Read one EBML element's id, and its content's start and end."""
    file.seek(position)
    header = file.read(12)
    id_length = _vint_length(header[0]) if header else 9
    if id_length > 4 or len(header) <= id_length:
        return 0, position, parent_end
    size_length = _vint_length(header[id_length])
    raw = header[id_length : id_length + size_length]
    if size_length > 8 or len(raw) < size_length:
        return 0, position, parent_end
    mask = (1 << (7 * size_length)) - 1
    size = int.from_bytes(raw, "big") & mask
    start = position + id_length + size_length
    # All ones means unknown: a live recording, which goes on to its parent's end.
    end = parent_end if size == mask else start + size
    return int.from_bytes(header[:id_length], "big"), start, end


def _vint_length(first: int) -> int:
    return 9 - first.bit_length()


def image_size(path: Path, kind: str, file: BinaryIO) -> tuple[int, int]:
    """Read an image's width and height from its header.

    Raises:
        BadMedia: the header is damaged or cut short (``media.truncated``).
    """
    file.seek(0)
    head = file.read(30)
    size: tuple[int, int] | None = None
    if kind == "png" and head[12:16] == b"IHDR":
        size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif kind == "webp":
        size = _webp_size(head)
    elif kind == "jpeg":
        size = _jpeg_size(file)
    if size is None or min(size) < 1:
        bad(path, "media.truncated", "its header is damaged or cut short: export it again")
    return size


def _webp_size(head: bytes) -> tuple[int, int] | None:
    if len(head) < 30:
        return None
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF)
    width, height = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Find the first start-of-frame marker."""
    position = 2
    for _ in range(_MOST_PARTS):
        file.seek(position)
        segment = file.read(9)
        if len(segment) < 9 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if marker == 0xFF:
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
        else:
            position += 2 + int.from_bytes(segment[2:4], "big")
    return None


def check_png(path: Path, file: BinaryIO, length: int) -> None:
    """Walk a PNG's chunks: it must end with its end chunk and nothing behind it.

    Raises:
        BadMedia: cut short (``media.truncated``).
        UnsafeMedia: something follows (``media.polyglot``).
    """
    position = 8
    for _ in range(_MOST_PARTS):
        if position + 12 > length:
            break
        file.seek(position)
        header = file.read(8)
        position += 12 + int.from_bytes(header[:4], "big")
        if header[4:8] == b"IEND":
            if position < length:
                unsafe(path, "media.polyglot", "something follows the picture: export it again")
            return
    bad(path, "media.truncated", "its end is missing: export it again")


def bad(path: Path, code: str, message: str) -> NoReturn:
    """Raise BadMedia about a file."""
    raise BadMedia(f"{path}: {message}", code=code, where=str(path))


def unsafe(path: Path, code: str, message: str) -> NoReturn:
    """Raise UnsafeMedia about a file."""
    raise UnsafeMedia(f"{path}: {message}", code=code, where=str(path))
