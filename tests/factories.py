"""One factory for each model. Rows are made in the platform's scope, whatever scope the test is in."""

from datetime import timedelta
from typing import Any, Generic, TypeVar

import factory
import numpy as np
from django.contrib.auth import get_user_model
from django.db import models
from django.utils import timezone
from safetensors.numpy import save

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
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookPlace,
    WebhookSecret,
)
from federation.specification import parse_specification
from federation.states import (
    BaseModelState,
    EnrolmentState,
    EvaluationState,
    FederationState,
    PersonalRule,
    RoundState,
    WebhookState,
)
from tenants import encryption, scoping, storage
from tenants.ids import uuid7
from tenants.models import ApiKey, Dataset, IdempotencyRecord, Membership, Tenant, TenantLimits, UsageDay
from tenants.rights import ROLE_RIGHTS
from tenants.services.keys import master_key
from tenants.states import DatasetState, Role

M = TypeVar("M", bound=models.Model)

PREFIX_SHAPE = (4, 16)
SPECIFICATION: dict[str, Any] = parse_specification(
    {
        "method": {"kind": "prefix", "n_virtual_tokens": 4, "start_text": "A review is good or bad."},
        "task": {
            "kind": "label",
            "template": "{text}\nSentiment:",
            "label_words": {"positive": " positive", "negative": " negative"},
        },
    }
).as_json()


def prefix_bytes(seed: int = 0) -> bytes:
    """A prefix as a safetensors file: float32, PREFIX_SHAPE."""
    values = np.random.default_rng(seed).normal(size=PREFIX_SHAPE).astype(np.float32)
    return save({"prompt_embeddings": values}, metadata={"format": "pt"})


class PlatformFactory(factory.django.DjangoModelFactory, Generic[M]):  # type: ignore[misc]
    """The base of all factories."""

    class Meta:
        abstract = True

    @classmethod
    def _create(cls, model_class: type[M], *args: Any, **kwargs: Any) -> M:
        with scoping.platform():
            row: M = super()._create(model_class, *args, **kwargs)
            plain = [field.name for field in row._meta.concrete_fields if not field.is_relation]
            row.refresh_from_db(fields=plain)  # the database's own defaults; relations stay loaded
            return row

    @classmethod
    def create(cls, **kwargs: Any) -> M:
        """A saved row."""
        row: M = super().create(**kwargs)
        return row


class UserFactory(PlatformFactory[Any]):
    """A person."""

    class Meta:
        model = get_user_model()

    username = factory.Sequence(lambda n: f"person{n}@example.com")
    email = factory.SelfAttribute("username")


class TenantFactory(PlatformFactory[Tenant]):
    """A tenant with a data key, and with limits that limit nothing."""

    class Meta:
        model = Tenant
        skip_postgeneration_save = True

    id = factory.LazyFunction(uuid7)
    name = factory.Sequence(lambda n: f"Tenant {n}")
    slug = factory.Sequence(lambda n: f"tenant-{n}")
    wrapped_data_key = factory.LazyAttribute(
        lambda row: encryption.wrap(master_key(), encryption.new_data_key(), tenant_id=row.id)
    )

    limits = factory.RelatedFactory("tests.factories.TenantLimitsFactory", factory_related_name="tenant")


class TenantLimitsFactory(PlatformFactory[TenantLimits]):
    """No limit at all."""

    class Meta:
        model = TenantLimits

    tenant = factory.SubFactory(TenantFactory, limits=None)
    requests_per_minute = None
    rounds_in_flight = None
    dataset_rows = None
    stored_bytes = None
    device_seconds_per_month = None


class UsageDayFactory(PlatformFactory[UsageDay]):
    """A quiet day."""

    class Meta:
        model = UsageDay

    tenant = factory.SubFactory(TenantFactory)
    day = factory.LazyFunction(lambda: timezone.now().date())


class MembershipFactory(PlatformFactory[Membership]):
    """An engineer of a tenant."""

    class Meta:
        model = Membership

    tenant = factory.SubFactory(TenantFactory)
    user = factory.SubFactory(UserFactory)
    role = Role.ENGINEER


class ApiKeyFactory(PlatformFactory[ApiKey]):
    """A key of an engineer's rights that nobody knows the text of."""

    class Meta:
        model = ApiKey

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence(lambda n: f"key {n}")
    digest = b"\x00" * 32
    rights = factory.LazyFunction(lambda: sorted(ROLE_RIGHTS[Role.ENGINEER]))


class IdempotencyRecordFactory(PlatformFactory[IdempotencyRecord]):
    """A tenant's key whose answer cannot be read."""

    class Meta:
        model = IdempotencyRecord

    tenant = factory.SubFactory(TenantFactory)
    caller = factory.SelfAttribute("tenant.id")
    key = factory.Sequence(lambda n: f"key {n}")
    request_digest = b"\x00" * 32
    status = 201


