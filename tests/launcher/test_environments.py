"""Environments are made once, remade when they are broken or out of date."""

from __future__ import annotations

import json

import pytest

from include.cli import environments
from include.cli.environments import Environment, SetupError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with tiny locks; what would be run is written down instead."""
    (tmp_path / "tests/locks").mkdir(parents=True)
    (tmp_path / "base.txt").write_text("a==1\n")
    (tmp_path / "tests/locks/base.txt").write_text("a==1\nb==2\n")
    (tmp_path / "tests/locks/tools.txt").write_text("moto==5\nruff==1.0\nuv==2.0\n")
    env = Environment("base", "base.txt", "tests/locks/base.txt")
    commands = []

    def run(command, name, settings=None, *, cwd=None):
        commands.append(command)
        if "venv" in command:
            python = environments.Path(command[-1]) / "bin/python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
            (python.parent / "pip").touch()
        if name == "tools":
            (environments.TOOLS.path / "bin/uv").touch()

    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "ENVIRONMENTS", {"base": env})
    monkeypatch.setattr(environments, "run", run)
    monkeypatch.setattr(environments, "current_uv_environment", lambda python: {})
    monkeypatch.setenv("UNDERSTUDY_ENVIRONMENTS", str(tmp_path / "venvs"))
    return env, commands


def test_the_second_time_nothing_is_run(project):
    _, commands = project
    environments.ensure(["base"])
    assert len(commands) == 4  # tools: venv, pip; base: venv, install
    commands.clear()
    environments.ensure(["base"])
    assert commands == []


def test_bytecode_is_compiled_and_locks_are_taken_as_complete(project):
    _, commands = project
    environments.ensure(["base"])
    assert "--compile-bytecode" in commands[-1]
    assert "--no-deps" in commands[-1]


def test_a_changed_lock_remakes_the_environment(project, tmp_path):
    _, commands = project
    environments.ensure(["base"])
    commands.clear()
    (tmp_path / "base.txt").write_text("a==2\n")
    environments.ensure(["base"])
    assert [command[1] for command in commands] == ["venv", "pip"]


def test_a_half_made_environment_is_remade(project, monkeypatch):
    env, commands = project
    good = environments.run

    def breaks(command, name, settings=None, *, cwd=None):
        if name == "base" and "pip" in command:
            raise SetupError("no network")
        good(command, name, settings, cwd=cwd)

    monkeypatch.setattr(environments, "run", breaks)
    with pytest.raises(SetupError, match="no network"):
        environments.ensure(["base"])
    assert not environments.is_ready(env)
    monkeypatch.setattr(environments, "run", good)
    commands.clear()
    environments.ensure(["base"])
    assert [command[1] for command in commands] == ["venv", "pip"]
    assert environments.is_ready(env)


def test_an_environment_without_its_interpreter_is_remade(project):
    env, commands = project
    environments.ensure(["base"])
    env.python.unlink()
    commands.clear()
    environments.ensure(["base"])
    assert commands[0][1] == "venv"


def test_tests_add_their_packages_to_an_environment_that_is_there(project):
    env, commands = project
    environments.ensure(["base"])
    commands.clear()
    environments.ensure(["base"], tests=True)
    assert not any(command[1] == "venv" for command in commands)
    assert commands[-1][-1].endswith("tests/locks/base.txt")
    assert environments.is_ready(env)
    commands.clear()
    environments.ensure(["base"])
    environments.ensure(["base"], tests=True)
    assert commands == []


def test_a_garbled_stamp_counts_as_none(project):
    env, _ = project
    environments.ensure(["base"])
    (env.path / environments.STAMP).write_text("{")
    assert not environments.is_ready(env)


def test_only_locks_without_addresses_are_in_the_repository():
    for name in ("requirements.txt", "docker/worker/requirements.txt", "tests/locks/tools.txt"):
        text = (environments.ROOT / name).read_text()
        assert "://" not in text
        assert "--" not in text


def test_the_worker_lock_names_torch_without_a_local_version():
    assert environments.pinned("docker/worker/requirements.txt", "torch") == "2.13.0"


def test_tools_are_pinned():
    assert environments.pinned("tests/locks/tools.txt", "uv")
    with pytest.raises(SetupError, match="no-such"):
        environments.pinned("tests/locks/tools.txt", "no-such")


def test_torch_is_asked_for_as_a_cpu_build_unless_one_is_at_hand(tmp_path, monkeypatch):
    lock = "docker/worker/requirements.txt"
    assert environments.torch_options(lock, {}) == ["--torch-backend", "cpu"]
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert environments.torch_options(lock, {"UV_FIND_LINKS": str(tmp_path)}) == []
    assert environments.torch_options(lock, {"UV_TORCH_BACKEND": "cu128"}) == []
    assert environments.torch_options("requirements.txt", {}) == []


def test_a_stamp_names_the_locks(project):
    env, _ = project
    environments.ensure(["base"], tests=True)
    held = json.loads((env.path / environments.STAMP).read_text())
    assert set(held) == {"base.txt", "tests/locks/base.txt"}
