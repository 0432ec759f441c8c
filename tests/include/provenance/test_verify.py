"""The tamper matrix: whatever is changed after signing, or left out, does not verify."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import c2pa
import imageio_ffmpeg
import pytest

from include.errors import BadMedia, ProvenanceError
from include.provenance import bmff, jumbf
from include.provenance.identity import KeyIdentity
from include.provenance.manifest import Ingredient, Provenance, build_manifest
from include.provenance.pki import development_identity
from include.provenance.sign import _sign
from include.provenance.verify import main, require_verified, verify_video


def _box(path: Path, kind: bytes) -> bmff.Box:
    boxes, _ = bmff.top_level_boxes(path)
    return next(box for box in boxes if box.kind == kind)


def _flip(kind: bytes, at: float) -> Callable[[Path, bytearray], bytearray]:
    def change(path: Path, data: bytearray) -> bytearray:
        box = _box(path, kind)
        data[box.offset + box.header + int((box.size - box.header) * at)] ^= 0x01
        return data

    return change


def _replace(old: bytes, new: bytes) -> Callable[[Path, bytearray], bytearray]:
    def change(path: Path, data: bytearray) -> bytearray:
        assert old in data
        return bytearray(bytes(data).replace(old, new, 1))

    return change


def _append(tail: bytes) -> Callable[[Path, bytearray], bytearray]:
    return lambda path, data: data + tail


def _pad(path: Path, data: bytearray) -> bytearray:
    """Change a byte of the signature's padding, which nothing covers."""
    at = bytes(data).rindex(bytes(2000))
    data[at + 1000] = 0xAA
    return data


def _cut(path: Path, data: bytearray) -> bytearray:
    return data[:-1000]


def _two_stores(path: Path, data: bytearray) -> bytearray:
    box = _box(path, b"uuid")
    return data + data[box.offset : box.offset + box.size]


def _strip(path: Path, data: bytearray) -> bytearray:
    box = _box(path, b"uuid")
    data[box.offset + 4 : box.offset + 8] = b"free"
    data[box.offset + 8 : box.offset + box.size] = bytes(box.size - 8)
    return data


FREE_PAYLOAD = struct.pack(">I4s", 16, b"free") + b"malware!"
ZIP_PAYLOAD = struct.pack(">I4s", 16, b"zip ") + b"PK\x03\x04abcd"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_flip(b"mdat", 0.1), "bmffHash.mismatch", id="mdat start"),
        pytest.param(_flip(b"mdat", 0.9), "bmffHash.mismatch", id="mdat end"),
        pytest.param(_flip(b"moov", 0.5), "bmffHash.mismatch", id="moov"),
        pytest.param(
            _replace(b"gverdictdpass", b"gverdictdPASS"), "hashedURI.mismatch", id="verdict edited"
        ),
        pytest.param(_replace(b"lip sync", b"lip sinc"), "hashedURI.mismatch", id="action edited"),
        pytest.param(
            _replace(b"spring-sale/recipient-0001", b"spring-sale/recipient-0002"),
            "claimSignature.mismatch",
            id="claim edited",
        ),
        pytest.param(_pad, "padding was changed", id="signature padding"),
        pytest.param(_append(FREE_PAYLOAD), "is not empty", id="payload in free"),
        pytest.param(_append(ZIP_PAYLOAD), "unexpected box zip", id="unknown box"),
        pytest.param(_append(b"garbage"), "cut off or appended", id="garbage appended"),
        pytest.param(_cut, "cut off or appended", id="truncated"),
        pytest.param(_two_stores, "2 uuid boxes", id="two stores"),
        pytest.param(_flip(b"ftyp", 0.3), "file type box", id="minor brand"),
        pytest.param(_replace(b"ftypisom", b"ftypqt  "), "file type box", id="brand"),
        pytest.param(_strip, "no C2PA manifest", id="stripped"),
    ],
)
def test_a_changed_file_does_not_verify(
    signed: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    change: Callable[[Path, bytearray], bytearray],
    says: str,
) -> None:
    path = tmp_path / "changed.mp4"
    path.write_bytes(change(signed, bytearray(signed.read_bytes())))
    found = verify_video(path, identity.anchors_pem)
    assert not found.holds
    assert any(says in failure for failure in found.failures), found.failures


def test_no_flipped_bit_goes_unnoticed(signed: Path, tmp_path: Path, identity: KeyIdentity) -> None:
    source, seed = signed.read_bytes(), random.Random(7)
    path = tmp_path / "flipped.mp4"
    boxes, _ = bmff.top_level_boxes(signed)
    for box in boxes:
        for _ in range(60 if box.kind == b"uuid" else 12):
            data = bytearray(source)
            at = box.offset + seed.randrange(box.size)
            data[at] ^= 1 << seed.randrange(8)
            path.write_bytes(data)
            try:
                holds = verify_video(path, identity.anchors_pem).holds
            except BadMedia:
                holds = False
            assert not holds, f"{box.kind!r} byte {at - box.offset}"


def test_a_conversion_loses_the_manifest(
    signed: Path, tmp_path: Path, identity: KeyIdentity
) -> None:
    copy = tmp_path / "copy.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(signed)]
    subprocess.run([*command, "-c", "copy", str(copy)], check=True, stdin=subprocess.DEVNULL)
    assert verify_video(copy, identity.anchors_pem).state == "Unsigned"


