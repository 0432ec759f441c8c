"""A process killed at any moment leaves nothing or a complete artifact, and a re-run finishes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from include.contracts.manifest import KeyMaterial
from include.store import ObjectStore
from include.store.cache import ArtifactCache

Python = Callable[..., "subprocess.Popen[str]"]
KILLS_A_RUN = 8

# One process imports everything once and forks the victims: a kill then costs milliseconds.
KILLER = """
import hashlib, itertools, json, os, random, signal, sys, time
from pathlib import Path
from include.contracts.manifest import KeyMaterial
from include.store import open_store
from include.store.cache import ArtifactCache

uri, folder, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
try:
    import boto3.s3.transfer
except ImportError:
    pass

def publish(cache, turn, number):
    files = {}
    for name in ("one", "two"):
        path = folder / f"{turn}-{number}-{name}"
        path.write_bytes(f"{turn} {number} {name}".encode() * 2000)
        files[name] = (path, "text/plain")
    material = KeyMaterial(stage="victim", stage_version=turn, params={"number": number})
    cache.publish(material, files, {"turn": turn, "number": number})

def victim(turn, say):
    cache = ArtifactCache(open_store(uri), "acme")
    cache.existing("victim")
    os.write(say, b"!")
    for number in itertools.count():
        os.write(say, b".")
        publish(cache, turn, number)

begun = []
chance = random.Random(int(sys.argv[4]))
for turn in range(rounds):
    listen, say = os.pipe()
    child = os.fork()
    if not child:
        os.close(listen)
        try:
            victim(turn, say)
        finally:
            os._exit(1)
    os.close(say)
    assert os.read(listen, 1) == b"!"
    time.sleep(chance.uniform(0.0, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    count = 0
    while got := os.read(listen, 4096):
        count += len(got)
    os.close(listen)
    begun.append(count)
print(json.dumps(begun))
"""


def test_killing_at_random_moments_leaves_nothing_or_a_complete_artifact(
    store: ObjectStore, store_uri: str, tmp_path: Path, python: Python
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for seed in ("1", "2"):
        child = python(KILLER, store_uri, str(scratch), str(KILLS_A_RUN), seed)
        begun: list[int] = json.loads(child.communicate()[0])
        assert sum(begun) > 0, "no victim got to work before it was killed"
        complete = _check(ArtifactCache(store, "acme"), begun, tmp_path / f"fetched-{seed}")
        # All that were finished before the last one begun must be there: the kill took only that.
        assert complete >= sum(max(0, count - 1) for count in begun)
        _finish(ArtifactCache(store, "acme"), begun, scratch)
    assert store.sweep(0) >= 0
    assert all(info.key.startswith(("acme/victim/", "acme/blob/")) for info in store.list())


def _material(turn: int, number: int) -> KeyMaterial:
    return KeyMaterial(stage="victim", stage_version=turn, params={"number": number})


def _content(turn: int, number: int, name: str) -> bytes:
    return f"{turn} {number} {name}".encode() * 2000


def _check(cache: ArtifactCache, begun: list[int], folder: Path) -> int:
    """Every artifact that exists is whole; return how many do."""
    complete = 0
    for turn, count in enumerate(begun):
        for number in range(count):
            manifest = cache.lookup("victim", _material(turn, number).key())
            if manifest is None:
                continue
            complete += 1
            assert manifest.facts == {"turn": turn, "number": number}
            for name in ("one", "two"):
                path = cache.fetch(manifest.outputs[name], folder)
                assert path.read_bytes() == _content(turn, number, name)
    return complete


def _finish(cache: ArtifactCache, begun: list[int], scratch: Path) -> None:
    """Run again what the kill interrupted; then all of it exists."""
    for turn, count in enumerate(begun):
        number = count - 1
        if count and cache.lookup("victim", _material(turn, number).key()) is None:
            files = {}
            for name in ("one", "two"):
                path = scratch / f"{turn}-{number}-{name}"
                path.write_bytes(_content(turn, number, name))
                files[name] = (path, "text/plain")
            facts = {"turn": turn, "number": number}
            cache.publish(_material(turn, number), files, facts)
        assert not count or cache.lookup("victim", _material(turn, number).key()) is not None
