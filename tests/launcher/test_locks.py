"""``./understudy lock``: what becomes of torch."""

from __future__ import annotations

from include.cli import environments, locks


def test_torch_is_resolved_as_a_cpu_build_and_written_plain(tmp_path, monkeypatch):
    seen = []

    def run(command, name, settings=None, *, cwd=None):
        target = tmp_path / command[command.index("-o") + 1]
        seen.append(target.read_text())

    for name in ("ROOT", "ensure", "run", "current_uv_environment"):
        stand_in = {"ROOT": tmp_path, "run": run}.get(name, lambda *_: {})
        monkeypatch.setattr(locks, name, stand_in)
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(locks, "LOCKS", (("worker.txt", ("worker.in",)),))
    lock = tmp_path / "worker.txt"
    lock.write_text("numpy==1\ntorch==2.13.0\n")
    assert locks.lock([]) == 0
    assert seen == ["numpy==1\ntorch==2.13.0+cpu\n"]
    assert lock.read_text() == "numpy==1\ntorch==2.13.0\n"
