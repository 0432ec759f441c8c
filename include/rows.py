"""Checks the rows of a table against their files and consent, all rows at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from include.consent import MAX_BYTES, load_consent, row_scope, verify_consent
from include.contracts.brief import Brief
from include.contracts.manifest import BlobRef
from include.contracts.plan import SourceRef, UnitPlan
from include.errors import BadInput, Refused
from include.inputs import Inputs, ref_of_bytes
from include.settings import Settings
from include.store import ObjectStore
from include.table import Row

T = TypeVar("T")

Problem = tuple[Row, BadInput | Refused]


class RowCheck:
    """Takes rows or refuses them.

    Media are recognised by the digest index. Consent records are read and verified every time, at
    the time given.

    Args:
        brief: the campaign.
        inputs: where its files are.
        settings: consent keys and revoked records.
        now: the time that consent is judged at.
    """

    def __init__(self, brief: Brief, inputs: Inputs, settings: Settings, now: datetime) -> None:
        self._brief = brief
        self._inputs = inputs
        self._now = now
        self._keys = settings.consent_keys
        self._revoked = settings.revoked_records()
        self._media: Mapping[str, BlobRef | BadInput] = {}
        self._consents: Mapping[str, bytes | BadInput] = {}

    def rows(self, rows: list[Row], store: ObjectStore) -> tuple[list[UnitPlan], list[Problem]]:
        """Check rows; copy the files of the good ones into the store.

        Returns:
            The units that were taken, without key material, and the rows that were not, with why.
        """
        self._media = self._inputs.describe([m for row in rows for m in (row.face, row.audio) if m])
        self._consents = self._inputs.read_many((row.consent for row in rows), most=MAX_BYTES)
        taken: dict[str, UnitPlan] = {}
        refused: list[Problem] = []
        for row in rows:
            try:
                taken[row.id] = self._take(row)
            except (BadInput, Refused) as error:
                refused.append((row, error))
        lost = self._keep(taken, store)
        refused += [(row, lost[row.id]) for row in rows if row.id in lost]
        return [unit for unit in taken.values() if unit.id not in lost], refused

    def _take(self, row: Row) -> UnitPlan:
        sources = {"face": self._medium(row.face, "photo")}
        if row.audio:
            sources["audio"] = self._medium(row.audio, "audio")
        record = _good(self._consents[row.consent], "consent")
        blob = ref_of_bytes(row.consent, record)
        sources["consent"] = SourceRef(blob=blob, origin=row.consent)
        speaks = bool(row.audio or row.script)
        verify_consent(
            load_consent(record),
            tenant=self._brief.tenant,
            campaign=self._brief.campaign,
            now=self._now,
            scope=row_scope(speaks=speaks, recorded=bool(row.audio)),
            face_sha256=sources["face"].blob.sha256,
            audio_sha256=sources["audio"].blob.sha256 if row.audio else None,
            revoked=self._revoked,
            keys=self._keys,
        )
        return UnitPlan(
            id=row.id,
            line=row.line,
            sources=sources,
            script=row.script,
            locale=row.locale,
            voice=row.voice,
            lip_sync=speaks,
        )

    def _medium(self, name: str, what: str) -> SourceRef:
        return SourceRef(blob=_good(self._media[name], what), origin=name)

    def _keep(
        self, taken: Mapping[str, UnitPlan], store: ObjectStore
    ) -> dict[str, BadInput | Refused]:
        """Copy what the units use; the units whose files could not be copied, with why."""
        used = [(unit, *item) for unit in taken.values() for item in unit.sources.items()]
        failed = self._inputs.keep_many(
            {source.origin: source.blob for _, _, source in used},
            store,
            self._brief.tenant,
            {name: data for name, data in self._consents.items() if isinstance(data, bytes)},
        )
        return {
            unit.id: _named(failed[source.origin], "photo" if what == "face" else what)
            for unit, what, source in used
            if source.origin in failed
        }


def _good(found: T | BadInput, what: str) -> T:
    """What was found.

    Raises:
        BadInput: see ``_named``.
    """
    if isinstance(found, BadInput):
        raise _named(found, what) from found
    return found


def _named(error: BadInput, what: str) -> BadInput:
    """A file's error under the code of what it is used for."""
    code = f"{what}.missing" if error.code == "file.missing" else error.code
    return BadInput(f"{what}: {error.message}", code=code)
