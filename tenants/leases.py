"""Work of the training side: a claim by compare-and-swap, a lease that must be kept alive, a fencing token.

Messages may be lost, doubled or late; these columns decide. `attempt` is the fencing token: it grows with each
claim, and a write that names an older one is refused. Times are the database's, so that no machine's clock matters.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Final, Self

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import connection, models, transaction
from django.db.models import F, Q
from django.db.models.expressions import DatabaseDefault
from django.db.models.functions import Now

from tenants.errors import LeaseLost, NotFound
from tenants.transitions import Stateful

Call = tuple[str, Sequence[Any]]
"""SQL and its parameters."""
NOTHING: Final[Call] = ("SELECT", ())  # no columns
_NOBODYS: dict[str, object] = {"lease_owner": "", "lease_expires_at": None, "claimed_at": None}


def holder() -> str:
    """How this process calls itself in the leases that it holds."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Holdable(Stateful):
    """A row that one process at a time works on, for as long as its lease lasts."""

    running_state: ClassVar[str]  # in which it is held

    attempt = models.PositiveIntegerField(default=0)
    lease_owner = models.CharField(max_length=200, blank=True, default="")
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @classmethod
    def held(cls, pk: object, *, attempt: int) -> models.QuerySet[Self]:
        """The row, if this attempt still holds it: the filter of every write that its holder makes."""
        return cls._base_manager.filter(
            pk=pk, state=cls.running_state, attempt=attempt, lease_expires_at__isnull=False
        )

    def keep(self, **changes: object) -> None:
        """Extend the lease and write progress. Raises LeaseLost when the work is another's or has ended."""
        expires_at = Now() + timedelta(seconds=settings.LEASE_SECONDS)
        if self.held(self.pk, attempt=self.attempt).update(lease_expires_at=expires_at, **changes) != 1:
            raise LeaseLost(public_id=self.public_id, attempt=self.attempt)

    def lock_held(self) -> None:
        """Lock and reload the row for the write that ends this attempt. Raises LeaseLost when it is no longer held."""
        attempt = self.attempt
        try:
            self.refresh_from_db(
                from_queryset=self.held(self.pk, attempt=attempt).select_for_update(no_key=True)
            )
        except ObjectDoesNotExist:
            raise LeaseLost(public_id=self.public_id, attempt=attempt) from None

    @classmethod
    def expired(cls) -> models.QuerySet[Self]:
        """Rows whose holder has not been heard of in time."""
        return cls._base_manager.filter(state=cls.running_state, lease_expires_at__lt=Now())


