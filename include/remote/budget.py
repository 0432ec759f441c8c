"""What paid calls cost a campaign: reserved before a call, settled after it, never counted twice.

All that counts is in the records' names, so that one listing adds a budget up::

    <tenant>/spend/<campaign>/<key>/<endpoint>/<number>r-<micros>   reserved
    <tenant>/spend/<campaign>/<key>/<endpoint>/<number>s-<micros>   settled; counts instead of it

A task that was killed after it submitted finds its reservation under the artifact's key and the
endpoint's name and uses it again; where the price has risen since, it sets more aside. What another
endpoint may ask for a job that it accepted stays counted. Names without an endpoint are of an
earlier release: counted, never used again. A reservation is written before the sum is judged: of
calls that race for the last of a budget none sees too little, so it is never overspent by
reservations; two that do not both fit may both be refused, and are then told to try again. What an
API asks for beyond its declared price is recorded and logged: at most the calls in flight can
overspend by it.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from include.contracts.base import Slug
from include.contracts.remote import JobStatus
from include.errors import BudgetExceeded
from include.store import ObjectMissing, ObjectStore

log = logging.getLogger(__name__)

MICRO = 1_000_000
_NAME = re.compile(
    r"(?P<key>[0-9a-f]{64})/(?:(?P<endpoint>[^/]+)/)?"
    r"(?P<number>\d{3})(?P<kind>[rs])-(?P<micros>\d{1,15})"
)


@dataclass
class _Entry:
    reserved: int = 0
    settled: int | None = None

    @property
    def micros(self) -> int:
        return self.reserved if self.settled is None else self.settled


@dataclass(frozen=True)
class Reservation:
    """Money set aside for one call."""

    key: str
    endpoint: Slug
    number: int
    micros: int
    fresh: bool = field(default=True, compare=False)
    """Made now; else an earlier attempt made it, whose job the endpoint may have accepted."""


class Ledger:
    """One campaign's spending.

    Args:
        store: where it is kept.
        tenant: whose.
        campaign: of what.
    """

    def __init__(self, store: ObjectStore, tenant: Slug, campaign: Slug) -> None:
        self._store = store
        self._prefix = f"{tenant}/spend/{campaign}/"
        self._campaign = campaign

    def spent(self) -> float:
        """All that is settled or reserved."""
        return self._sum(self._entries()) / MICRO

    def reserve(
        self, key: str, endpoint: Slug, price: float, limit: float | None, currency: str
    ) -> Reservation:
        """Set money aside for a call.

        Args:
            key: the artifact's key.
            endpoint: who is called.
            price: what the call will cost there.
            limit: what the campaign may cost; None for no limit.
            currency: of both.

        Raises:
            BudgetExceeded: it does not fit.
        """
        entries = self._entries()
        last = max((n for k, e, n in entries if (k, e) == (key, endpoint)), default=0)
        known = entries.get((key, endpoint, last))
        stands = known is not None and known.settled is None
        held = known.reserved if known is not None and stands else 0
        made = Reservation(key, endpoint, last + (not stands), round(price * MICRO), not stands)
        if stands and held >= made.micros:
            return replace(made, micros=held)
        self._check(self._sum(entries) - held + made.micros, made, limit, currency)
        name = self._name(made, "r", made.micros)
        self._store.put(name, self._note(currency))
        if limit is not None:
            try:
                self._check(self._sum(self._entries()), made, limit, currency)
            except BudgetExceeded:
                if made.fresh:
                    self.settle(made, 0.0)
                else:  # what was held before stays held
                    self._store.delete(name)
                raise
        return made

    def settle(
        self,
        made: Reservation,
        price: float,
        currency: str = "",
        *,
        job: JobStatus | None = None,
        found: bool = False,
    ) -> None:
        """Write down what a call did cost; 0 gives the money back. The first word holds.

        Args:
            made: the call's reservation.
            price: what it did cost.
            currency: of the price.
            job: the job that was paid.
            found: whether the job was over before it was submitted: what an earlier attempt
                settled for it is not counted again.
        """
        micros = round(price * MICRO)
        if job is not None and found:
            micros = max(0, micros - self._settled_before(made, job))
        if micros > made.micros:
            log.warning(
                "%s: a call cost %.6f, declared was %.6f",
                self._campaign,
                price,
                made.micros / MICRO,
            )
        about = {"job": job.job, "state": job.state} if job is not None else {}
        if not any(True for _ in self._store.list(self._name(made, "s"))):
            self._store.put(self._name(made, "s", micros), self._note(currency, **about))

    def _settled_before(self, made: Reservation, job: JobStatus) -> int:
        """What earlier attempts settled for a job that ended so, in micros.

        One that failed may be done once more under its name; that is paid once more.
        """
        micros = 0
        for info in self._store.list(f"{self._prefix}{made.key}/{made.endpoint}/"):
            form = _NAME.fullmatch(info.key[len(self._prefix) :])
            if form is None or form["kind"] == "r":
                continue
            try:
                note = json.loads(self._store.get(info.key))
            except (ObjectMissing, ValueError):
                continue
            if (note.get("job"), note.get("state")) == (job.job, job.state):
                micros += int(form["micros"])
        return micros

    def _check(self, total: int, made: Reservation, limit: float | None, currency: str) -> None:
        if limit is None or total <= round(limit * MICRO):
            return
        before = (total - made.micros) / MICRO
        raise BudgetExceeded(
            f"this call would cost {made.micros / MICRO:.4f} {currency}; {before:.4f} of the "
            f"budget's {limit:g} {currency} are spent or set aside. Raise budget.limit to at "
            f"least {total / MICRO:.4f}, or render on machines of your own"
        )

    def _name(self, made: Reservation, kind: str, micros: int | str = "") -> str:
        return f"{self._prefix}{made.key}/{made.endpoint}/{made.number:03}{kind}-{micros}"

    def _entries(self) -> dict[tuple[str, str, int], _Entry]:
        """By key, endpoint ("" in old names) and number."""
        entries: dict[tuple[str, str, int], _Entry] = {}
        for info in self._store.list(self._prefix):
            form = _NAME.fullmatch(info.key[len(self._prefix) :])
            if form is None:
                continue
            mine = form["key"], form["endpoint"] or "", int(form["number"])
            entry = entries.setdefault(mine, _Entry())
            if form["kind"] == "r":
                entry.reserved = max(entry.reserved, int(form["micros"]))
            else:
                entry.settled = max(entry.settled or 0, int(form["micros"]))
        return entries

    @staticmethod
    def _sum(entries: dict[tuple[str, str, int], _Entry]) -> int:
        return sum(entry.micros for entry in entries.values())

    @staticmethod
    def _note(currency: str, **about: str) -> bytes:
        """For people who read the store; of a settlement also the job, to know it again."""
        at = datetime.now(UTC).isoformat()
        return json.dumps({"currency": currency, "at": at, **about}).encode()