class DatasetFactory(PlatformFactory[Dataset]):
    """A dataset of two labels that was found sound; no bytes behind it."""

    class Meta:
        model = Dataset

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence(lambda n: f"dataset {n}")
    format = "jsonl"
    state = DatasetState.READY
    finished_at = factory.LazyAttribute(
        lambda row: None if row.state == DatasetState.VALIDATING else timezone.now()
    )
    blob_name = factory.Sequence(lambda n: f"datasets/{n:064x}")
    size_bytes = 1_000
    facts = factory.LazyFunction(
        lambda: {
            "kind": "label",
            "columns": ["text", "label"],
            "n_rows": 100,
            "n_train": 80,
            "n_held_out": 20,
            "n_duplicates": 0,
            "labels": {"positive": 50, "negative": 50},
        }
    )


class BaseModelFactory(PlatformFactory[BaseModel]):
    """A base model that was read; no directory behind it."""

    class Meta:
        model = BaseModel

    name = factory.Sequence(lambda n: f"base {n}")
    directory = "tiny"
    source = "made for a test"
    licence = "Apache-2.0"
    state = BaseModelState.READY
    finished_at = factory.LazyAttribute(
        lambda row: None if row.state == BaseModelState.REGISTERING else timezone.now()
    )
    weights_sha256 = "a" * 64
    tokenizer_sha256 = "b" * 64
    facts = factory.LazyFunction(
        lambda: {
            "architecture": "LlamaForCausalLM",
            "kind": "causal",
            "n_layers": 2,
            "n_kv_heads": 2,
            "head_size": 2,
            "n_parameters": 9,
        }
    )


class FederationFactory(PlatformFactory[Federation]):
    """A federation without a version; `ready_federation` makes one that can hold rounds."""

    class Meta:
        model = Federation

    name = factory.Sequence(lambda n: f"federation {n}")
    base_model = factory.SubFactory(BaseModelFactory)
    specification = factory.LazyFunction(lambda: SPECIFICATION)
    specification_sha256 = "c" * 64
    state = FederationState.READY
    finished_at = factory.LazyAttribute(
        lambda row: None if row.state == FederationState.PREPARING else timezone.now()
    )
    configuration = factory.LazyFunction(lambda: {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4})


class PrefixVersionFactory(PlatformFactory[PrefixVersion]):
    """A version whose bytes are in storage."""

    class Meta:
        model = PrefixVersion

    federation = factory.SubFactory(FederationFactory)
    number = 0
    sha256 = factory.LazyAttribute(lambda row: storage.put(prefix_bytes(row.number)))
    size_bytes = factory.LazyAttribute(lambda row: len(prefix_bytes(row.number)))
    broadcast_sha256 = factory.SelfAttribute("sha256")
    broadcast_size_bytes = factory.SelfAttribute("size_bytes")


class PublishedPrefixFactory(PlatformFactory[PublishedPrefix]):
    """The pointer to a start version."""

    class Meta:
        model = PublishedPrefix

    version = factory.SubFactory(PrefixVersionFactory)
    federation = factory.SelfAttribute("version.federation")


class PublishRecordFactory(PlatformFactory[PublishRecord]):
    """The record of a first publication."""

    class Meta:
        model = PublishRecord

    new = factory.SubFactory(PrefixVersionFactory)
    federation = factory.SelfAttribute("new.federation")
    actor = "platform"
    reason = "start prefix"


class EnrolmentFactory(PlatformFactory[Enrolment]):
    """An active enrolment with a dataset."""

    class Meta:
        model = Enrolment

    tenant = factory.SubFactory(TenantFactory)
    federation = factory.SubFactory(FederationFactory)
    dataset = factory.SubFactory(DatasetFactory, tenant=factory.SelfAttribute("..tenant"))
    state = EnrolmentState.ACTIVE


class ScheduleFactory(PlatformFactory[Schedule]):
    """Every ten minutes."""

    class Meta:
        model = Schedule

    federation = factory.SubFactory(FederationFactory)
    every_minutes = 10
    next_due_at = factory.LazyFunction(timezone.now)


class CampaignFactory(PlatformFactory[Campaign]):
    """A live campaign of three rounds, without any."""

    class Meta:
        model = Campaign

    federation = factory.SubFactory(FederationFactory)
    n_rounds = 3


class FederatedRoundFactory(PlatformFactory[FederatedRound]):
    """A round in training, without local runs."""

    class Meta:
        model = FederatedRound

    parent_version = factory.SubFactory(PrefixVersionFactory)
    incumbent_version = factory.SelfAttribute("parent_version")
    federation = factory.SelfAttribute("parent_version.federation")
    number = 1
    state = RoundState.TRAINING
    quorum = 2
    deadline_at = factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1))


