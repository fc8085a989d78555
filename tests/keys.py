"""API keys and HTTP clients that send them. Who makes a key here may give everything."""

from typing import Any

from rest_framework.test import APIClient

from tenants import scoping
from tenants.models import Tenant
from tenants.rights import OPERATOR_RIGHTS
from tenants.services.api_keys import NewApiKey, create_api_key


def new_key(*, tenant: Tenant | None, name: str = "tests", **terms: Any) -> NewApiKey:
    """A key that an operator makes, in the scope in force."""
    return create_api_key(tenant=tenant, name=name, giver_rights=OPERATOR_RIGHTS, **terms)


def client_with(text: str) -> APIClient:
    """HTTP with a key's text."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def new_client(tenant: Tenant | None, **terms: Any) -> APIClient:
    """HTTP with a key of its own."""
    with scoping.platform():
        return client_with(new_key(tenant=tenant, **terms).text)


def get_remembered(client: APIClient, path: str = "/api/v1/me") -> Any:
    """An answer to the client whose key the process has found often enough to remember it."""
    return [client.get(path) for _ in range(3)][-1]
