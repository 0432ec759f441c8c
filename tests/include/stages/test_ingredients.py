"""What a signed video is made from, whatever its sources are called."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from include.inputs import ref_of_bytes
from include.provenance.sign import check_ingredient
from include.stages.sign import ingredients_of
from tests.support.tiny import template_frames, write_video


def ingredients(folder: Path, video: tuple[str, bytes], face: tuple[str, bytes]):
    """Those of a row whose sources are called so and hold that."""
    files = {}
    for what, (name, data) in {"video": video, "face": face}.items():
        blob = ref_of_bytes(name, data)
        path = folder / what / blob.filename
        path.parent.mkdir()
        path.write_bytes(data)
        files[what] = (path, SimpleNamespace(blob=blob))
    sources = {what: source for what, (_, source) in files.items()}
    unit = SimpleNamespace(sources=sources, lip_sync=False)
    return ingredients_of(
        SimpleNamespace(
            unit=unit,
            shard=SimpleNamespace(template=unit),
            scratch=folder,
            source=lambda name, of_template=False: files[name][0],
        )
    )


def photo(kind: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (90, 60, 30)).save(data, kind)
    return data.getvalue()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("videos")
    frames = list(template_frames())[:5]
    return {kind: write_video(folder / f"a.{kind}", frames).read_bytes() for kind in ("mp4", "mkv")}


@pytest.mark.parametrize("name", ["ad.mp4", "ad.mkv", "ad.mov", "ad.jpg", "ad"])
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_a_template_is_embedded_by_its_content_not_by_its_name(
    tmp_path: Path, videos: dict[str, bytes], kind: str, name: str
) -> None:
    made = ingredients(tmp_path, (name, videos[kind]), ("a.jpg", photo("JPEG")))
    assert check_ingredient(made[0]) == "Unsigned"
    remuxed = made[0].path.parent == tmp_path
    assert remuxed == (kind == "mkv"), "a signed MP4 keeps its history only as it is"
    named_so = name == "ad.mov" and kind == "mp4"
    assert made[0].mime == ("video/quicktime" if named_so else "video/mp4")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_embedded_by_its_content_not_by_its_name(
    tmp_path: Path, videos: dict[str, bytes], kind: str, name: str
) -> None:
    made = ingredients(tmp_path, ("ad.mp4", videos["mp4"]), (name, photo(kind)))
    assert made[1].mime == f"image/{kind.lower()}"
    assert check_ingredient(made[1]) == "Unsigned"
