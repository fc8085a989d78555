"""What lost trainers wrote last. For the platform's scope: no tenant may read these rows."""

from django.db.models import QuerySet

from federation.models import TrainerLogTail
from tenants.leases import Leased


def tails_of(row: Leased) -> QuerySet[TrainerLogTail]:
    """Of all attempts at a piece of work, the oldest first."""
    return TrainerLogTail.objects.filter(subject=row.public_id)
