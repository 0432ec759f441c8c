"""The command line itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.cli import checks, launcher

PROJECT = Path(__file__).resolve().parents[2]
OLD_PYTHON = (
    "understudy",
    "include/__init__.py",
    *(f"include/cli/{n}.py" for n in ("checks", "environments", "lanes", "launcher", "locks")),
    "include/cli/pip_settings.py",
)


def understudy(*arguments, cwd=PROJECT):
    return subprocess.run(
        [sys.executable, str(PROJECT / "understudy"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", OLD_PYTHON)
def test_what_starts_us_parses_on_python_3_8(name):
    ast.parse((PROJECT / name).read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("name", OLD_PYTHON[2:])
def test_what_starts_us_needs_only_the_standard_library(name):
    for node in ast.walk(ast.parse((PROJECT / name).read_text())):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or module.startswith("include.cli."), module


def test_help_lists_every_command_from_anywhere(tmp_path):
    done = understudy("help", cwd=tmp_path)
    assert done.returncode == 0
    for name in launcher.COMMANDS:
        assert f"  {name} " in done.stdout


def test_an_unknown_command_is_a_usage_error():
    done = understudy("dance")
    assert done.returncode == 2
    assert "dance" in done.stderr


@pytest.mark.parametrize("name", launcher.PLANNED)
def test_a_planned_command_says_that_it_is_not_there(name):
    done = understudy(name)
    assert done.returncode == 2
    assert "not there yet" in done.stderr


def test_children_get_absolute_paths_and_the_projects_state(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_STORE", "store")
    monkeypatch.delenv("UNDERSTUDY_STATE", raising=False)
    env = launcher.child_environment()
    assert env["UNDERSTUDY_STORE"] == str(tmp_path / "store")
    assert env["UNDERSTUDY_STATE"] == str(PROJECT / ".understudy/state")
    assert env["PYTHONPATH"] == str(PROJECT)


class TestSplitOfTests:
    def test_paths_and_options_are_told_apart(self):
        paths, options = checks.split_arguments(["tests/launcher", "-k", "store", "-x"])
        assert paths == ["tests/launcher"]
        assert options == ["-k", "store", "-x"]

    @pytest.mark.parametrize(
        ("path", "environment"),
        [
            ("tests/dags/test_render_graph.py", "airflow"),
            ("tests/operators", "airflow"),
            ("tests/include/store", "worker"),
            ("tests/models", "worker"),
        ],
    )
    def test_a_path_runs_in_its_environment(self, path, environment):
        parts = checks.test_parts([path], [])
        assert parts == [(environment, None, [path])]

    def test_fast_tests_come_first_and_live_ones_last(self):
        parts = checks.test_parts([], [])
        assert [marker for _, marker, _ in parts] == [checks.FAST] * 2 + [checks.LATE] * 3
        live = next(targets for name, _, targets in parts[2:] if name == "airflow")
        assert live[-1] == "tests/live"

    def test_late_tests_are_run_once_each(self):
        late = []
        for _, marker, targets in checks.test_parts([], []):
            if marker == checks.LATE:
                left_out = [t.removeprefix("--ignore=") for t in targets if t.startswith("--")]
                files = [path for t in targets for path in (PROJECT / t).rglob("test_*.py")]
                late += [
                    f for f in files if not any(f.is_relative_to(PROJECT / t) for t in left_out)
                ]
        everything = (*checks.AIRFLOW_TESTS, *checks.WORKER_TESTS)
        assert sorted(late) == sorted(
            path for name in everything for path in (PROJECT / "tests" / name).rglob("test_*.py")
        )

    def test_every_directory_of_tests_is_run_somewhere(self):
        folders = {
            path.name
            for path in (PROJECT / "tests").iterdir()
            if path.is_dir() and any(path.rglob("test_*.py"))
        }
        assert folders <= {*checks.AIRFLOW_TESTS, *checks.WORKER_TESTS}

    def test_system_tests_need_leave(self, monkeypatch):
        monkeypatch.setenv("UNDERSTUDY_SYSTEM_TESTS", "1")
        assert "UNDERSTUDY_SYSTEM_TESTS" not in checks.test_environment(False)
        assert checks.test_environment(True)["UNDERSTUDY_SYSTEM_TESTS"] == "1"

    def test_the_users_store_and_airflow_are_kept_out(self, monkeypatch):
        monkeypatch.setenv("UNDERSTUDY_STORE", "/precious")
        monkeypatch.setenv("AIRFLOW_HOME", "/precious")
        env = checks.test_environment(False)
        assert "/precious" not in env.values()


def test_ci_runs_the_readmes_command_and_nothing_else():
    lines = (PROJECT / ".ci/run").read_text().splitlines()
    code = [line for line in lines if line and not line.startswith("#")]
    assert code[-1] == 'exec ./understudy test --system "$@"'
    assert os.access(PROJECT / ".ci/run", os.X_OK)
