from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from include.contracts.brief import Brief
from include.contracts.manifest import BackendRef, BlobRef
from include.contracts.plan import SourceRef
from include.errors import BadBrief, Usage
from include.keys import template_materials, upscaler_name
from models.registry import DECLARED_ENV, backend

ENTRY = {
    "name": "studio-x2",
    "stage": "upscale",
    "kind": "rrdb",
    "weights": "/models/studio.pth",
    "sha256": "5" * 64,
    "scale": 2,
    "margin": 24,
    "licence": "BSD-3-Clause",
    "origin": "trained by the studio",
}
VIDEO = SourceRef(blob=BlobRef(sha256="a" * 64, size=1, filename="source.mp4"), origin="ad.mp4")


def brief(tier: str = "final", **output: object) -> Brief:
    return Brief.model_validate(
        {
            "campaign": "spring",
            "tenant": "acme",
            "template": {"video": "ad.mp4"},
            "recipients": "r.csv",
            "tier": tier,
            "output": output,
        }
    )


def plate(chosen: Brief):
    return template_materials(chosen, {"video": VIDEO})["upscale_plate"]


@pytest.fixture
def declare(tmp_path, monkeypatch):
    def write(**changes: object) -> None:
        path = tmp_path / "backends.yaml"
        path.write_text(json.dumps({"backends": [{**ENTRY, **changes}]}))  # JSON is YAML
        monkeypatch.setenv(DECLARED_ENV, str(path))

    return write


@pytest.mark.parametrize(
    ("tier", "upscaler", "used"),
    [
        ("final", "auto", "compact"),
        ("preview", "auto", "lanczos"),
        ("final", "lanczos", "lanczos"),
        ("preview", "compact", "compact"),
    ],
)
def test_auto_goes_by_tier_and_a_name_holds_for_every_tier(tier, upscaler, used):
    assert upscaler_name(brief(tier, upscaler=upscaler)) == used


def test_keys_do_not_know_how_the_upscaler_was_chosen():
    compact = backend("upscale", "compact")
    silent = plate(brief())
    assert silent == plate(brief(upscaler="auto")) == plate(brief(upscaler="compact"))
    assert silent.params == {"scale": 2}
    assert silent.backend == BackendRef(
        name="compact", version=compact.version, weights_sha256=compact.weights_sha256
    )


def test_a_declared_upscaler_is_in_the_key_with_its_weights_and_margin(declare):
    declare()
    first = plate(brief("preview", upscaler="studio-x2"))
    assert first.backend is not None
    assert (first.backend.name, first.backend.weights_sha256) == ("studio-x2", "5" * 64)
    keys = {first.key()}
    for change in ({"sha256": "6" * 64}, {"margin": 8}):
        declare(**change)
        keys.add(plate(brief(upscaler="studio-x2")).key())
    assert len(keys) == 3
    declare(weights="s3://bucket/same-file.pth", licence="MIT")
    assert plate(brief(upscaler="studio-x2")).key() == first.key()


def test_an_unknown_upscaler_is_refused_with_the_field_and_what_there_is(declare):
    declare()
    with pytest.raises(BadBrief, match=r"output\.upscaler: .*'sharp'") as caught:
        upscaler_name(brief(upscaler="sharp"))
    assert caught.value.code == "brief.field"
    assert "auto, compact, lanczos, studio-x2" in caught.value.message


@pytest.mark.parametrize("scale", [1, 4])
def test_a_declared_upscaler_has_one_scale(declare, scale):
    declare()
    with pytest.raises(BadBrief, match=rf"output\.scale: {scale}, but .*studio-x2 enlarges by 2"):
        upscaler_name(brief(upscaler="studio-x2", scale=scale))


def test_a_broken_declaration_stops_only_those_who_name_an_upscaler(declare):
    declare(sha256="?")
    assert upscaler_name(brief()) == "compact"
    with pytest.raises(Usage, match="sha256"):
        upscaler_name(brief(upscaler="studio-x2"))


def test_what_cannot_be_a_name_is_refused_by_the_brief():
    with pytest.raises(ValidationError, match=r"output\.upscaler"):
        brief(upscaler="a/b")
