"""Ports that stay the same between starts, and the lock that keeps two supervisors apart."""

import socket
from pathlib import Path

import pytest

from deploy.embedded.errors import PlatformAlreadyRunning, PortTaken
from deploy.embedded.lock import sole_supervisor
from deploy.embedded.ports import LOOPBACK, free_port, is_free, remembered_port, required_port


def test_a_port_is_remembered(tmp_path: Path) -> None:
    port = remembered_port("web", directory=tmp_path)
    other = remembered_port("postgres", directory=tmp_path)
    assert remembered_port("web", directory=tmp_path) == port
    assert remembered_port("postgres", directory=tmp_path) == other


def test_the_preferred_port_comes_first_and_a_taken_one_is_left_alone(tmp_path: Path) -> None:
    preferred = free_port()
    assert remembered_port("web", directory=tmp_path, preferred=preferred) == preferred
    with socket.socket() as stranger:
        stranger.bind((LOOPBACK, preferred))
        stranger.listen()
        assert not is_free(preferred)
        assert remembered_port("web", directory=tmp_path, preferred=preferred) != preferred
        with pytest.raises(PortTaken, match=str(preferred)):
            required_port(preferred)


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
