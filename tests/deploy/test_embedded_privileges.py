"""PostgreSQL as each identity that this machine can give it, out of reach of the directories above."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.embedded.errors import DirectoryOfAnotherUser
from deploy.embedded.layout import PROJECT
from deploy.embedded.ports import HeldPorts
from deploy.embedded.postgres import PostgresServer
from deploy.embedded.privileges import fitting_identity, place_for, run_as, runnable_copy
from deploy.embedded.processes import Identity
from deploy.embedded.servers import wait_until_ready
from deploy.embedded.supervisor import Supervisor

IS_ROOT = os.geteuid() == 0
POSSIBLE = [fitting_identity(), Identity.NOBODY] if IS_ROOT else [Identity.SAME]


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A directory that only its owner can enter, as root's home is."""
    directory = tmp_path / "private"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture(params=dict.fromkeys(POSSIBLE), ids=str)
def server(request: pytest.FixtureRequest, private: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL of one identity; what it keeps outside of the directory is removed again."""
    with HeldPorts() as ports:
        server = PostgresServer.inside(
            private, ports=ports, password="a password of its own", identity=request.param
        )
        yield server
    shutil.rmtree(server.place, ignore_errors=True)


def test_postgres_runs_within_a_private_directory(server: PostgresServer, supervisor: Supervisor) -> None:
    server.create_data()
    supervisor.start(server.specification())
    wait_until_ready(server.name, server.problem, log=supervisor.log(server.name), seconds=20)
    with psycopg.connect(server.superuser_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("identity", dict.fromkeys(POSSIBLE), ids=str)
def test_each_identity_but_our_own_is_not_root_in_its_own_eyes(identity: Identity) -> None:
    user = int(run_as(identity, ["/usr/bin/id", "-u"]).stdout)
    assert user != 0
    assert user == (os.geteuid() if identity is Identity.SAME else 65534)


def test_programs_that_cannot_be_reached_are_copied_with_their_libraries(
    tmp_path: Path, private: Path
) -> None:
    package = private / "package"
    package.mkdir()
    (package / "program").symlink_to("/bin/true")
    private.joinpath("package.libs").mkdir()
    copied = runnable_copy(package, probe="missing", version="1", place=tmp_path, identity=POSSIBLE[-1])
    assert copied == tmp_path / "programs-1" / "package"
    assert (copied / "program").exists()
    assert (copied.parent / "package.libs").is_dir()
    assert (
        runnable_copy(package, probe="program", version="1", place=tmp_path, identity=POSSIBLE[0]) == package
    )


def test_the_place_of_somebody_else_is_not_used(monkeypatch: pytest.MonkeyPatch, private: Path) -> None:
    monkeypatch.setattr("deploy.embedded.privileges.PUBLIC_PARENT", private)
    monkeypatch.setattr(Path, "owner", lambda _: "mallory")
    with pytest.raises(DirectoryOfAnotherUser, match="belongs to mallory"):
        place_for(private, identity=Identity.NOBODY)


def test_only_nobody_needs_a_place_of_its_own(private: Path) -> None:
    assert place_for(private, identity=Identity.SAME) == private
    assert place_for(private, identity=Identity.USER_NAMESPACE) == private


@pytest.mark.skipif(not IS_ROOT, reason="only root becomes nobody")
def test_clean_var_reaches_the_place_of_nobody_too(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.embedded.privileges.PUBLIC_PARENT", private)
    (private / "var" / "platform").mkdir(parents=True)
    place = place_for(private / "var" / "platform", identity=Identity.NOBODY)
    assert place.is_dir()
    makefile = f"--file={PROJECT / 'Makefile'}"
    subprocess.run(
        ["make", makefile, "clean-var", f"NOBODYS_PLACE={private}/prelude"], cwd=private, check=True
    )
    assert list(private.iterdir()) == []
