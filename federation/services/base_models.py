"""Registering base models: a row now, its digests and shape from the training side."""

from pathlib import PurePosixPath

from django.db import IntegrityError, transaction

from federation.errors import BaseModelDirectoryInvalid, BaseModelNameTaken
from federation.models import BaseModel
from federation.states import BaseModelState
from tenants import dispatch
from tenants.services import attempts, audit


def register_base_model(*, name: str, directory: str, source: str, licence: str) -> BaseModel:
    """A base model to be read by a training worker. Raises BaseModelDirectoryInvalid and BaseModelNameTaken."""
    path = PurePosixPath(directory)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\x00" in directory:
        raise BaseModelDirectoryInvalid(directory=directory)
    try:
        with transaction.atomic():
            row = BaseModel.objects.create(name=name, directory=str(path), source=source, licence=licence)
            dispatch.wake_worker(row)
    except IntegrityError:
        raise BaseModelNameTaken(name=name) from None
    after = audit.fields(row, "name", "directory", "source", "licence", "state")
    audit.record(action="base_model.registered", subject=row, after=after)
    return row


def accept_base_model(
    *, base_model: BaseModel, weights_sha256: str, tokenizer_sha256: str, facts: dict[str, object]
) -> None:
    """The training side has read it. Raises LeaseLost for a stale attempt."""
    with transaction.atomic():
        base_model.lock_held()
        before = audit.fields(base_model, "state", "weights_sha256", "tokenizer_sha256")
        attempts.end(
            base_model,
            BaseModelState.READY,
            weights_sha256=weights_sha256,
            tokenizer_sha256=tokenizer_sha256,
            facts=facts,
        )
        after = audit.fields(base_model, *before)
        audit.record(action="base_model.accepted", subject=base_model, before=before, after=after)


def refuse_base_model(*, base_model: BaseModel, code: str, reason: str) -> None:
    """The training side cannot use it. Raises LeaseLost for a stale attempt."""
    with transaction.atomic():
        base_model.lock_held()
        before = audit.fields(base_model, "state", "refusal_code")
        attempts.end(base_model, BaseModelState.REFUSED, reason=reason, refusal_code=code)
        after = audit.fields(base_model, *before)
        audit.record(action="base_model.refused", subject=base_model, before=before, after=after)
