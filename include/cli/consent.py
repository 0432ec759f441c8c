"""``./understudy consent``: a consent record signed with the tenant's development key.

In production records come from the consent service; this is for trying things out.
"""

from __future__ import annotations

import argparse
import hashlib
import mimetypes
import sys
from datetime import UTC, datetime
from pathlib import Path

from include.consent import dump_consent, issue_consent
from include.errors import UnderstudyError, Usage
from include.settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Issue a record; returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        _issue(args)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code
    print(f"{args.out}: {args.subject} consents to {args.scope} for {args.tenant}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./understudy consent", description=__doc__)
    parser.add_argument("media", type=Path, help="the photo, or the presenter's video")
    parser.add_argument("--subject", required=True, help="whose consent it is")
    parser.add_argument("--scope", required=True, help="face_swap, lip_sync, voice, template: A,B")
    parser.add_argument("--tenant", required=True, help="who may use it")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--audio", type=Path, help="the voice recording that is consented to")
    parser.add_argument("--campaign", action="append", help="only this one; repeatable")
    parser.add_argument("--expires", type=_date, help="YYYY-MM-DD; default in a year")
    return parser


def _date(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _issue(args: argparse.Namespace) -> None:
    scope = [part.strip() for part in args.scope.split(",") if part.strip()]
    if args.audio and "voice" not in scope:
        raise Usage(
            f"--audio names a recording, which the scope {args.scope} does not allow to "
            "use; add voice to --scope"
        )
    signed = issue_consent(
        tenant=args.tenant,
        subject=args.subject,
        scope=scope,
        face_sha256=_digest(args.media),
        audio_sha256=_digest(args.audio) if args.audio else None,
        campaigns=args.campaign or ["*"],
        expires=args.expires,
        keys=Settings.from_env().consent_keys,
    )
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_bytes(dump_consent(signed))
    except OSError as error:
        raise Usage(f"cannot write {args.out}: {error.strerror}") from error


def _digest(path: Path) -> str:
    if (mimetypes.guess_type(path.name)[0] or "").partition("/")[0] not in (
        "image",
        "video",
        "audio",
    ):
        raise Usage(f"{path} is neither a picture, a video nor a sound by its name")
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
