"""States of what a tenant owns, as pure data."""

from django.db import models


class DatasetState(models.TextChoices):
    """A dataset is checked on the training side before anything may train on it."""

    VALIDATING = "validating"
    READY = "ready"
    REFUSED = "refused"


DATASET_TRANSITIONS: dict[DatasetState, tuple[DatasetState, ...]] = {
    DatasetState.VALIDATING: (DatasetState.READY, DatasetState.REFUSED),
    DatasetState.READY: (),
    DatasetState.REFUSED: (),
}


class TenantState(models.TextChoices):
    """A suspended tenant's keys are refused; its rows stay."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class Role(models.TextChoices):
    """What a member may do within its tenant."""

    OWNER = "owner"
    ENGINEER = "engineer"
    VIEWER = "viewer"
    AUDITOR = "auditor"


class DatasetFormat(models.TextChoices):
    """The file formats that are read, by the file's ending."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class ActorKind(models.TextChoices):
    """Who makes a change, in the audit record."""

    OPERATOR_KEY = "operator_key"
    TENANT_KEY = "tenant_key"
    MEMBER = "member"
    CONSOLE_USER = "console_user"
    SYSTEM_USER = "system_user"
    PLATFORM = "platform"
    ANONYMOUS = "anonymous"
