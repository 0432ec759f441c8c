"""Signing ends with a file that verifies, or with no file."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import c2pa
import pytest

from include.errors import BadMedia, ProvenanceError, Transient
from include.provenance import bmff
from include.provenance.identity import KeyIdentity
from include.provenance.manifest import Ingredient, Provenance, SafetySummary
from include.provenance.pki import development_identity
from include.provenance.sign import check_ingredient, sign_video
from include.provenance.verify import verify_video


def test_a_signed_video_says_what_was_done(signed: Path, identity: KeyIdentity) -> None:
    found = verify_video(signed, identity.anchors_pem)
    assert found.holds
    assert found.state == "Trusted"
    assert [action.action for action in found.actions] == [
        "c2pa.opened",
        "c2pa.placed",
        "c2pa.edited",
        "c2pa.edited",
        "c2pa.dubbed",
        "c2pa.enhanced",
        "c2pa.addedText",
        "c2pa.transcoded",
        "c2pa.published",
    ]
    titles = {item.title: item.relationship for item in found.ingredients}
    assert titles["template"] == "parentOf"
    assert set(titles.values()) == {"parentOf", "componentOf"}
    assert found.claims["com.understudy.safety"]["verdict"] == "pass"
    assert found.claims["com.understudy.consent"]["records"][0]["recordId"] == "c-17"
    dubbed = found.claims["c2pa.actions.v2"]["actions"][4]
    assert dubbed["changes"][0]["region"][0]["item"]["value"] == "lips"


def test_signing_changes_no_picture_or_sound(signed: Path, media: Path) -> None:
    def essence(path: Path) -> bytes:
        boxes, _ = bmff.top_level_boxes(path)
        data = path.read_bytes()
        return b"".join(data[b.offset : b.offset + b.size] for b in boxes if b.kind == b"mdat")

    assert essence(signed) == essence(media / "clip.mp4")


def test_what_was_not_done_is_not_claimed(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    plain = replace(
        provenance, lip_sync=None, voice_synthesis=None, upscale=None, captions=None, overlays=()
    )
    dst = tmp_path / "out.mp4"
    sign_video(media / "clip.mp4", dst, plain, ingredients[:2], identity)
    found = verify_video(dst, identity.anchors_pem)
    assert found.holds
    actions = {action.action for action in found.actions}
    assert not actions & {"c2pa.dubbed", "c2pa.enhanced", "c2pa.watermarked.bound"}
    assert "c2pa.soft-binding" not in found.claims


def _leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_key_of_another_leaf_leaves_no_file(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    other = development_identity(state=tmp_path / "other")
    mixed = replace(identity, key=other.key)
    out = tmp_path / "out"
    with pytest.raises(ProvenanceError, match="cannot be signed"):
        sign_video(media / "clip.mp4", out / "v.mp4", provenance, ingredients, mixed)
    assert _leftovers(out) == []


def test_a_signer_that_is_down_is_worth_a_retry_and_leaves_no_file(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    class Down:
        chain_pem, anchors_pem = identity.chain_pem, identity.anchors_pem

        def sign(self, tbs: bytes) -> bytes:
            raise Transient("the KMS does not answer")

    out = tmp_path / "out"
    with pytest.raises(Transient, match="KMS"):
        sign_video(media / "clip.mp4", out / "v.mp4", provenance, ingredients, Down())
    assert _leftovers(out) == []


def test_a_chain_that_does_not_reach_the_anchor_is_not_released(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    other = development_identity(state=tmp_path / "other")
    foreign = replace(identity, anchors_pem=other.anchors_pem)
    out = tmp_path / "out"
    with pytest.raises(ProvenanceError, match="untrusted"):
        sign_video(media / "clip.mp4", out / "v.mp4", provenance, ingredients, foreign)
    assert _leftovers(out) == []


def test_a_blocked_video_is_not_released(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    blocked = replace(provenance, safety=SafetySummary("p/1", "block", ()))  # type: ignore[arg-type]
    with pytest.raises(ProvenanceError, match="safety verdict is block"):
        sign_video(media / "clip.mp4", tmp_path / "v.mp4", blocked, ingredients, identity)
    assert _leftovers(tmp_path) == []


def test_an_existing_video_stays_when_signing_fails(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    dst = tmp_path / "v.mp4"
    dst.write_bytes(b"the earlier one")
    with pytest.raises(BadMedia):
        sign_video(tmp_path / "absent.mp4", dst, provenance, ingredients, identity)
    assert dst.read_bytes() == b"the earlier one"


def test_a_render_with_something_appended_is_not_signed(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
) -> None:
    src = tmp_path / "render.mp4"
    src.write_bytes((media / "clip.mp4").read_bytes() + b"PK\x03\x04 and more")
    with pytest.raises(BadMedia, match="not fit to be signed"):
        sign_video(src, tmp_path / "out" / "v.mp4", provenance, ingredients, identity)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_worth_a_retry_and_leaves_no_file(
    media: Path, tmp_path: Path, provenance: Provenance, ingredients: list[Ingredient]
) -> None:
    """A limit on file sizes stands for the full disk: writing fails in the same call."""
    program = tmp_path / "sign.py"
    program.write_text(
        "import pickle, resource, sys\n"
        "from pathlib import Path\n"
        "from include.errors import StoreUnavailable\n"
        "from include.provenance.pki import development_identity\n"
        "from include.provenance.sign import sign_video\n"
        "src, out, facts = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])\n"
        "provenance, ingredients = pickle.loads(facts.read_bytes())\n"
        "identity = development_identity(state=facts.parent / 'state')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try:\n"
        "    sign_video(src, out / 'v.mp4', provenance, ingredients, identity)\n"
        "except StoreUnavailable as error:\n"
        "    sys.exit(error.exit_code)\n"
    )
    facts, out = tmp_path / "facts.pickle", tmp_path / "out"
    facts.write_bytes(pickle.dumps((provenance, ingredients)))
    command = [sys.executable, str(program), str(media / "clip.mp4"), str(out), str(facts)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 75
    assert _leftovers(out) == []


@pytest.mark.parametrize(
    ("name", "mime"),
    [
        ("photo.jpg", "image/jpeg"),
        ("photo.png", "image/png"),
        ("photo.webp", "image/webp"),
        ("voice.wav", "audio/wav"),
        ("clip.mp4", "video/mp4"),
    ],
)
def test_each_kind_of_source_can_be_an_ingredient(media: Path, name: str, mime: str) -> None:
    item = Ingredient("x", "componentOf", "face", mime, media / name)
    assert check_ingredient(item) == "Unsigned"


def test_a_kind_that_c2pa_does_not_know_is_bad_media(media: Path) -> None:
    item = Ingredient("x", "componentOf", "face", "video/webm", media / "clip.mp4")
    with pytest.raises(BadMedia, match="cannot be an ingredient"):
        check_ingredient(item)


@pytest.fixture
def signed_photo(media: Path, tmp_path: Path, identity: KeyIdentity) -> Path:
    """A photo that somebody signed, with a thumbnail and a name inside."""
    manifest = {
        "claim_version": 2,
        "title": "portrait",
        "format": "image/jpeg",
        "claim_generator_info": [{"name": "camera", "version": "1"}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {
                    "actions": [
                        {
                            "action": "c2pa.created",
                            "digitalSourceType": "http://cv.iptc.org/newscodes/"
                            "digitalsourcetype/digitalCapture",
                        }
                    ]
                },
            },
            {"label": "org.example.owner", "data": {"name": "Ada Private"}},
        ],
    }
    settings = {"trust": {"trust_anchors": identity.anchors_pem}}
    path = tmp_path / "signed.jpg"
    signer = c2pa.Signer.from_callback(identity.sign, c2pa.C2paSigningAlg.ES256, identity.chain_pem)
    with (
        c2pa.Builder(manifest, context=c2pa.Context.from_dict(settings)) as builder,
        (media / "photo.jpg").open("rb") as source,
        path.open("w+b") as target,
    ):
        builder.sign(signer, "image/jpeg", source, target)
    return path


def test_a_signed_photo_is_checked_but_its_contents_do_not_travel(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
    signed_photo: Path,
) -> None:
    face = replace(ingredients[1], path=signed_photo)
    assert check_ingredient(face) == "Valid"
    dst = tmp_path / "v.mp4"
    sign_video(media / "clip.mp4", dst, provenance, [ingredients[0], face], identity)
    data = dst.read_bytes()
    assert b"Ada Private" in signed_photo.read_bytes()
    assert b"Ada Private" not in data
    assert b"thumbnail" not in data


def test_a_tampered_photo_is_refused(ingredients: list[Ingredient], signed_photo: Path) -> None:
    data = bytearray(signed_photo.read_bytes())
    data[-20] ^= 0xFF
    signed_photo.write_bytes(data)
    with pytest.raises(ProvenanceError, match="changed after it was signed") as caught:
        check_ingredient(replace(ingredients[1], path=signed_photo))
    assert caught.value.code == "provenance.ingredient"


def test_a_signed_template_keeps_its_history(
    media: Path,
    tmp_path: Path,
    identity: KeyIdentity,
    provenance: Provenance,
    ingredients: list[Ingredient],
    signed: Path,
) -> None:
    parts = [replace(ingredients[0], path=signed), *ingredients[1:]]
    dst = tmp_path / "v.mp4"
    sign_video(media / "clip.mp4", dst, provenance, parts, identity)
    found = verify_video(dst, identity.anchors_pem)
    assert found.holds
    assert [item.signed for item in found.ingredients if item.relationship == "parentOf"] == [True]


def test_no_name_path_or_photo_is_in_the_file(signed: Path, media: Path) -> None:
    data = signed.read_bytes()
    assert str(media).encode() not in data
    assert b"photo.jpg" not in data
    assert b"thumbnail" not in data
    assert json.dumps("spring-sale/recipient-0001").strip('"').encode() in data
