"""Signing: a verified file at the destination, or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import c2pa

from include.errors import BadMedia, ProvenanceError, StoreUnavailable, UnderstudyError
from include.provenance import bmff
from include.provenance.context import c2pa_context
from include.provenance.identity import SigningIdentity
from include.provenance.lint import lint_manifest
from include.provenance.manifest import Ingredient, Provenance, build_manifest
from include.provenance.verify import MIME, require_verified

KINDS = frozenset(
    {"video/mp4", "video/quicktime", "image/jpeg", "image/png", "image/webp", "audio/wav"}
)
"""Media types that an ingredient may have."""


@dataclass(frozen=True)
class SignedFacts:
    """What the signing stage records about a signed video."""

    sha256: str
    size: int
    manifest_bytes: int
    """Size of the C2PA manifest store, in bytes."""
    state: str
    signer: str
    """Common name of the leaf certificate."""
    title: str
    ingredients: tuple[str, ...]


def sign_video(
    src: Path,
    dst: Path,
    provenance: Provenance,
    ingredients: Sequence[Ingredient],
    identity: SigningIdentity,
) -> SignedFacts:
    """Sign an MP4 and put it at ``dst`` once it verifies as Trusted against the signer's anchors.

    The template's own manifest, when it has one, rides along; those of photos and voices do not,
    because they may hold thumbnails and names: such an ingredient is checked, then listed by id.

    Args:
        src: the unsigned render.
        dst: where the signed video goes; replaced only by a file that verifies.
        provenance: what the manifest says.
        ingredients: one ``parentOf`` (the template), any components.
        identity: who signs.

    Raises:
        BadMedia: a file cannot be read or is of a kind that cannot be signed.
        ProvenanceError: an ingredient is tampered with, the signature fails, or the result does
            not verify.
        StoreUnavailable: there is no space for the result.
        Transient: the signing service cannot be reached.
    """
    boxes, leftover = bmff.top_level_boxes(src)
    unfit = bmff.container_problems(src, boxes, leftover)
    if unfit:
        raise BadMedia(
            f"{src.name} is not fit to be signed: {'; '.join(unfit)}; render it again",
            code="video.container",
            where=src.name,
        )
    definition = build_manifest(provenance, ingredients, bmff.file_type(src, boxes))
    problems = lint_manifest(definition)
    if problems:
        raise ProvenanceError(
            f"the manifest of {provenance.title} uses unknown vocabulary: {'; '.join(problems)}",
            code="provenance.vocabulary",
        )
    for item in ingredients:
        check_ingredient(item)
    definition["ingredients"] = [
        {
            "title": item.title,
            "format": item.mime,
            "relationship": item.relationship,
            "label": item.label,
        }
        for item in ingredients
        if item.relationship == "componentOf"
    ]
    template = next(item for item in ingredients if item.relationship == "parentOf")
    dst.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=dst.parent, prefix=f".{dst.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        store = _sign(src, part, definition, template, identity)
        found = require_verified(part, identity.anchors_pem, name=dst.name)
        size = part.stat().st_size
        part.chmod(0o644)
        part.replace(dst)
    finally:
        part.unlink(missing_ok=True)
    return SignedFacts(
        sha256=found.sha256,
        size=size,
        manifest_bytes=len(store),
        state=found.state,
        signer=found.signer,
        title=found.title,
        ingredients=tuple(item.title for item in found.ingredients),
    )


def check_ingredient(item: Ingredient) -> str:
    """Refuse an ingredient whose own manifest does not hold; one without a manifest is fine.

    Returns:
        ``Unsigned``, ``Valid`` or ``Trusted``.

    Raises:
        BadMedia: the file is missing or of a kind that C2PA does not know.
        ProvenanceError: its manifest says that it was changed.
    """
    if item.mime not in KINDS:
        raise BadMedia(
            f"{item.title}: {item.mime} cannot be an ingredient; use MP4, JPEG, PNG, WebP or WAV",
            code="provenance.kind",
            where=item.title,
        )
    try:
        with (
            c2pa_context("") as context,
            item.path.open("rb") as stream,
            c2pa.Reader(item.mime, stream, context=context) as reader,
        ):
            state = str(reader.get_validation_state() or "Invalid")
    except OSError as error:
        raise BadMedia(
            f"{item.title}: {error.strerror}; fetch it again", where=item.title
        ) from error
    except c2pa.C2paError.ManifestNotFound:
        return "Unsigned"
    except c2pa.C2paError as error:
        raise _tampered(item, str(error)) from error
    if state == "Invalid":
        raise _tampered(item, "its content or its manifest was changed after it was signed")
    return state


def _tampered(item: Ingredient, why: str) -> ProvenanceError:
    return ProvenanceError(
        f"{item.title} carries a C2PA manifest that does not hold ({why}); ask for the original",
        code="provenance.ingredient",
        where=item.title,
    )


class _Callback:
    """The signer's callback; keeps the error that the library would swallow."""

    def __init__(self, identity: SigningIdentity) -> None:
        self._identity = identity
        self.error: UnderstudyError | None = None

    def __call__(self, tbs: bytes) -> bytes:
        try:
            return self._identity.sign(tbs)
        except UnderstudyError as error:
            self.error = error
            return b""


def _sign(
    src: Path,
    part: Path,
    definition: dict[str, object],
    template: Ingredient,
    identity: SigningIdentity,
) -> bytes:
    callback = _Callback(identity)
    parent = {
        "title": template.title,
        "relationship": template.relationship,
        "label": template.label,
    }
    try:
        with (
            c2pa_context(identity.anchors_pem) as context,
            c2pa.Signer.from_callback(
                callback, c2pa.C2paSigningAlg.ES256, identity.chain_pem
            ) as signer,
            c2pa.Builder(definition, context=context) as builder,
            template.path.open("rb") as parent_stream,
            src.open("rb") as source,
            part.open("w+b") as target,
        ):
            builder.add_ingredient(parent, template.mime, parent_stream)
            return bytes(builder.sign(signer, MIME, source, target))
    except OSError as error:
        raise BadMedia(f"{src.name}: {error.strerror}; render it again", where=src.name) from error
    except c2pa.C2paError as error:
        if callback.error is not None:
            raise callback.error from error
        if isinstance(error, c2pa.C2paError.Io):
            raise StoreUnavailable(
                f"the signed copy of {src.name} cannot be written to {part.parent} ({error}); "
                "free some space there"
            ) from error
        raise ProvenanceError(
            f"{src.name} cannot be signed: {error}; check the signer's key and chain",
            code="provenance.sign",
            where=src.name,
        ) from error
