"""What every object store promises, on every backend."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event

import pytest

from include.errors import CorruptArtifact, Usage
from include.store import ObjectMissing, ObjectStore, open_store

UNICODE_KEYS = [
    "acme/名前/ビデオ.mp4",
    "acme/composed \u00e9",
    "acme/composed e\u0301",  # looks the same and is another key
    "acme/with space/a+b&c=d#e?f%20g.txt",
    "acme/emoji/🎬",
    "acme/مرحبا/שלום",
]
BAD_KEYS = {
    "empty": "",
    "absolute": "/etc/passwd",
    "parent": "a/../../b",
    "only parent": "..",
    "here": "a/./b",
    "empty segment": "a//b",
    "trailing slash": "a/",
    "newline": "a\nb",
    "nul": "a\0b",
    "delete": "a\x7fb",
    "backslash": "a\\..\\b",
    "too long": "/".join(["x" * 200] * 6),
    "long segment": "é" * 128,
    "surrogate": "a\ud800",
    "temporary": ".tmp/x",
}
LARGE = (33 << 20) + 1


def test_an_object_reads_back_as_written(store: ObjectStore) -> None:
    store.put("a/b", b"one")
    assert store.get("a/b") == b"one"
    assert b"".join(store.chunks("a/b")) == b"one"


def test_an_empty_object_is_an_object(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a/empty", b"")
    store.get_file("a/empty", tmp_path / "out")
    info = store.head("a/empty")
    assert info is not None
    assert info.size == 0
    assert store.get("a/empty") == b""
    assert (tmp_path / "out").read_bytes() == b""


def test_put_replaces(store: ObjectStore) -> None:
    store.put("a/b", b"one")
    before = store.head("a/b")
    store.put("a/b", b"two!")
    after = store.head("a/b")
    assert store.get("a/b") == b"two!"
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


def test_head_tells_key_size_and_when_in_utc(store: ObjectStore) -> None:
    store.put("a/b", b"12345")
    info = store.head("a/b")
    assert info is not None
    assert (info.key, info.size) == ("a/b", 5)
    assert info.modified.tzinfo is not None
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=1)


def test_a_missing_object_is_told_apart_from_an_unreachable_store(
    store: ObjectStore, tmp_path: Path
) -> None:
    store.put("other", b"")
    reads: list[Callable[[], object]] = [
        lambda: store.get("no/such"),
        lambda: list(store.chunks("no/such")),
        lambda: store.get_file("no/such", tmp_path / "out"),
        lambda: store.copy("no/such", "b"),
        lambda: store.get("other/below"),
    ]
    for read in reads:
        with pytest.raises(ObjectMissing, match="Run the stage that makes it again") as caught:
            read()
        assert caught.value.code == "store.missing"
        assert isinstance(caught.value, CorruptArtifact)
    assert store.head("no/such") is None
    assert store.head("other/below") is None
    assert store.head("b") is None
    assert list(tmp_path.glob("*out*")) == []
    assert list(tmp_path.glob(".*")) == []


def test_delete_is_idempotent_and_listing_forgets(store: ObjectStore) -> None:
    store.put("a/b/c", b"x")
    store.put("a/d", b"x")
    store.delete("a/b/c")
    store.delete("a/b/c")
    assert [info.key for info in store.list()] == ["a/d"]


def test_put_if_absent_creates_once_and_never_replaces(store: ObjectStore) -> None:
    assert store.put_if_absent("a/b", b"first")
    assert not store.put_if_absent("a/b", b"second")
    assert store.get("a/b") == b"first"
    store.delete("a/b")
    assert store.put_if_absent("a/b", b"third")


def test_eight_threads_racing_to_create_have_one_winner(store: ObjectStore) -> None:
    ways, rounds = 8, 12
    barrier = Barrier(ways)

    def race(me: int) -> list[bool]:
        won = []
        for turn in range(rounds):
            barrier.wait()
            won.append(store.put_if_absent(f"race/{turn}", b"%d" % me * 1000))
        return won

    with ThreadPoolExecutor(ways) as pool:
        results = list(pool.map(race, range(ways)))
    for turn in range(rounds):
        winners = [me for me in range(ways) if results[me][turn]]
        assert len(winners) == 1, f"winners: {winners}"
        assert store.get(f"race/{turn}") == b"%d" % winners[0] * 1000


RACER = """
import sys
from include.store import open_store
uri, me = sys.argv[1:]
store = open_store(uri)
store.head("warm-up")
print("ready", flush=True)
sys.stdin.readline()
won = [turn for turn in range(25) if store.put_if_absent(f"race/{turn}", me.encode())]
print(*won, flush=True)
"""


def test_processes_racing_to_create_have_one_winner(
    store: ObjectStore, store_uri: str, python: Callable[..., object]
) -> None:
    racers = [python(RACER, store_uri, str(me)) for me in range(3)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"  # type: ignore[attr-defined]
    for racer in racers:
        racer.stdin.write("go\n")  # type: ignore[attr-defined]
        racer.stdin.flush()  # type: ignore[attr-defined]
    won = {
        str(me): {int(turn) for turn in racer.stdout.readline().split()}  # type: ignore[attr-defined]
        for me, racer in enumerate(racers)
    }
    assert sorted(turn for turns in won.values() for turn in turns) == list(range(25))
    for me, turns in won.items():
        assert all(store.get(f"race/{turn}") == me.encode() for turn in turns)


def test_list_is_sorted_by_the_bytes_of_the_key(store: ObjectStore) -> None:
    keys = ["b", "a/b", "a.b", "a-b/c", "a0", "a/z", "a/a/a", "A", "ä", "z/é", "ｚ", "𐀀"]
    for key in keys:
        store.put(key, b"")
    assert [info.key for info in store.list()] == sorted(keys, key=str.encode)


def test_a_prefix_is_any_beginning_of_a_key(store: ObjectStore) -> None:
    for key in ("abc", "ab/d/e", "ab/c", "b"):
        store.put(key, b"x" * len(key))
    for prefix, expected in {
        "": ["ab/c", "ab/d/e", "abc", "b"],
        "a": ["ab/c", "ab/d/e", "abc"],
        "ab": ["ab/c", "ab/d/e", "abc"],
        "ab/": ["ab/c", "ab/d/e"],
        "ab/d": ["ab/d/e"],
        "ab/d/e": ["ab/d/e"],
        "ab/x": [],
        "no/where/": [],
        "b/": [],
    }.items():
        found = list(store.list(prefix))
        assert [info.key for info in found] == expected, prefix
        assert [info.size for info in found] == [len(key) for key in expected]
        assert all(store.head(info.key) == info for info in found)


def test_an_empty_store_lists_nothing(store: ObjectStore) -> None:
    assert list(store.list()) == []
    assert list(store.list("a/")) == []


def test_keys_in_any_script_stay_as_they_are(store: ObjectStore) -> None:
    for number, key in enumerate(UNICODE_KEYS):
        store.put(key, b"%d" % number)
    assert {info.key for info in store.list("acme/")} == set(UNICODE_KEYS)
    for number, key in enumerate(UNICODE_KEYS):
        assert store.get(key) == b"%d" % number
        store.copy(key, f"copy/{number}")
        assert store.get(f"copy/{number}") == b"%d" % number
        with urllib.request.urlopen(store.presign(key, 60)) as reply:
            assert reply.read() == b"%d" % number


def test_a_key_that_could_escape_or_confuse_is_refused_by_every_method(
    store: ObjectStore, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    store.put("good", b"x")
    calls: dict[str, Callable[[str], object]] = {
        "get": store.get,
        "chunks": lambda key: list(store.chunks(key)),
        "get_file": lambda key: store.get_file(key, tmp_path / "out"),
        "put": lambda key: store.put(key, b"x"),
        "put_file": lambda key: store.put_file(key, source),
        "put_if_absent": lambda key: store.put_if_absent(key, b"x"),
        "head": store.head,
        "delete": store.delete,
        "copy to": lambda key: store.copy("good", key),
        "copy from": lambda key: store.copy(key, "other"),
        "presign": lambda key: store.presign(key, 60),
    }
    for what, key in BAD_KEYS.items():
        for method, call in calls.items():
            with pytest.raises(Usage, match="object key") as caught:
                call(key)
            assert caught.value.code == "store.key", f"{method} of a key that is {what}"
    for prefix in ("../", "/", "a/../", ".tmp/", "a\n"):
        with pytest.raises(Usage, match="object key"):
            list(store.list(prefix))
    assert [info.key for info in store.list()] == ["good"]


def test_a_large_file_travels_whole_in_every_direction(store: ObjectStore, tmp_path: Path) -> None:
    source, back, copied = (tmp_path / name for name in ("source", "back", "copied"))
    block = bytes(range(256)) * 4096
    with open(source, "wb") as file:
        for part in range(LARGE // len(block) + 1):
            file.write(part.to_bytes(4, "big") + block[4:])
        file.truncate(LARGE)
    store.put_file("big/file", source)
    store.copy("big/file", "big/copy")
    info = store.head("big/copy")
    store.get_file("big/file", back)
    store.get_file("big/copy", copied)
    expected = source.read_bytes()
    assert info is not None
    assert info.size == LARGE
    assert back.read_bytes() == expected
    assert copied.read_bytes() == expected
    assert b"".join(store.chunks("big/file")) == expected


def test_get_file_replaces_what_was_there(store: ObjectStore, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"something longer than the object")
    store.put("a", b"new")
    store.get_file("a", target)
    assert target.read_bytes() == b"new"
    assert list(tmp_path.glob(".*")) == []


def test_copying_an_object_onto_itself_keeps_it(store: ObjectStore) -> None:
    store.put("a", b"x")
    store.copy("a", "a")
    assert store.get("a") == b"x"


def test_a_reader_beside_a_writer_sees_whole_objects_only(store: ObjectStore) -> None:
    contents = {bytes([letter]) * 200_000 for letter in b"abc"}
    store.put("busy", next(iter(contents)))
    done = Event()

    def write() -> None:
        for _ in range(5):
            for content in contents:
                store.put("busy", content)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set():
            assert store.get("busy") in contents
        writing.result()


def test_deleting_and_creating_side_by_side_disturb_each_other_not(store: ObjectStore) -> None:
    def churn(me: int) -> None:
        for turn in range(15):
            key = f"deep/er/still/{turn % 3}/{me}"
            assert store.put_if_absent(key, b"x")
            assert store.get(key) == b"x"
            store.delete(key)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(churn, range(6)))
    assert list(store.list()) == []


def test_the_uri_opens_the_same_store(store: ObjectStore) -> None:
    store.put("a/b", b"x")
    again = open_store(store.uri)
    assert again.get("a/b") == b"x"
    assert again.uri == store.uri
