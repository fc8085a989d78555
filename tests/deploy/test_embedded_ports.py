"""Ports that are held and stay the same between starts, and the lock that keeps two supervisors apart."""

import multiprocessing
import resource
import socket
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from deploy.embedded.errors import PlatformAlreadyRunning, PortTaken
from deploy.embedded.lock import sole_supervisor
from deploy.embedded.ports import LOOPBACK, HeldPorts

N_PLATFORMS = 6


def some_port() -> int:
    """One that was free a moment ago."""
    with HeldPorts() as ports:
        return ports.free()


def test_a_port_is_remembered(tmp_path: Path) -> None:
    chosen = []
    for _ in range(2):
        with HeldPorts() as ports:
            chosen.append([ports.remembered(name, directory=tmp_path) for name in ("web", "postgres")])
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) == 2


def test_the_known_ports_stay_where_the_disk_is_full(tmp_path: Path) -> None:
    with HeldPorts() as ports:
        ports.remembered("web", directory=tmp_path)
    before = (tmp_path / "ports.json").read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
    try:
        with HeldPorts() as ports, pytest.raises(OSError, match="File too large"):
            ports.remembered("postgres", directory=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "ports.json").read_text() == before


def test_the_preferred_port_comes_first_and_a_taken_one_is_left_alone(tmp_path: Path) -> None:
    preferred = some_port()
    with HeldPorts() as ports:
        assert ports.remembered("web", directory=tmp_path, preferred=preferred) == preferred
    with socket.socket() as stranger, HeldPorts() as ports:
        stranger.bind((LOOPBACK, preferred))
        stranger.listen()
        assert ports.remembered("web", directory=tmp_path, preferred=preferred) != preferred
        with pytest.raises(PortTaken, match=str(preferred)):
            ports.required("web", preferred, directory=tmp_path)


def test_a_port_that_was_asked_for_is_the_next_starts_too(tmp_path: Path) -> None:
    asked = some_port()
    with HeldPorts() as ports:
        ports.remembered("web", directory=tmp_path)
        assert ports.required("web", asked, directory=tmp_path) == asked
    with HeldPorts() as ports:
        assert ports.remembered("web", directory=tmp_path) == asked


def test_a_held_port_is_nobody_elses_until_it_is_let_go(tmp_path: Path) -> None:
    with HeldPorts() as first, HeldPorts() as second:
        port = first.free()
        assert not second.hold(port)
        with pytest.raises(PortTaken):
            second.required("web", port, directory=tmp_path)
        with socket.socket() as server:  # the server that it is held for may listen, at once or later
            server.bind((LOOPBACK, port))
            server.listen()
        first.close()
        assert second.required("web", port, directory=tmp_path) == port


def choose(directory: Path, preferred: int, barrier: Barrier, answer: Connection) -> None:
    """As a platform of its own: choose at the same moment as the others, and keep the port until all have chosen."""
    with HeldPorts() as ports:
        barrier.wait()
        answer.send(ports.remembered("web", directory=directory, preferred=preferred))
        barrier.wait()


def test_platforms_that_choose_at_the_same_moment_choose_different_ports(tmp_path: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    barrier, preferred = spawning.Barrier(N_PLATFORMS), some_port()
    answers, platforms = [], []
    for number in range(N_PLATFORMS):
        directory = tmp_path / str(number)
        directory.mkdir()
        receiver, sender = spawning.Pipe(duplex=False)
        platforms.append(spawning.Process(target=choose, args=(directory, preferred, barrier, sender)))
        platforms[-1].start()
        answers.append(receiver)
    ports = [answer.recv() for answer in answers]
    for platform in platforms:
        platform.join(timeout=30)
    assert len(set(ports)) == N_PLATFORMS
    assert preferred in ports


def test_a_second_supervisor_is_refused_by_name_of_the_first(tmp_path: Path) -> None:
    with (
        sole_supervisor(tmp_path),
        pytest.raises(PlatformAlreadyRunning, match=r"\(process \d+\)"),
        sole_supervisor(tmp_path),
    ):
        pass


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_supervisor(tmp_path):
            assert (tmp_path / "lock").read_text().strip().isdigit()
