"""State machines over rows: one table of moves, one method that makes them."""

from collections.abc import Mapping, Sequence
from typing import ClassVar
from uuid import UUID

from django.db import models
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from tenants.errors import PreludeError
from tenants.ids import Identified


class Stateful(Identified):
    """A row whose state changes through `move_to` alone."""

    transitions: ClassVar[Mapping[str, tuple[str, ...]]]

    state: "models.CharField[str, str]"
    state_reason = models.TextField(blank=True, default="")
    state_changed_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    def move_to(self, target: str, *, reason: str = "", **changes: object) -> None:
        """Check the table, write state, reason and `changes`, and record the move; needs a transaction.

        The write finds the row in the state that was read, or the row is locked, read anew, and judged by what it is.

        Raises the model's conflict error when the table does not allow the move from the state that the row has.
        """
        origin = self.state
        if not self._swap(origin, target, reason, changes):
            self.lock()
            origin = self.state
            if not self._swap(origin, target, reason, changes):
                raise self.conflict(target)
        self._record_move(origin)

    def _swap(self, origin: str, target: str, reason: str, changes: Mapping[str, object]) -> bool:
        if target not in self.transitions[origin]:
            return False
        finished = {} if self.transitions[target] else {"finished_at": Now()}
        written = {"state": target, "state_reason": reason, "state_changed_at": Now(), **finished, **changes}
        found = type(self)._base_manager.filter(pk=self.pk, state=origin)  # type: ignore[misc]  # each model's own
        if found.update(**written) != 1:
            return False
        for name, value in written.items():
            if isinstance(value, Combinable):
                self.__dict__.pop(name, None)  # the database knows it: it is read when somebody asks
            else:
                setattr(self, name, value)
        return True

    @classmethod
    def move_together(cls, keys: Sequence[UUID], target: str, *, origin: str) -> int:
        """Move those rows that are in `origin`, as `move_to` does one; returns how many. Needs a transaction.

        As many statements as for one. Rows are locked in the order of their keys, and no circle of waiting closes.
        """
        locked = cls._base_manager.select_for_update(no_key=True)
        rows = locked.filter(pk__in=keys, state=origin)  # type: ignore[misc]  # a column of each model's own
        found = list(rows.order_by("pk"))
        if found and target not in cls.transitions[origin]:
            raise found[0].conflict(target)
        finished = {} if cls.transitions[target] else {"finished_at": Now()}
        written = {"state": target, "state_reason": "", "state_changed_at": Now(), **finished}
        cls._base_manager.filter(pk__in=[row.pk for row in found]).update(**written)
        events: dict[type[models.Model], list[models.Model]] = {}
        for row in found:
            row.state, row.state_reason = target, ""
            if event := row.event_of_move(origin):
                events.setdefault(type(event), []).append(event)
        for model, made in events.items():
            model._base_manager.bulk_create(made)
        return len(found)

    def _forget_times(self) -> None:
        """The database's clock gave them: they are read when somebody asks."""
        for name in ("state_changed_at", "finished_at"):
            self.__dict__.pop(name, None)

    @property
    def is_finished(self) -> bool:
        """Whether no move leads out of the state."""
        return not self.transitions[self.state]

    def conflict(self, target: str) -> PreludeError:
        """The error for a move to `target` that the table does not allow."""
        raise AssertionError(f"{type(self).__name__} names no error for a move to {target}")

    def event_of_move(self, origin: str) -> models.Model | None:  # noqa: ARG002 - for those that have one
        """What is appended to a record with the move, in its transaction; rows without one have nothing to add."""
        return None

    def _record_move(self, origin: str) -> None:
        if event := self.event_of_move(origin):
            event.save(force_insert=True)
