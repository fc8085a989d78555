"""What is measured: how many tenants, how much each of them sends, how often, and on what."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SMALL_BYTES: Final = 900_000
LARGE_BYTES: Final = 64_000_000


class System(StrEnum):
    """What holds the rounds."""

    PRELUDE = "prelude"
    FLOWER_SIMULATION = "flower-simulation"
    FLOWER_DEPLOYED = "flower-deployed"
    NVFLARE = "nvflare"


TITLES: Final[Mapping[System, str]] = {
    System.PRELUDE: "Prelude",
    System.FLOWER_SIMULATION: "Flower, simulation",
    System.FLOWER_DEPLOYED: "Flower, deployed",
    System.NVFLARE: "NVIDIA FLARE, simulator",
}
POINTS: Final[Mapping[System, str]] = {
    System.PRELUDE: "from before the HTTP request that starts it until another client of the database sees it "
    "published: training, checks, mean, every tenant's evaluation, gate, publication",
    System.FLOWER_SIMULATION: "from before the strategy chooses clients until every client's evaluation is in: "
    "training, mean, evaluation; nothing is stored",
    System.FLOWER_DEPLOYED: "as in the simulation, on a SuperLink with its state in memory",
    System.NVFLARE: "from one `Round … started` of the server's log to the next: training, mean, the model saved to a "
    "file; no evaluation",
}
SLOW: Final = (System.FLOWER_DEPLOYED, System.NVFLARE)
SERVERS: Final[Mapping[System, tuple[str, ...]]] = {
    System.PRELUDE: (
        "gunicorn",
        "-Q coordinator",
        "manage.py ticker",
        "manage.py announcer",
        "postgres",
        "valkey-server",
    ),
    System.FLOWER_SIMULATION: ("peers.flower.simulation",),
    System.FLOWER_DEPLOYED: ("superlink", "serverapp"),
    System.NVFLARE: ("simulator",),
}
"""What a process's command holds that is no client's."""
CLIENTS: Final = ("simulator_worker", "supernode", "clientapp", "raylet", "gcs_server")
COORDINATOR: Final[Mapping[System, str]] = {
    System.PRELUDE: "-Q coordinator",
    System.FLOWER_SIMULATION: "peers.flower.simulation",
    System.FLOWER_DEPLOYED: "serverapp",
    System.NVFLARE: "simulator",
}
"""The process that sums."""


@dataclass(frozen=True)
class Case:
    """Rounds of one size; `is_killing`: one client is killed in mid-round."""

    n_tenants: int
    payload_bytes: int
    is_killing: bool = False

    @property
    def name(self) -> str:
        """For people and files."""
        size = f"{self.payload_bytes / 1e6:g} MB"
        return f"{self.n_tenants} x {size}" + (", one killed" if self.is_killing else "")

    def n_rounds(self, system: System, *, is_quick: bool) -> int:
        """Rounds in one session, after the one that warms up."""
        if self.is_killing:
            return 1
        if is_quick or system in SLOW or self.payload_bytes == LARGE_BYTES:
            return 2
        return 5 if self.n_tenants < 1_000 else 1

    def limit_seconds(self, system: System) -> float:
        """How long a session may take, starting and setting up included."""
        if self.n_tenants >= 1_000:
            return 1_800.0
        return 900.0 if self.n_tenants > 16 else 420.0


CASES: Final = (
    Case(4, SMALL_BYTES),
    Case(16, SMALL_BYTES),
    Case(64, SMALL_BYTES),
    Case(4, LARGE_BYTES),
)
KILLING: Final = Case(4, SMALL_BYTES, is_killing=True)
THOUSAND: Final = Case(1_000, SMALL_BYTES)