class LocalRunFactory(PlatformFactory[LocalRun]):
    """A queued local run."""

    class Meta:
        model = LocalRun

    federated_round = factory.SubFactory(FederatedRoundFactory)
    enrolment = factory.SubFactory(
        EnrolmentFactory, federation=factory.SelfAttribute("..federated_round.federation")
    )
    tenant = factory.SelfAttribute("enrolment.tenant")
    dataset = factory.SelfAttribute("enrolment.dataset")
    n_examples = 80


class EvaluationFactory(PlatformFactory[Evaluation]):
    """A completed evaluation of a version."""

    class Meta:
        model = Evaluation

    version = factory.SubFactory(PrefixVersionFactory)
    federation = factory.SelfAttribute("version.federation")
    dataset = factory.SubFactory(DatasetFactory)
    tenant = factory.SelfAttribute("dataset.tenant")
    state = EvaluationState.COMPLETED
    finished_at = factory.LazyAttribute(
        lambda row: None if row.state in (EvaluationState.QUEUED, EvaluationState.RUNNING) else timezone.now()
    )
    accuracy = 0.75
    loss = 0.5
    n_rows = 20


class PersonalPrefixFactory(PlatformFactory[PersonalPrefix]):
    """A personal prefix by plain training from a start version: queued, or with what a completed one has."""

    class Meta:
        model = PersonalPrefix

    version = factory.SubFactory(PrefixVersionFactory)
    federation = factory.SelfAttribute("version.federation")
    enrolment = factory.SubFactory(EnrolmentFactory, federation=factory.SelfAttribute("..federation"))
    tenant = factory.SelfAttribute("enrolment.tenant")
    dataset = factory.SelfAttribute("enrolment.dataset")
    rule = PersonalRule.FINE_TUNE
    n_steps = 24
    learning_rate = 0.005
    state = EvaluationState.QUEUED
    shared_accuracy = shared_loss = accuracy = loss = factory.LazyAttribute(
        lambda row: _if_completed(row, 0.5)
    )
    n_rows = size_bytes = factory.LazyAttribute(lambda row: _if_completed(row, 20))
    blob_name = factory.LazyAttribute(lambda row: _if_completed(row, "encrypted/00/00") or "")


def _if_completed(row: Any, value: Any) -> Any:
    return value if row.state == EvaluationState.COMPLETED else None


class RoundEventFactory(PlatformFactory[RoundEvent]):
    """A round's own event."""

    class Meta:
        model = RoundEvent

    federated_round = factory.SubFactory(FederatedRoundFactory)
    kind = "round.training"


class WebhookEndpointFactory(PlatformFactory[WebhookEndpoint]):
    """A tenant's webhook, active, for all kinds of events; without a secret."""

    class Meta:
        model = WebhookEndpoint

    tenant = factory.SubFactory(TenantFactory)
    url = factory.Sequence(lambda n: f"https://hooks{n}.example.com/prelude")
    state = WebhookState.ACTIVE


class WebhookSecretFactory(PlatformFactory[WebhookSecret]):
    """A secret that nobody knows the text of."""

    class Meta:
        model = WebhookSecret

    endpoint = factory.SubFactory(WebhookEndpointFactory)
    tenant = factory.SelfAttribute("endpoint.tenant")
    sealed = b"\x00" * 32


class WebhookDeliveryFactory(PlatformFactory[WebhookDelivery]):
    """A message that waits."""

    class Meta:
        model = WebhookDelivery

    endpoint = factory.SubFactory(WebhookEndpointFactory)
    tenant = factory.SelfAttribute("endpoint.tenant")
    kind = "round.published"
    body = "{}"


class WebhookAttemptFactory(PlatformFactory[WebhookAttempt]):
    """An attempt that was answered well."""

    class Meta:
        model = WebhookAttempt

    delivery = factory.SubFactory(WebhookDeliveryFactory)
    tenant = factory.SelfAttribute("delivery.tenant")
    number = 1
    started_at = factory.LazyFunction(timezone.now)
    latency_seconds = 0.1
    status_code = 204


class WebhookPlaceFactory(PlatformFactory[WebhookPlace]):
    """The start of the stream."""

    class Meta:
        model = WebhookPlace

    id = 1
    number = 0


def ready_federation(*, n_tenants: int = 3, quorum: int = 2, **specification: Any) -> Federation:
    """A federation with version 0 published and `n_tenants` active tenants."""
    rules = {**SPECIFICATION, "round": {"quorum": quorum, "deadline_seconds": 3_600}, **specification}
    federation = FederationFactory.create(specification=parse_specification(rules).as_json())
    PublishedPrefixFactory.create(version=PrefixVersionFactory.create(federation=federation))
    for _ in range(n_tenants):
        EnrolmentFactory.create(federation=federation)
    return federation
