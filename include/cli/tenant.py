"""A tenant's name on a command line."""

from __future__ import annotations

import argparse

from pydantic import TypeAdapter, ValidationError

from include.contracts.base import Slug


def tenant(text: str) -> str:
    """The name, for ``type=``.

    Raises:
        argparse.ArgumentTypeError: nobody can be called that.
    """
    try:
        return TypeAdapter(Slug).validate_python(text)
    except ValidationError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no tenant's name: up to 64 letters, digits, '.', '_' and '-'"
        ) from None