def test_another_videos_manifest_does_not_fit(
    signed: Path, tmp_path: Path, identity: KeyIdentity
) -> None:
    """The store of one video put into another, which differs by one sample."""
    data = bytearray(signed.read_bytes())
    box = _box(signed, b"mdat")
    data[box.offset + box.size // 2] ^= 0xFF
    path = tmp_path / "other.mp4"
    path.write_bytes(data)
    assert verify_video(path, identity.anchors_pem).state == "Invalid"


@pytest.mark.parametrize("foreign", [True, False], ids=["foreign anchor", "no anchor"])
def test_without_its_own_anchor_a_video_is_not_trusted(
    signed: Path, tmp_path: Path, foreign: bool
) -> None:
    anchors = development_identity(state=tmp_path).anchors_pem if foreign else ""
    found = verify_video(signed, anchors)
    assert found.state == "Valid"
    assert not found.holds
    assert any("untrusted" in failure for failure in found.failures)


def test_a_tampered_ingredient_shows_in_the_signed_video(
    signed: Path,
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    """A signer that does not check its ingredients is caught by whoever verifies."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(_flip(b"mdat", 0.5)(signed, bytearray(signed.read_bytes())))
    template = replace(ingredients[0], path=bad)
    clip, path = media / "clip.mp4", tmp_path / "v.mp4"
    boxes, _ = bmff.top_level_boxes(clip)
    definition = build_manifest(provenance, [template], bmff.file_type(clip, boxes))
    _sign(clip, path, definition, template, identity)
    found = verify_video(path, identity.anchors_pem)
    assert found.state == "Trusted"
    assert any("ingredient template" in failure for failure in found.failures)


def test_claims_outside_the_vocabulary_do_not_verify(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    clip, path = media / "clip.mp4", tmp_path / "v.mp4"
    boxes, _ = bmff.top_level_boxes(clip)
    definition = build_manifest(provenance, ingredients[:1], bmff.file_type(clip, boxes))
    definition["assertions"][0]["data"]["actions"].append({"action": "c2pa.beautified"})
    del definition["assertions"][2]
    _sign(clip, path, definition, ingredients[0], identity)
    found = verify_video(path, identity.anchors_pem)
    assert found.state == "Trusted"
    assert any("unknown action c2pa.beautified" in failure for failure in found.failures)
    assert any("safety verdict is missing" in failure for failure in found.failures)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"hello, this is text", "does not begin like an MP4"),
        (b"\x00\x00\x00\x08moov", "does not begin like an MP4"),
        (b"\x00\x00", "does not begin like an MP4"),
    ],
    ids=["empty", "text", "no ftyp", "two bytes"],
)
def test_what_is_no_mp4_is_unreadable(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(BadMedia, match=says):
        verify_video(path, "")


def test_require_verified_lists_what_fails(media: Path, identity: KeyIdentity) -> None:
    with pytest.raises(ProvenanceError, match="Unsigned"):
        require_verified(media / "clip.mp4", identity.anchors_pem)


def test_the_command_line_exits_0_only_for_a_video_that_holds(
    signed: Path,
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    capsys: pytest.CaptureFixture[str],
) -> None:
    anchors = tmp_path / "anchors.pem"
    anchors.write_text(identity.anchors_pem)
    rest = ["--anchors", str(anchors)]
    assert main([str(signed), *rest]) == 0
    shown = capsys.readouterr().out
    assert "everything holds" in shown
    assert "pass under understudy-safety/1" in shown
    assert main([str(media / "clip.mp4"), *rest]) == 77
    assert "never signed" in capsys.readouterr().out
    assert main([str(tmp_path / "absent.mp4"), *rest]) == 65
    assert "absent.mp4" in capsys.readouterr().err
    assert main([str(signed), str(media / "clip.mp4"), *rest]) == 77
    capsys.readouterr()
    assert main([str(signed), "--json", *rest]) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is True


def test_the_command_line_trusts_the_development_root_by_default(
    signed: Path, tmp_path: Path, identity: KeyIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path))
    monkeypatch.delenv("UNDERSTUDY_TRUST_ANCHORS", raising=False)
    assert main([str(signed)]) == 77
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki/root.crt").write_text(identity.anchors_pem)
    assert main([str(signed)]) == 0


def test_the_module_is_the_command(signed: Path, media: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "include.provenance.verify"]
    environment = {**os.environ, "UNDERSTUDY_STATE": str(tmp_path)}
    for video, status in ((media / "clip.mp4", 77), (tmp_path / "absent.mp4", 65)):
        done = subprocess.run(
            [*command, str(video)], env=environment, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == status


def test_the_library_version_is_the_one_that_was_examined() -> None:
    assert c2pa.sdk_version().startswith("0.91")


@pytest.mark.parametrize(
    "data", [b"\x9f\xff", b"\x58", b"\x81" * 40, b"\x9b" + b"\xff" * 8, b"\xa1\x80\x00"]
)
def test_malformed_cbor_is_refused(data: bytes) -> None:
    with pytest.raises(jumbf.Malformed):
        jumbf.decode_cbor(data)


def test_cbor_values_are_read() -> None:
    value, end = jumbf.decode_cbor(bytes.fromhex("a2616101626263820220f5"[:-2] + "20"))
    assert value == {"a": 1, "bc": [2, -1]}
    assert end == 10
