"""Loopback ports: chosen once, then remembered, so that addresses stay the same between starts."""

import json
import logging
import secrets
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Final

from deploy.embedded.errors import PortTaken

LOOPBACK: Final = "127.0.0.1"
LOWEST_PORT: Final = 20_000
N_PORTS: Final = 12_000

logger = logging.getLogger(__name__)


def free_port(*, taken: Collection[int] = ()) -> int:
    """A port that nobody listens on now.

    Below those that the kernel gives to outgoing connections: while a server is being restarted, one of its own
    clients could be given its port.
    """
    while True:
        port = LOWEST_PORT + secrets.randbelow(N_PORTS)
        if port not in taken and is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        # As servers do: a connection of the last run that lingers does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def remembered_port(name: str, *, directory: Path, preferred: int | None = None) -> int:
    """The port that a server of this directory had last time, else the preferred one, else any free one."""
    path = directory / "ports.json"
    ports: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    candidates = [port for port in (ports.get(name), preferred) if port is not None]
    port = next(filter(is_free, candidates), None) or free_port(taken=ports.values())
    if candidates and port != candidates[0]:
        logger.warning("Port %d is taken; %s listens on %d", candidates[0], name, port)
    path.write_text(json.dumps({**ports, name: port}, indent=2) + "\n")
    return port


def required_port(port: int) -> int:
    """The port that was asked for.

    Raises: PortTaken.
    """
    if not is_free(port):
        raise PortTaken(port=port)
    return port
