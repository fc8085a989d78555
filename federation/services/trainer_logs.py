"""What a lost trainer wrote last, kept for operators."""

from collections.abc import Sequence

from federation.models import TrainerLogTail
from tenants import scoping
from tenants.leases import Leased


def keep_tail(row: Leased, *, lines: Sequence[str]) -> None:
    """Keep the end of the log of a trainer that this attempt lost, where it wrote anything."""
    if lines:
        with scoping.platform():
            TrainerLogTail.objects.create(subject=row.public_id, attempt=row.attempt, lines=list(lines))
