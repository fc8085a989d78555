"""Which tenants a new round takes in: those that are within their limits."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from federation.models import Enrolment, FederatedRound, RoundEvent
from federation.selectors import limits
from federation.states import LEFT_OUT
from tenants import selectors
from tenants.errors import QuotaDeviceSeconds, QuotaExceeded, QuotaRoundsInFlight

_LOCK = 0x50524C01  # of ours alone among advisory locks: no row stands for "rounds are opened"


@dataclass(frozen=True)
class LeftOut:
    """A tenant that a round goes without, and why."""

    enrolment: Enrolment
    refusal: QuotaExceeded


@dataclass(frozen=True)
class Admission:
    """A federation's active tenants, parted."""

    admitted: list[Enrolment]
    left_out: list[LeftOut]


def one_at_a_time() -> None:
    """Wait until no other transaction opens a round, whichever federation's: two must not both take a last place."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def part(enrolments: Sequence[Enrolment]) -> Admission:
    """Part tenants that are within their limits from those that are at one. The tenants come with their limits."""
    limited = [(enrolment.tenant_id, enrolment.tenant.limits) for enrolment in enrolments]
    by_rounds = [tenant_id for tenant_id, most in limited if most.rounds_in_flight is not None]
    by_seconds = [tenant_id for tenant_id, most in limited if most.device_seconds_per_month is not None]
    in_flight = limits.rounds_in_flight(tenant_ids=by_rounds)
    spent = selectors.device_seconds_this_month(tenant_ids=by_seconds)
    parted = Admission([], [])
    for enrolment in enrolments:
        try:
            _check(enrolment, in_flight.get(enrolment.tenant_id, 0), int(spent.get(enrolment.tenant_id, 0)))
        except QuotaExceeded as refusal:
            parted.left_out.append(LeftOut(enrolment, refusal))
        else:
            parted.admitted.append(enrolment)
    return parted


def _check(enrolment: Enrolment, n_in_flight: int, device_seconds: int) -> None:
    tenant, most = enrolment.tenant, enrolment.tenant.limits
    if most.rounds_in_flight is not None and n_in_flight >= most.rounds_in_flight:
        raise QuotaRoundsInFlight(tenant_id=tenant.public_id, limit=most.rounds_in_flight, used=n_in_flight)
    if most.device_seconds_per_month is not None and device_seconds >= most.device_seconds_per_month:
        raise QuotaDeviceSeconds(
            tenant_id=tenant.public_id, limit=most.device_seconds_per_month, used=device_seconds
        )


def tell(federated_round: FederatedRound, left_out: LeftOut) -> None:
    """Say in the round's events that it goes without a tenant: to that tenant and to operators."""
    refusal = left_out.refusal
    RoundEvent.objects.create(
        federated_round=federated_round,
        tenant=left_out.enrolment.tenant,
        kind=LEFT_OUT,
        message=str(refusal),
        data={"code": refusal.code, "limit": refusal.limit, "used": refusal.used},
    )
