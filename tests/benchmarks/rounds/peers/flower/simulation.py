"""A session on Flower's simulation engine."""

from flwr.simulation import run_simulation

from tests.benchmarks.rounds import marks
from tests.benchmarks.rounds.peers.flower.client_app import app as client_app
from tests.benchmarks.rounds.peers.flower.server_app import app as server_app

# One client a core, which is the most that Ray runs at once on this machine; the default may be fewer.
RESOURCES = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}

if __name__ == "__main__":
    run_simulation(server_app, client_app, marks.number(marks.N_TENANTS), backend_config=RESOURCES)
