"""Everything that a round needs: base model, tenants with their data, and a federation they are enrolled in.

Each thing is looked for before it is made, so that a second run goes on with what is there.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.demo.client import Api, Body, find, find_or_create
from deploy.demo.errors import ThingRefused, WaitedTooLong
from deploy.demo.keys import Keys, tenant_key
from deploy.demo.packages import BASE_MODEL, MODEL_PACKAGE
from deploy.demo.specification import FEDERATION_NAME, SPECIFICATION, TENANT_NAMES

DATASET_NAME: Final = "scored texts"
READY_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.3

Tell = Callable[[str], None]


@dataclass(frozen=True)
class DemoTenant:
    """A tenant with its own client and its dataset."""

    slug: str
    id: str
    api: Api
    dataset: Body


@dataclass(frozen=True)
class Arrangement:
    """What the rounds run on."""

    operator: Api
    base_model: Body
    tenants: list[DemoTenant]
    federation: Body


def set_up(
    platform_url: str, keys: Keys, data: Mapping[str, Path], *, resources: ExitStack, tell: Tell
) -> Arrangement:
    """Register, upload and enrol what is not there yet; `resources` closes the clients.

    Raises:
        ApiRefused: a request was refused.
        ThingRefused: the platform refused the base model, a dataset or the federation.
        WaitedTooLong: one of them did not become ready.
    """
    operator = resources.enter_context(Api(platform_url, keys.operator))
    base_model = _registered_base_model(operator)
    tenants = []
    for slug, file in data.items():
        record = find_or_create(
            operator, "/tenants", key="slug", body={"name": TENANT_NAMES[slug], "slug": slug}
        )
        own_key = tenant_key(keys, platform_url, operator, slug=slug, tenant_id=record["id"])
        api = resources.enter_context(Api(platform_url, own_key))
        tenants.append(DemoTenant(slug=slug, id=record["id"], api=api, dataset=_uploaded_dataset(api, file)))
    tenants = [_with_ready_dataset(tenant, tell) for tenant in tenants]
    base_model = wait_until_ready(operator, f"/base-models/{base_model['id']}")
    tell(f"base model {base_model['name']}: weights {base_model['weights_sha256'][:12]}…")
    federation = _enrolled_federation(operator, base_model, tenants)
    tell(f"federation {federation['id']}: {len(tenants)} tenants enrolled")
    return Arrangement(operator=operator, base_model=base_model, tenants=tenants, federation=federation)


def wait_until_ready(api: Api, path: str, *, seconds: float = READY_SECONDS) -> Body:
    """Return the thing at `path` as soon as its state is `ready`."""
    started = time.monotonic()
    while True:
        thing = api.get(path)
        waited = time.monotonic() - started
        if thing["state"] == "ready":
            return thing
        if thing["state"] == "refused":
            raise ThingRefused(path=path, reason=str(thing["refusal"]))
        if waited > seconds:
            raise WaitedTooLong(path=path, state=thing["state"], waited_seconds=waited)
        time.sleep(_POLL_SECONDS)


def _registered_base_model(operator: Api) -> Body:
    source = f"{MODEL_PACKAGE.requirement}, converted from GGUF Q4_1"
    body = {"name": BASE_MODEL, "directory": BASE_MODEL, "source": source, "licence": "Apache-2.0"}
    return find_or_create(operator, "/base-models", key="name", body=body)


def _uploaded_dataset(api: Api, file: Path) -> Body:
    known = find(api, "/datasets", key="name", value=DATASET_NAME)
    return known or api.upload("/datasets", file, name=DATASET_NAME)


def _with_ready_dataset(tenant: DemoTenant, tell: Tell) -> DemoTenant:
    dataset = wait_until_ready(tenant.api, f"/datasets/{tenant.dataset['id']}")
    facts = dataset["facts"]
    tell(
        f"tenant {tenant.slug}: dataset {dataset['id']}, "
        f"{facts['n_train']} rows to train on, {facts['n_held_out']} held out"
    )
    return DemoTenant(slug=tenant.slug, id=tenant.id, api=tenant.api, dataset=dataset)


def _enrolled_federation(operator: Api, base_model: Body, tenants: list[DemoTenant]) -> Body:
    body = {"name": FEDERATION_NAME, "base_model": base_model["id"], "specification": SPECIFICATION}
    federation = find_or_create(operator, "/federations", key="name", body=body)
    federation = wait_until_ready(operator, f"/federations/{federation['id']}")
    enrolments = f"/federations/{federation['id']}/enrolments"
    states = {found["tenant"]: found["state"] for found in operator.list(enrolments)}
    for tenant in tenants:
        if states.get(tenant.id, "left") == "left":
            operator.post(enrolments, {"tenant": tenant.id})
        if states.get(tenant.id) != "active":
            tenant.api.post(enrolments, {"dataset": tenant.dataset["id"]})
    return federation
