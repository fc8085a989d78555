"""What the scope in force may see of the federation's side.

Tables that hold a tenant's rows are walled in the database (`tenants.wall`). Federations, rounds and versions are no
tenant's rows: here a tenant meets those of federations that it is invited to or takes part in, an operator all.
"""

from django.db.models import F, Q, QuerySet

from federation.models import (
    BaseModel,
    Campaign,
    Enrolment,
    Evaluation,
    FederatedRound,
    Federation,
    LocalRun,
    PersonalPrefix,
    PrefixVersion,
    PublishedPrefix,
    PublishRecord,
    RoundEvent,
    Schedule,
    WebhookDelivery,
    WebhookEndpoint,
)
from federation.states import BaseModelState, EnrolmentState
from tenants import scoping
from tenants.errors import NotFound, ScopeMissing
from tenants.models import Tenant

_TAKES_PART = (EnrolmentState.INVITED, EnrolmentState.ACTIVE)


def base_models() -> QuerySet[BaseModel]:
    """Tenants see those that can be used."""
    return (
        BaseModel.objects.all()
        if scoping.is_platform()
        else BaseModel.objects.filter(state=BaseModelState.READY)
    )


def federations() -> QuerySet[Federation]:
    """Those that a tenant takes part in, or is invited to."""
    return Federation.objects.all() if scoping.is_platform() else Federation.objects.filter(pk__in=_joined())


def federations_once_joined() -> QuerySet[Federation]:
    """The same with those that a tenant has left: what it made there is still its own."""
    rows = Federation.objects.all()
    return rows if scoping.is_platform() else rows.filter(pk__in=Enrolment.objects.values("federation"))


def enrolments(*, federation: Federation) -> QuerySet[Enrolment]:
    """A federation's enrolments: a tenant sees its own."""
    return Enrolment.objects.filter(federation=federation)


def place(*, federation: Federation, tenant: Tenant) -> Enrolment:
    """A tenant's enrolment, whatever became of it. Raises NotFound when it was never invited."""
    found = enrolments(federation=federation).filter(tenant=tenant).first()
    if found is None:
        raise NotFound(kind="enrolment of tenant", public_id=tenant.public_id)
    return found


def rounds() -> QuerySet[FederatedRound]:
    """Rounds of visible federations."""
    rows = FederatedRound.objects.all()
    return rows if scoping.is_platform() else rows.filter(federation__in=_joined())


def campaigns() -> QuerySet[Campaign]:
    """Campaigns of visible federations."""
    rows = Campaign.objects.all()
    return rows if scoping.is_platform() else rows.filter(federation__in=_joined())


def events() -> QuerySet[RoundEvent]:
    """Events with a place in the stream: a tenant sees those about itself and those of its federations' rounds."""
    rows = RoundEvent.objects.filter(number__isnull=False).select_related("federated_round")
    scope = scoping.in_force()
    if scope is None:
        raise ScopeMissing()
    if scope.tenant_id is None:
        return rows
    shared = Q(tenant=None, federated_round__federation__in=_joined())
    return rows.filter(Q(tenant=scope.tenant_id) | shared)


def nearest_events(
    events: QuerySet[RoundEvent], *, n_most: int, backwards: bool = False
) -> QuerySet[RoundEvent]:
    """Of these the first, or the last, `n_most` in the stream, in no order.

    A tenant's are found among its own and among its federations', each by an index of theirs: in the order of all
    numbers they lie between everybody else's.
    """
    scope = scoping.in_force()
    if scope is None or scope.tenant_id is None:
        return events
    own = events.filter(tenant=scope.tenant_id)
    shared = events.filter(tenant=None, federated_round__federation__in=_joined())
    # A sum keeps PostgreSQL from going through all numbers for the few that are shared with this tenant.
    shared = shared.annotate(place=F("number") + 0)
    parts = [(own, "number"), (shared, "place")]
    sign = "-" if backwards else ""
    numbers = [
        number
        for part, key in parts
        for number in part.order_by(f"{sign}{key}").values_list("number", flat=True)[:n_most]
    ]
    return events.filter(number__in=sorted(filter(None, numbers), reverse=backwards)[:n_most])


def round_events(*, federated_round: FederatedRound) -> QuerySet[RoundEvent]:
    """All of a round that the scope may see, whether or not it has a place in the stream yet, by its own key."""
    scope = scoping.in_force()
    if scope is None:
        raise ScopeMissing()
    rows = RoundEvent.objects.filter(federated_round=federated_round)
    return rows if scope.tenant_id is None else rows.filter(Q(tenant=None) | Q(tenant=scope.tenant_id))


def local_runs() -> QuerySet[LocalRun]:
    """A tenant sees its own, those of federations that it has left too."""
    return LocalRun.objects.select_related("federated_round")


def evaluations() -> QuerySet[Evaluation]:
    """A tenant sees its own."""
    return Evaluation.objects.all()


def personal_prefixes() -> QuerySet[PersonalPrefix]:
    """A tenant sees its own, those of federations that it has left too."""
    return PersonalPrefix.objects.all()


def prefix_versions() -> QuerySet[PrefixVersion]:
    """Versions of visible federations, with the round that made each and the federation's pointer."""
    rows = PrefixVersion.objects.select_related("made_in_round", "federation__published")
    return rows if scoping.is_platform() else rows.filter(federation__in=_joined())


def publish_records() -> QuerySet[PublishRecord]:
    """Publications within visible federations."""
    rows = PublishRecord.objects.all()
    return rows if scoping.is_platform() else rows.filter(federation__in=_joined())


def schedules() -> QuerySet[Schedule]:
    """Schedules of visible federations."""
    return (
        Schedule.objects.all() if scoping.is_platform() else Schedule.objects.filter(federation__in=_joined())
    )


def published(*, federation: Federation) -> PublishedPrefix:
    """A federation's pointer. Raises NotFound before there is one."""
    pointer = PublishedPrefix.objects.filter(federation=federation).first()
    if pointer is None:
        raise NotFound(kind="published version of federation", public_id=federation.public_id)
    return pointer


def schedule(*, federation: Federation) -> Schedule:
    """A federation's schedule. Raises NotFound when its rounds open by hand."""
    found = Schedule.objects.filter(federation=federation).first()
    if found is None:
        raise NotFound(kind="schedule of federation", public_id=federation.public_id)
    return found


def webhooks() -> QuerySet[WebhookEndpoint]:
    """A tenant sees its own; operators see the operators', whose messages tell of everything."""
    scope = scoping.in_force()
    if scope is None:
        raise ScopeMissing()
    return WebhookEndpoint.objects.filter(tenant=scope.tenant_id)


def webhook_deliveries() -> QuerySet[WebhookDelivery]:
    """Messages to visible webhooks."""
    return WebhookDelivery.objects.filter(endpoint__in=webhooks()).select_related("endpoint__tenant")


def _joined() -> QuerySet[Enrolment, object]:
    return Enrolment.objects.filter(state__in=_TAKES_PART).values_list("federation", flat=True)
