"""Reads the rules by which a rollout is decided."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from include.errors import Usage
from include.rollout.records import Rules

DEFAULT = Path(__file__).with_name("rules.yaml")


def read_rules(path: Path | None = None, *, share: float | None = None) -> Rules:
    """The rules of a file.

    Args:
        path: YAML as ``rules.yaml``, which is the default.
        share: of the canary, over the file's.

    Raises:
        Usage: ``rollout.rules``: it cannot be read; the message names the field.
    """
    path = path or DEFAULT
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        if share is not None and isinstance(data, dict):
            data["share"] = share
        return Rules.model_validate(data)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise Usage(f"rollout rules {path}: {text}", code="rollout.rules") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise Usage(f"rollout rules {path}: {problems}", code="rollout.rules") from error
