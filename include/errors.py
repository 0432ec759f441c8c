"""What can go wrong, drawn as a tree; a class is a recovery decision.

::

    UnderstudyError                 exit code   what the operator does
    ├── BadInput                    65          never retried: the row or file must change
    │   ├── BadBrief                            the brief or the recipients table is wrong
    │   ├── BadMedia                            a video, photo or sound cannot be used
    │   │   └── UnsafeMedia                     refused before decoding (hostile or out of limits)
    │   └── BadFace                             no face, several, too small, too soft, turned away
    ├── Refused                     77          policy says no: retry cannot help, a person may
    │   ├── ConsentError                        consent missing, expired, revoked or not matching
    │   ├── SafetyBlock                         a safety verdict of block
    │   ├── ProvenanceError                     a signature, chain or manifest does not hold
    │   └── BudgetExceeded                      a call of a model API would cost more than is left
    ├── Transient                   75          retried with exponential backoff
    │   ├── StoreUnavailable                    the object store cannot be reached or is full
    │   ├── LeaseHeld               73          somebody else makes this artifact now: waited for,
    │   │                                       no attempt is used up
    │   ├── CorruptArtifact                     stored bytes do not match their digest: made again
    │   ├── RemoteUnavailable                   a model API is down, slow or answers nonsense
    │   └── DeviceUnavailable                   no usable GPU has memory left, or it has failed
    ├── OutOfMemory                 70 (137)    retried smaller
    ├── Preempted                   80 (143)    retried as is, resumes from its artifacts
    ├── Misconfigured               78          never retried: the installation must change
    │   └── StoreRefused                        no such bucket, credentials refused, clock wrong
    ├── Usage                       2           the command line or request is malformed
    └── Bug                         1           everything else: ours

A message names the row, file or field and says what to do next. ``code`` is stable: reports,
``rejects.csv`` and tests refer to it.
"""

from __future__ import annotations

from typing import ClassVar


class UnderstudyError(Exception):
    """Base of every error that we raise on purpose.

    Args:
        message: what happened, to what, and what to do next.
        code: stable machine-readable reason, such as ``photo.no_face``.
        where: the row, file or field, when the message alone does not say it.
    """

    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False
    default_code: ClassVar[str] = "bug"

    def __init__(self, message: str, *, code: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.where = where


class BadInput(UnderstudyError):
    """The input must change; a retry cannot help."""

    exit_code = 65
    default_code = "input.bad"


class BadBrief(BadInput):
    """The brief or the recipients table is wrong."""

    default_code = "brief.bad"


class BadMedia(BadInput):
    """A video, photo or sound cannot be used."""

    default_code = "media.bad"


class UnsafeMedia(BadMedia):
    """Refused before decoding: hostile, disguised or outside the limits."""

    default_code = "media.unsafe"


class BadFace(BadInput):
    """No usable face: none, several, too small, too soft or turned away."""

    default_code = "face.bad"


class Refused(UnderstudyError):
    """Policy says no."""

    exit_code = 77
    default_code = "refused"


class ConsentError(Refused):
    """Consent is missing, expired, revoked or does not match the media."""

    default_code = "consent.missing"


class SafetyBlock(Refused):
    """A safety verdict of ``block``."""

    default_code = "safety.block"


class ProvenanceError(Refused):
    """A signature, certificate chain or manifest does not hold."""

    default_code = "provenance.invalid"


class BudgetExceeded(Refused):
    """A paid call would cost more than is left of the brief's budget."""

    default_code = "budget.exceeded"


class Transient(UnderstudyError):
    """Worth a retry with backoff."""

    exit_code = 75
    retry = True
    default_code = "transient"


class StoreUnavailable(Transient):
    """The object store cannot be reached, refuses at the moment, or is full."""

    default_code = "store.unavailable"


class LeaseHeld(Transient):
    """Another worker is making this artifact at the moment."""

    exit_code = 73
    default_code = "lease.held"


class CorruptArtifact(Transient):
    """Stored bytes do not match their digest; the artifact is made again."""

    default_code = "store.corrupt"


class RemoteUnavailable(Transient):
    """A model API cannot be reached, refuses at the moment, is too slow, or answers nonsense."""

    default_code = "remote.unavailable"


class DeviceUnavailable(Transient):
    """No GPU that may be used has memory left, or the one that was used has failed."""

    default_code = "device.unavailable"


class OutOfMemory(UnderstudyError):
    """Retry with a smaller chunk or on a larger machine."""

    exit_code = 70
    retry = True
    default_code = "memory"


class Preempted(UnderstudyError):
    """The machine was taken away; retry as is."""

    exit_code = 80
    retry = True
    default_code = "preempted"


class Misconfigured(UnderstudyError):
    """The installation must change; a retry cannot help."""

    exit_code = 78
    default_code = "installation"


class StoreRefused(Misconfigured):
    """The object store does not take us: no such bucket, credentials refused, clock wrong."""

    default_code = "store.refused"


class Usage(UnderstudyError):
    """The command line or the request is malformed."""

    exit_code = 2
    default_code = "usage"


class Bug(UnderstudyError):
    """A failure that we did not foresee."""


BY_EXIT_CODE: dict[int, type[UnderstudyError]] = {
    1: Bug,
    2: Usage,
    65: BadInput,
    70: OutOfMemory,
    73: LeaseHeld,
    75: Transient,
    77: Refused,
    78: Misconfigured,
    80: Preempted,
    137: OutOfMemory,
    143: Preempted,
}


def error_for_exit(returncode: int, message: str) -> UnderstudyError:
    """Translate a stage process's exit code into the error that decides its retry.

    Args:
        returncode: as ``subprocess`` gives it; negative means killed by that signal.
        message: what to say, usually the process's last words.
    """
    code = 128 - returncode if returncode < 0 else returncode
    return BY_EXIT_CODE.get(code, Bug)(message)
