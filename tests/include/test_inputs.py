from __future__ import annotations

from pathlib import Path

import pytest

from include import inputs
from include.errors import BadBrief, BadMedia
from include.settings import Settings
from include.store import DirectoryStore


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        store=str(tmp_path / "store"),
        state=tmp_path / "state",
        roots=(tmp_path,),
        worker_python=Path("python"),
        nudity_python=Path("python"),
    )


@pytest.fixture
def bucket(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> inputs.StoreInputs:
    """A brief in an object store; a folder stands in for it."""
    store = DirectoryStore(tmp_path / "bucket")
    store.put("recipients.csv", b"id,face,consent")
    monkeypatch.setattr(inputs, "open_store", lambda uri: store)
    return inputs.StoreInputs("s3://bucket/brief.yaml", settings)


@pytest.mark.parametrize("name", ["./recipients.csv", "/recipients.csv", "a//b", "a/./b", "", "\n"])
def test_a_name_that_no_store_has_is_bad_media_however_it_is_read(
    bucket: inputs.StoreInputs, name: str
) -> None:
    assert bucket.read("recipients.csv") == b"id,face,consent"
    with pytest.raises(BadMedia) as caught:
        bucket.read(name)
    assert caught.value.code == "path.bad"
    assert repr(name) in caught.value.message
    for found in (bucket.read_many([name])[name], bucket.describe([name])[name]):
        assert isinstance(found, BadMedia)
        assert found.code == "path.bad"


@pytest.mark.parametrize("where", ["bucket", "folder"])
def test_no_more_is_read_of_a_file_than_is_asked_for(
    bucket: inputs.StoreInputs, settings: Settings, tmp_path: Path, where: str
) -> None:
    source: inputs.Inputs = bucket
    if where == "folder":
        source = inputs.LocalInputs(tmp_path / "bucket/brief.yaml", settings)
    whole = b"id,face,consent"
    assert source.read("recipients.csv", most=len(whole)) == whole
    assert source.read_many(["recipients.csv"], most=len(whole)) == {"recipients.csv": whole}
    with pytest.raises(BadMedia, match=r"recipients\.csv is larger than 14 bytes") as caught:
        source.read("recipients.csv", most=len(whole) - 1)
    assert caught.value.code == "file.too_large"
    found = source.read_many(["recipients.csv"], most=len(whole) - 1)["recipients.csv"]
    assert isinstance(found, BadMedia)
    assert found.code == "file.too_large"


def test_a_brief_whose_key_cannot_be_opened_is_a_bad_brief(settings: Settings) -> None:
    with pytest.raises(BadBrief, match="briefs"):
        inputs.open_inputs("s3://bucket/briefs/./brief.yaml", settings)
