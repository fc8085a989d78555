"""The training side's tasks. A message carries ids; the row says what is to be done and who may do it."""

from functools import partial

from celery import shared_task

from federation.models import BaseModel, Evaluation, Federation, LocalRun
from tenants import scoping
from tenants.models import Dataset, Tenant
from training_workers import work
from training_workers.attempts import perform


@shared_task(name=BaseModel.task_name)
def inspect_base_model(base_model_id: str) -> None:
    """Read a base model's digests and shape."""
    perform(BaseModel, base_model_id, scope=scoping.platform, work=work.inspect_base_model)


@shared_task(name=Federation.task_name)
def prepare_start(federation_id: str) -> None:
    """Compute a federation's version 0."""
    perform(Federation, federation_id, scope=scoping.platform, work=work.prepare_start)


@shared_task(name=Dataset.task_name)
def validate_dataset(tenant_id: str, dataset_id: str) -> None:
    """Read a tenant's dataset row by row."""
    scope = partial(scoping.tenant, Tenant.key_from(tenant_id))
    perform(Dataset, dataset_id, scope=scope, work=work.validate_dataset)


@shared_task(name=LocalRun.task_name)
def train(tenant_id: str, local_run_id: str) -> None:
    """Train a tenant's prefix from the broadcast version and submit its change."""
    scope = partial(scoping.tenant, Tenant.key_from(tenant_id))
    perform(LocalRun, local_run_id, scope=scope, work=work.train)


@shared_task(name=Evaluation.task_name)
def evaluate(tenant_id: str, evaluation_id: str) -> None:
    """Score a version on a tenant's held-out rows."""
    scope = partial(scoping.tenant, Tenant.key_from(tenant_id))
    perform(Evaluation, evaluation_id, scope=scope, work=work.evaluate)
