"""State machines over rows: one table of moves, one method that makes them."""

from collections.abc import Mapping
from typing import ClassVar

from django.db import models, transaction
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
        """Lock the row, check the table, write state, reason and `changes`, and record the move, in one transaction.

        Raises the model's conflict error when the table does not allow the move from the state that the locked row has.
        """
        with transaction.atomic():
            self.lock()
            origin = self.state
            if target not in self.transitions[origin]:
                raise self.conflict(target)
            for name, value in changes.items():
                setattr(self, name, value)
            self.state, self.state_reason, self.state_changed_at = target, reason, Now()
            written = ["state", "state_reason", "state_changed_at", *changes]
            if not self.transitions[target]:
                self.finished_at = Now()
                written.append("finished_at")
            self.save(update_fields=written)
            for name in ("state_changed_at", "finished_at"):
                self.__dict__.pop(name, None)  # the database's clock gave them: read when somebody asks
            self.record_move(origin)

    @property
    def is_finished(self) -> bool:
        """Whether no move leads out of the state."""
        return not self.transitions[self.state]

    def conflict(self, target: str) -> PreludeError:
        """The error for a move to `target` that the table does not allow."""
        raise AssertionError(f"{type(self).__name__} names no error for a move to {target}")

    def record_move(self, origin: str) -> None:
        """Append an event about the move; runs within its transaction. Rows without events have nothing to add."""
