"""A client of sixteen connections in a process of its own, so that its work is not the server's.

python -m tests.benchmarks.load PORT '{"web": PID, …}' < blocks.json > timings.json
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import psutil

N_CONNECTIONS = 16
HOST = "127.0.0.1"


class Request(NamedTuple):
    """One request of the API, and the bare view that answers the same."""

    path: str
    bare_path: str
    key: str


class Answer(NamedTuple):
    """What came back, and after how long."""

    status: int
    seconds: float


class Block(NamedTuple):
    """The answers to requests that were sent one after the other over all connections, and what sending them took."""

    answers: list[Answer]
    wall_seconds: float
    client_seconds: float  # of a processor
    server_seconds: dict[str, float]  # of a processor, by the servers' names


def encoded(path: str, key: str) -> bytes:
    """A GET on a connection that stays open; a bare view pays no heed to the key."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {HOST}",
        f"Authorization: Bearer {key}",
        "Accept: application/json",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
) -> tuple[int, bytes]:
    """Send the request and read the whole answer: its status and its body."""
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    body = await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    return int(head.split(b" ", 2)[1]), body


async def send(port: int, messages: list[bytes]) -> list[Answer]:
    """Send all, each connection taking the next as soon as it has an answer."""
    waiting, answers = iter(messages), []

    async def work() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        for message in waiting:
            started_at = time.perf_counter()
            status, _ = await exchange(reader, writer, message)
            answers.append(Answer(status, time.perf_counter() - started_at))
        writer.close()

    await asyncio.gather(*(work() for _ in range(N_CONNECTIONS)))
    return answers


def spent(servers: Mapping[str, int]) -> dict[str, float]:
    """Seconds of a processor so far: of each server's process, and of its children that live."""
    found = {}
    for name, pid in servers.items():
        parent = psutil.Process(pid)
        times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
        found[name] = sum(one.user + one.system for one in times)
    return found


def measure(port: int, messages: list[bytes], servers: Mapping[str, int]) -> Block:
    """One block."""
    before, wall, own = spent(servers), time.perf_counter(), time.process_time()
    answers = asyncio.run(send(port, messages))
    wall_seconds, client_seconds = time.perf_counter() - wall, time.process_time() - own
    after = spent(servers)
    return Block(answers, wall_seconds, client_seconds, {name: after[name] - before[name] for name in after})


def main() -> None:
    """The blocks of standard input, one after the other."""
    blocks: list[list[tuple[str, str]]] = json.load(sys.stdin)
    port, servers = int(sys.argv[1]), json.loads(sys.argv[2])
    json.dump([measure(port, [encoded(*one) for one in block], servers) for block in blocks], sys.stdout)


if __name__ == "__main__":
    main()
