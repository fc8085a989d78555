"""Refusals of the tenants' side, each with a stable code. No HTTP here: `api.errors` maps classes to statuses."""

from typing import ClassVar


class PreludeError(Exception):
    """The base of every refusal: `code` is stable, the text says what happened, to which id, and what is allowed."""

    code: ClassVar[str] = "prelude_error"


class NotFound(PreludeError):
    """No such object, or one that the caller may not know of: the two are told apart nowhere."""

    code = "not_found"

    def __init__(self, *, kind: str, public_id: str) -> None:
        super().__init__(f"There is no {kind} {public_id!r}.")


class TenantSlugTaken(PreludeError):
    """Two tenants may not share a slug."""

    code = "tenant_slug_taken"

    def __init__(self, *, slug: str) -> None:
        super().__init__(f"A tenant with the slug {slug!r} exists already; choose another.")


class TenantSuspended(PreludeError):
    """A suspended tenant's keys open nothing."""

    code = "tenant_suspended"

    def __init__(self, *, tenant_id: str) -> None:
        super().__init__(f"Tenant {tenant_id} is suspended; an operator can lift that.")


class MembershipExists(PreludeError):
    """One membership per person and tenant."""

    code = "membership_exists"

    def __init__(self, *, email: str, tenant_id: str) -> None:
        super().__init__(f"{email} is a member of tenant {tenant_id} already.")


class LastOwner(PreludeError):
    """A tenant that has an owner keeps one."""

    code = "last_owner"

    def __init__(self, *, member_id: str, tenant_id: str) -> None:
        super().__init__(
            f"Member {member_id} is the only owner of tenant {tenant_id}; make another member an owner first."
        )


class ApiKeyInvalid(PreludeError):
    """The key is unknown, altered, expired or revoked; the text does not say which."""

    code = "api_key_invalid"

    def __init__(self) -> None:
        super().__init__(
            "The API key is not valid. Send `Authorization: Bearer prl_…` with a key that is not expired or revoked."
        )


class AddressNotAllowed(PreludeError):
    """A key that names networks opens nothing from elsewhere."""

    code = "address_not_allowed"

    def __init__(self, *, key_id: str, address: str) -> None:
        super().__init__(
            f"The API key {key_id} is not accepted from the address {address or 'that this request came from'}; "
            "use it within its allowed networks."
        )


class ApiKeyEnded(PreludeError):
    """A key that was revoked, has expired or was rotated before has no successor to get."""

    code = "api_key_ended"

    def __init__(self, *, key_id: str) -> None:
        super().__init__(
            f"The API key {key_id} is revoked, has expired or was rotated before; make a new key instead."
        )


class ExpiryInPast(PreludeError):
    """A key that would never open anything."""

    code = "expiry_in_past"
    field = "expires_at"

    def __init__(self, *, expires_at: str) -> None:
        super().__init__(f"The time of expiry {expires_at} has passed; name one that is to come, or none.")


class NetworkInvalid(PreludeError):
    """Not a network that addresses can be looked for in."""

    code = "network_invalid"
    field = "allowed_networks"

    def __init__(self, *, network: str) -> None:
        super().__init__(
            f"{network!r} is no network; write an address or a CIDR block without host bits, such as 192.0.2.0/24."
        )


class RightMissing(PreludeError):
    """The caller holds a key that is good for other things."""

    code = "right_missing"

    def __init__(self, *, right: str) -> None:
        super().__init__(f"This operation needs the right {right}, which the key does not hold.")


class RightNotHeld(PreludeError):
    """Nobody gives to a key or a role what it may not do itself."""

    code = "right_not_held"

    def __init__(self, *, rights: list[str]) -> None:
        super().__init__(
            f"Only rights that one holds oneself can be given, and these are not held: {', '.join(rights)}."
        )


class RightOutOfReach(PreludeError):
    """A right that only operators' keys can hold."""

    code = "right_out_of_reach"
    field = "rights"

    def __init__(self, *, rights: list[str]) -> None:
        super().__init__(
            f"A tenant's key holds no more than its owner's rights; these are an operator's: {', '.join(rights)}."
        )


class DatasetFormatUnknown(PreludeError):
    """The file's name does not tell a format that can be read."""

    code = "dataset_format_unknown"

    def __init__(self, *, file_name: str) -> None:
        super().__init__(
            f"The file {file_name!r} is neither .jsonl, .csv nor .parquet; these three are read."
        )


class DatasetEmpty(PreludeError):
    """A file of no bytes."""

    code = "dataset_empty"

    def __init__(self, *, file_name: str) -> None:
        super().__init__(f"The file {file_name!r} has no bytes; a dataset needs at least one row.")


