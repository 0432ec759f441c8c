"""Where a stage runs: behind one interface, chosen by the operator."""

from __future__ import annotations

from operators.runtimes.base import OnEvent, Runtime
from operators.runtimes.local import LocalRuntime
from operators.runtimes.noop import NoopRuntime
from operators.runtimes.remote import HybridRuntime, RemoteRuntime

__all__ = [
    "HybridRuntime",
    "LocalRuntime",
    "NoopRuntime",
    "OnEvent",
    "RemoteRuntime",
    "Runtime",
]
