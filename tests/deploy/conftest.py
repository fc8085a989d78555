"""Servers of this package's own, which its tests kill and restart, and a world for the console's members."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded.ports import HeldPorts
from deploy.embedded.secrets import load_or_create
from deploy.embedded.servers import Servers
from deploy.embedded.supervisor import Supervisor
from tenants.models import Tenant
from tests.deploy.members import World, make_world


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor with nothing to do yet."""
    with Supervisor(logs=tmp_path / "logs") as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def module_ports() -> Iterator[HeldPorts]:
    """The ports of the module's servers."""
    with HeldPorts() as ports:
        yield ports


@pytest.fixture(scope="module")
def module_supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """The supervisor of the module's servers."""
    with Supervisor(logs=tmp_path_factory.mktemp("logs")) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def embedded_servers(
    module_supervisor: Supervisor, module_ports: HeldPorts, tmp_path_factory: pytest.TempPathFactory
) -> Servers:
    """A PostgreSQL and a Valkey that the tests of one module share."""
    directory = tmp_path_factory.mktemp("servers")
    secrets = load_or_create(directory / "secrets.json")
    return Servers.start(
        directory, supervisor=module_supervisor, ports=module_ports, secrets=secrets, test_mode=True
    )


@pytest.fixture
def world(acme: Tenant, globex: Tenant) -> World:
    """Acme and Globex in one federation, and Acme in one of its own."""
    return make_world(acme, globex)