class Leased(Holdable):
    """A row that a training worker works on, for as long as its lease lasts."""

    waiting_state: ClassVar[str]  # in which it may be claimed; may be the one in which it is held

    claimed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the attempt that holds it began."
    )
    stopping_until = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="Called off while a worker held it, which may be busy with it so long; none: it has stopped.",
    )
    sent_at = models.DateTimeField(null=True, blank=True)
    n_sent = models.PositiveIntegerField(default=0)

    class Meta:
        abstract = True

    @classmethod
    def overdue(cls) -> models.QuerySet[Self]:
        """Rows that wait although their message was sent long ago; each re-send doubles the patience, to 64 times."""
        patience = timedelta(seconds=settings.RESEND_SECONDS)
        late = Q(sent_at=None)
        for doublings in range(7):
            due = Q(sent_at__lt=Now() - patience * 2**doublings)
            late |= due & (Q(n_sent=doublings + 1) if doublings < 6 else Q(n_sent__gt=doublings))
        return cls._base_manager.filter(late, state=cls.waiting_state, lease_expires_at=None)

    def end_held(self, target: str, *, reason: str = "", charge: Call = NOTHING, **changes: object) -> None:
        """Move the row to `target` as the attempt that holds it, record the move and charge for it, in one statement.

        `charge` is SQL that knows how long it was held as `lasted`. Raises LeaseLost when the row is no longer held: it
        is of no use to this attempt then; and the model's conflict error for a move that is not allowed.
        """
        if target not in self.transitions[self.running_state]:
            raise self.conflict(target)
        written = {"state": target, "state_reason": reason, **_NOBODYS, **changes}
        moments = ["state_changed_at", *(() if self.transitions[target] else ("finished_at",))]
        for name, value in written.items():
            setattr(self, name, value)
        self._forget_times()
        self._write_held(written, moments, charge)

    def _write_held(self, written: Mapping[str, object], moments: Sequence[str], charge: Call) -> None:
        fields = [self._meta.get_field(name) for name in written]
        columns = [f'"{field.column}" = %s' for field in fields]  # type: ignore[union-attr]
        columns += [f"{name} = statement_timestamp()" for name in moments]
        event = self.event_of_move(self.running_state)
        record, recorded = _insertion(event) if event else NOTHING
        called, given = charge
        table = self._meta.db_table
        # The old value of `claimed_at` is what the time is counted from.
        statement = f"""
            WITH held AS (
                SELECT id, claimed_at FROM {table}
                WHERE id = %s AND state = %s AND attempt = %s AND lease_expires_at IS NOT NULL FOR NO KEY UPDATE
            ), ended AS (
                UPDATE {table} AS row SET {", ".join(columns)} FROM held WHERE row.id = held.id
                RETURNING coalesce(statement_timestamp() - held.claimed_at, interval '0') AS lasted
            ), recorded AS ({record} FROM ended)
            {called} FROM ended
        """  # noqa: S608 - names of the model's own
        values = [
            field.get_db_prep_save(value, connection)  # type: ignore[union-attr]
            for field, value in zip(fields, written.values(), strict=True)
        ]
        with connection.cursor() as cursor:
            cursor.execute(statement, [self.pk, self.running_state, self.attempt, *values, *recorded, *given])
            if cursor.fetchone() is None:
                raise LeaseLost(public_id=self.public_id, attempt=self.attempt)

    def end_attempt(self, target: str, *, reason: str = "") -> timedelta:
        """Move the row to `target` and take it from whoever holds it. Returns for how long it was held."""
        self.lock()
        return self._end_locked(target, reason)

    def call_off(self, target: str, *, reason: str) -> timedelta | None:
        """The same for a row that was found unfinished; its worker may be busy with it for as long as its lease lasts.

        None where nothing is left to call off: it ended, or it was deleted, before its lock was had.
        """
        try:
            self.lock()
        except NotFound:
            return None
        if target not in self.transitions[self.state]:
            return None
        return self._end_locked(target, reason, stopping_until=F("lease_expires_at"))

    def _end_locked(self, target: str, reason: str, **changes: object) -> timedelta:
        lasted = self._held_for()
        self.move_to(target, reason=reason, **_NOBODYS, **changes)
        return lasted

    def acknowledge_stop(self) -> None:
        """Note, as the worker of this attempt, that it is no longer busy with work that was called off."""
        ended = type(self)._base_manager.filter(
            pk=self.pk, attempt=self.attempt, stopping_until__isnull=False
        )
        with transaction.atomic():
            if ended.update(stopping_until=None):
                self.refresh_from_db(fields=["state", "stopping_until"])
                self.record_stop()

    def record_stop(self) -> None:
        """Append an event about it; runs within its transaction. Rows without events have nothing to add."""

    def free_lease(self) -> timedelta:
        """Take the row from whoever holds it and leave its state. Returns for how long it was held."""
        with transaction.atomic():
            self.lock()
            lasted = self._held_for()
            for name, value in _NOBODYS.items():
                setattr(self, name, value)
            self.save(update_fields=list(_NOBODYS))
            return lasted

    def write_off(self) -> None:
        """Forget when the attempt began: what a lost worker did is known to nobody, and charged to nobody."""
        type(self)._base_manager.filter(pk=self.pk).update(claimed_at=None)

    def _held_for(self) -> timedelta:
        own = type(self)._base_manager.filter(pk=self.pk)
        found = own.values_list(Now() - F("claimed_at"), flat=True).get()
        return found or timedelta()


def _insertion(made: models.Model) -> Call:
    """A new row's INSERT by a SELECT that lacks its FROM; what the database is to give is left to it."""
    values = {
        field: value
        for field in made._meta.concrete_fields
        if (value := getattr(made, field.attname)) is not None and not isinstance(value, DatabaseDefault)
    }
    columns = ", ".join(f'"{field.column}"' for field in values)
    places = ", ".join(["%s"] * len(values))
    prepared = [field.get_db_prep_save(value, connection) for field, value in values.items()]
    return f"INSERT INTO {made._meta.db_table} ({columns}) SELECT {places}", prepared
