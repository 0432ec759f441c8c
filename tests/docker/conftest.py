"""Airflow in a home of its own; documents below docker/, and Kubernetes' own schemas."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

import tests.support.airflow_home  # noqa: F401
from include.cli.environments import TOOLS
from include.settings import PROJECT

KUBERNETES = PROJECT / "docker/kubernetes"
VERSIONS = ("1.33", "1.35", "1.37")

VALIDATE = """
import json, sys
import kubernetes_validate as validator
wanted = json.load(sys.stdin)
for version in wanted["versions"]:
    for name, manifest in wanted["manifests"]:
        try:
            validator.validate(manifest, version, strict=True)
        except Exception as error:
            print(f"{name} ({version}): {type(error).__name__}: {str(error).splitlines()[:1]}")
"""


def documents(path: Path):
    """The documents of a YAML file."""
    return [part for part in yaml.safe_load_all(path.read_text()) if part]


def manifests():
    """Every object that ``kubectl apply -k docker/kubernetes`` makes, by file and name."""
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    return [
        (f"{name}/{part['kind']}/{part['metadata']['name']}", part)
        for name in kustomization["resources"]
        for part in documents(KUBERNETES / name)
    ]


@pytest.fixture(scope="session")
def validate():
    """Hold manifests against the schemas of three Kubernetes versions; gives what is wrong."""
    tools = Path(os.environ.get("UNDERSTUDY_TOOLS") or TOOLS.path / "bin")

    def check(named):
        done = subprocess.run(
            [str(tools / "python"), "-c", VALIDATE],
            input=json.dumps({"versions": VERSIONS, "manifests": named}),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()

    return check
