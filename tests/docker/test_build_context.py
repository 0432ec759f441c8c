"""What the Dockerfiles copy is let through by .dockerignore, and nothing that lies beside it."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from include.settings import PROJECT

pytestmark = pytest.mark.airflow

DOCKERFILES = [PROJECT / f"docker/{name}/Dockerfile" for name in ("worker", "airflow")]


def let_through():
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "all is kept out first"
    return [line[1:] for line in lines if line.startswith("!")]


def passes(path):
    """Whether the path or a folder that it is in is let through."""
    parts = ["/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 2)]
    return any(fnmatch(part, rule) for part in parts for rule in let_through())


def copied(dockerfile):
    for line in dockerfile.read_text().splitlines():
        if line.startswith("COPY ") and "--from=" not in line:
            yield from line.split()[1:-1]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_source_of_a_copy_exists_and_is_let_through(dockerfile):
    sources = list(copied(dockerfile))
    assert sources
    for source in sources:
        assert list(PROJECT.glob(source)), f"{source} is not there"
        assert passes(source), f"{source} is kept out by .dockerignore"


def test_settings_and_secrets_of_a_deployment_are_kept_out():
    for name in ("docker/.env", "docker/signer/key.pem", ".understudy/state", ".venv/x"):
        assert not passes(name)
