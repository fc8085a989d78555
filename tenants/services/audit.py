"""The audit record: written by services within the transaction of their change, and verified from end to end."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.db import models
from django.utils import timezone

from tenants import acting, selectors
from tenants.errors import AuditChainBroken
from tenants.ids import Identified, encode
from tenants.models import AuditEntry, AuditHead, Tenant
from tenants.models.audit import link

MASK = "•••"
# Whatever bears such a name is written as the mask, should a service ever pass it: that it changed shows, no value.
_SECRET_WORDS = ("digest", "data_key", "password", "secret", "text", "token", "blob", "tensor")

Facts = Mapping[str, object]


def record(
    *,
    action: str,
    subject: models.Model | None,
    before: Facts | None = None,
    after: Facts | None = None,
    object_kind: str = "",
) -> None:
    """Write an entry, within the transaction in force: it stands and falls with the change that it tells of.

    Only fields that differ are kept. With both sides given and nothing different there was no change, and no entry.
    """
    old, new = _plain_facts(before), _plain_facts(after)
    if before is not None and after is not None and old == new:
        return
    actor, origin = acting.actor(), acting.origin()
    entry = AuditEntry(
        tenant_id=_tenant_of(subject),
        happened_at=timezone.now(),
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name[:200],
        credential=actor.credential,
        address=origin.address[:45],
        request_id=origin.request_id,
        action=action,
        object_kind=object_kind or _kind_of(subject),
        object_id=_id_of(subject),
        before={name: value for name, value in old.items() if name not in new or new[name] != value},
        after={name: value for name, value in new.items() if name not in old or old[name] != value},
    )
    entry.content_sha256 = entry.digest()
    entry.save(force_insert=True)


def fields(row: models.Model, *names: str) -> dict[str, object]:
    """Fields of a row for `before` and `after`; a foreign key as the public id of what it names, which is not read."""
    found: dict[str, object] = {}
    for name in names:
        field = row._meta.get_field(name)
        value = field.value_from_object(row)  # type: ignore[union-attr]  # names are of concrete fields
        target = field.related_model
        if isinstance(value, UUID) and isinstance(target, type) and issubclass(target, Identified):
            value = f"{target.id_prefix}_{encode(value)}"
        found[name] = value
    return found


@dataclass(frozen=True)
class Chain:
    """How far the record goes: keep both elsewhere, and no later record can deny what was written until then."""

    n_entries: int
    sha256: str


def verify() -> Chain:
    """Read all entries in order, for the platform's scope, and compare them with their hashes and the head.

    Raises AuditChainBroken at the first entry that is not what was written.
    """
    chain = Chain(n_entries=0, sha256="")
    while True:
        # The head is read first: entries that are committed meanwhile lie beyond it, and are found by the next look.
        head = AuditHead.objects.filter(pk=1).first()
        batch = list(selectors.audit_entries_after(AuditEntry.objects.all(), number=chain.n_entries))
        for entry in batch:
            chain = _checked(entry, chain)
        if not batch:
            _check_end(chain, head)
            return chain


def _checked(entry: AuditEntry, chain: Chain) -> Chain:
    assert entry.number is not None  # only numbered ones are read
    expected = chain.n_entries + 1
    if entry.number != expected:
        raise AuditChainBroken(number=expected, problem="it is not there")
    if entry.digest() != entry.content_sha256:
        raise AuditChainBroken(number=expected, problem=f"{entry.public_id} does not say what it said")
    sha256 = link(chain.sha256, entry.content_sha256)
    if sha256 != entry.sha256:
        raise AuditChainBroken(
            number=expected, problem=f"{entry.public_id} does not follow the entry before it"
        )
    return Chain(n_entries=expected, sha256=sha256)


def _check_end(chain: Chain, head: AuditHead | None) -> None:
    if head is None:
        raise AuditChainBroken(number=chain.n_entries + 1, problem="the head of the chain is not there")
    if head.n_entries > chain.n_entries:
        problem = f"it is not there, and the head counts {head.n_entries} entries"
        raise AuditChainBroken(number=chain.n_entries + 1, problem=problem)
    if head.n_entries < chain.n_entries:
        problem = f"the head counts {head.n_entries} entries"
        raise AuditChainBroken(number=head.n_entries + 1, problem=problem)
    if head.sha256 != chain.sha256:
        raise AuditChainBroken(number=chain.n_entries, problem="the head holds another hash")
    unsealed = AuditEntry.objects.filter(number=None).first()
    if unsealed is not None:
        problem = f"{unsealed.public_id} is in the record without a place in the chain"
        raise AuditChainBroken(number=chain.n_entries + 1, problem=problem)


def _tenant_of(subject: models.Model | None) -> UUID | None:
    if isinstance(subject, Tenant):
        return subject.pk
    return getattr(subject, "tenant_id", None)


def _kind_of(subject: models.Model | None) -> str:
    return str(subject._meta.verbose_name).lower().replace(" ", "_") if subject is not None else ""


def _id_of(subject: models.Model | None) -> str:
    if subject is None:
        return ""
    return subject.public_id if isinstance(subject, Identified) else f"{_kind_of(subject)}_{subject.pk}"


def _plain_facts(facts: Facts | None) -> dict[str, object]:
    return {name: _plain(name, value) for name, value in (facts or {}).items()}


def _plain(name: str, value: object) -> object:
    """A value as JSON and PostgreSQL's jsonb give it back unchanged, or the mask."""
    if isinstance(value, bytes | memoryview) or any(word in name for word in _SECRET_WORDS):
        return MASK
    match value:
        case None | bool() | int():
            return value
        case float():
            return int(value) if value.is_integer() else value
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return {str(inner): _plain(str(inner), found) for inner, found in value.items()}
        case list() | tuple():
            return [_plain(name, found) for found in value]
        case _:
            return _id_of(value) if isinstance(value, models.Model) else str(value)
