"""The two apps, by the names that pyproject.toml gives."""

from tests.benchmarks.rounds.peers.flower.client_app import app as client_app
from tests.benchmarks.rounds.peers.flower.server_app import app as server_app

__all__ = ["client_app", "server_app"]
