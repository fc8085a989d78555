"""Publishing: the pointer and its record move together, and a roll-back is a publication like any other."""

from django.db import transaction
from django.db.models.functions import Now

from federation.errors import AlreadyPublished, VersionOfAnotherFederation
from federation.models import Federation, PrefixVersion, PublishedPrefix, PublishRecord
from tenants.failpoints import FailPoint, reach
from tenants.services import audit


def publish(
    *, version: PrefixVersion, actor: str, reason: str, action: str = "prefix.published"
) -> PublishRecord:
    """Point the federation to `version`, whose bytes are stored already, and record it. Raises AlreadyPublished."""
    with transaction.atomic():
        pointer = lock_pointer(federation=version.federation)
        if pointer is None:
            PublishedPrefix.objects.create(federation=version.federation, version=version)
            return _record(version, None, actor, reason, action)
        if pointer.version_id == version.pk:
            raise AlreadyPublished(version_id=version.public_id)
        return move(pointer=pointer, version=version, actor=actor, reason=reason, action=action)


def lock_pointer(*, federation: Federation) -> PublishedPrefix | None:
    """The federation's pointer, which nobody else moves until this transaction ends."""
    return PublishedPrefix.objects.select_for_update().filter(federation=federation).first()


def move(
    *,
    pointer: PublishedPrefix,
    version: PrefixVersion,
    actor: str,
    reason: str,
    action: str = "prefix.published",
) -> PublishRecord:
    """Let a locked pointer name another version, and record it."""
    old = PrefixVersion(pk=pointer.version_id)  # by its key: nothing else of it is said
    pointer.version, pointer.published_at = version, Now()
    pointer.save(update_fields=["version", "published_at"])
    return _record(version, old, actor, reason, action)


def roll_back(*, federation: Federation, version: PrefixVersion, actor: str) -> PublishRecord:
    """Publish another of the federation's versions by hand. Raises VersionOfAnotherFederation and AlreadyPublished."""
    if version.federation_id != federation.pk:
        raise VersionOfAnotherFederation(version_id=version.public_id, federation_id=federation.public_id)
    record = publish(version=version, actor=actor, reason="roll-back", action="prefix.rolled_back")
    reach(FailPoint.ROLLED_BACK)
    return record


def _record(
    new: PrefixVersion, old: PrefixVersion | None, actor: str, reason: str, action: str
) -> PublishRecord:
    before = {"version": old and old.public_id}
    after = {"version": new.public_id, "number": new.number, "sha256": new.sha256}
    audit.record(action=action, subject=new.federation, before=before, after=after)
    return PublishRecord.objects.create(
        federation=new.federation, old=old, new=new, actor=actor, reason=reason
    )