class DatasetTooLarge(PreludeError):
    """The upload was ended as soon as it passed the limit; nothing of it is kept."""

    code = "dataset_too_large"

    def __init__(self, *, file_name: str, limit_bytes: int) -> None:
        super().__init__(
            f"The file {file_name!r} is larger than {limit_bytes} bytes, the limit for one dataset."
        )


class DatasetNotText(PreludeError):
    """The first bytes are not what the format begins with."""

    code = "dataset_encoding"

    def __init__(self, *, file_name: str, wanted: str) -> None:
        super().__init__(f"The file {file_name!r} does not begin as {wanted}; nothing was kept.")


class DatasetInUse(PreludeError):
    """A dataset that an enrolment names or a local run has used cannot be deleted."""

    code = "dataset_in_use"

    def __init__(self, *, dataset_id: str) -> None:
        super().__init__(
            f"Dataset {dataset_id} is or was used by a federation; only a dataset that was never enrolled is deleted."
        )


class DatasetStateConflict(PreludeError):
    """The move is not in `tenants.states.DATASET_TRANSITIONS`."""

    code = "dataset_state_conflict"

    def __init__(self, *, dataset_id: str, state: str, wanted: str) -> None:
        super().__init__(f"Dataset {dataset_id} is {state} and cannot become {wanted}.")


class IdempotencyKeyReused(PreludeError):
    """A key stands for one request for as long as its answer is kept."""

    code = "idempotency_key_reused"

    def __init__(self, *, idempotency_key: str) -> None:
        super().__init__(
            f"The idempotency key {idempotency_key!r} came with another request before; "
            "repeat that one, or use a new key."
        )


class IdempotencyInProgress(PreludeError):
    """Another request with the key has been at work for so long that this one gave up waiting."""

    code = "idempotency_in_progress"
    retry_after_seconds: ClassVar[int] = 1

    def __init__(self, *, idempotency_key: str) -> None:
        super().__init__(
            f"A request with the idempotency key {idempotency_key!r} is still being carried out; "
            "send this one again later."
        )


class RateLimited(PreludeError):
    """The tenant's requests of the last minute are at their limit."""

    code = "rate_limited"

    def __init__(self, *, limit: int, used: int, retry_after_seconds: int) -> None:
        super().__init__(
            f"The tenant may send {limit} requests a minute; the next one fits in {retry_after_seconds} seconds."
        )
        self.limit, self.used, self.retry_after_seconds = limit, used, retry_after_seconds


class QuotaExceeded(PreludeError):
    """A tenant's limit does not leave room for more; an operator can change it."""

    code = "quota_exceeded"
    counted: ClassVar[str] = "of this"

    def __init__(self, *, tenant_id: str, limit: int, used: int) -> None:
        super().__init__(
            f"Tenant {tenant_id} may have {limit} {self.counted} and is at {used}: more does not fit its limit."
        )
        self.limit, self.used = limit, used


class QuotaStoredBytes(QuotaExceeded):
    """All bytes of a tenant's datasets; deleting a dataset gives its bytes back."""

    code = "quota_stored_bytes"
    counted = "bytes of datasets stored"


class QuotaDatasetRows(QuotaExceeded):
    """All rows of a tenant's sound datasets; deleting a dataset gives its rows back."""

    code = "quota_dataset_rows"
    counted = "rows in datasets"


class QuotaRoundsInFlight(QuotaExceeded):
    """Live rounds that a tenant takes part in, over all federations."""

    code = "quota_rounds_in_flight"
    counted = "rounds in flight"


class QuotaDeviceSeconds(QuotaExceeded):
    """Seconds on training workers in a calendar month (UTC)."""

    code = "quota_device_seconds"
    counted = "device seconds a month"


class LeaseLost(PreludeError):
    """A write with a stale fencing token: another attempt owns the work now, or it has ended."""

    code = "lease_lost"

    def __init__(self, *, public_id: str, attempt: int) -> None:
        super().__init__(f"Attempt {attempt} no longer holds {public_id}; its result is not used.")


class ScopeMissing(PreludeError):
    """Code touched a tenant's rows without saying on whose behalf: a defect of ours, never of a caller."""

    code = "scope_missing"

    def __init__(self) -> None:
        super().__init__(
            "No tenant and no platform scope is in force; enter one from `tenants.scoping` first."
        )


class ScopeReadOnly(PreludeError):
    """Code wrote in a scope that was entered for reading: a defect of ours, never of a caller."""

    code = "scope_read_only"

    def __init__(self) -> None:
        super().__init__(
            "The scope in force is for reading; enter `tenants.scoping.tenant` or `platform` to write in it."
        )


class AuditChainBroken(PreludeError):
    """The audit record is not what was written: an entry was altered, removed, inserted or moved."""

    code = "audit_chain_broken"

    def __init__(self, *, number: int, problem: str) -> None:
        super().__init__(
            f"The audit record is broken at entry {number}: {problem}. Entries before it are as they were written."
        )
