"""Loopback ports: chosen once and held, then remembered, so that addresses stay the same between starts."""

import json
import logging
import secrets
import socket
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.embedded.errors import PortTaken

LOOPBACK: Final = "127.0.0.1"
LOWEST_PORT: Final = 20_000
N_PORTS: Final = 12_000
_FILE_NAME: Final = "ports.json"

logger = logging.getLogger(__name__)


class HeldPorts:
    """Loopback ports that no other platform or test of this machine takes, from their choice until `close`.

    A server listens long after its port was chosen, and most cannot be handed a socket. So whoever chooses a TCP port
    holds the UDP port of the same number, which nobody uses, for as long as it may need the TCP one. The kernel gives
    that to one process alone, and takes it back however the process ends.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let all go."""
        while self._sockets:
            self._sockets.pop().close()

    def hold(self, port: int) -> bool:
        """Whether the port is held from now on: nobody else held it, and nobody listens on it."""
        held = socket.socket(type=socket.SOCK_DGRAM)
        try:
            held.bind((LOOPBACK, port))
        except OSError:
            held.close()
            return False
        if not _is_free(port):
            held.close()
            return False
        self._sockets.append(held)
        return True

    def free(self, *, taken: Collection[int] = ()) -> int:
        """Any port.

        Below those that the kernel gives to outgoing connections: while a server is being restarted, one of its own
        clients could be given its port.
        """
        while True:
            port = LOWEST_PORT + secrets.randbelow(N_PORTS)
            if port not in taken and self.hold(port):
                return port

    def remembered(self, name: str, *, directory: Path, preferred: int | None = None) -> int:
        """The port that a server of this directory had last time, else the preferred one, else any."""
        ports = _read(directory)
        candidates = [port for port in (ports.get(name), preferred) if port is not None]
        port = next(filter(self.hold, candidates), None) or self.free(taken=ports.values())
        if candidates and port != candidates[0]:
            logger.warning("Port %d is taken; %s listens on %d", candidates[0], name, port)
        _write(directory, {**ports, name: port})
        return port

    def required(self, name: str, port: int, *, directory: Path) -> int:
        """The port that was asked for, which is remembered.

        Raises: PortTaken.
        """
        if not self.hold(port):
            raise PortTaken(port=port)
        _write(directory, {**_read(directory), name: port})
        return port


def _read(directory: Path) -> dict[str, int]:
    path = directory / _FILE_NAME
    ports: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    return ports


def _write(directory: Path, ports: dict[str, int]) -> None:
    # By way of a draft: a start that is cut off here would leave a file that no start can read.
    path = directory / _FILE_NAME
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(ports, indent=2) + "\n")
    draft.replace(path)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection of the last run that lingers does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
