"""A ServerApp with FedAvg over all clients, which marks the time of each round."""

import time
from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from tests.benchmarks.rounds import marks
from tests.benchmarks.rounds.payload import payload

app = ServerApp()


class MarkedFedAvg(FedAvg):
    """FedAvg that notes when a round's training and evaluation ended."""

    began_at = trained_at = 0.0
    n_replies = 0

    def configure_train(self, *words: Any, **named: Any) -> Iterable[Message]:
        """A round begins when its clients are about to be chosen."""
        self.began_at = time.time()
        return super().configure_train(*words, **named)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Training ends when the mean is there."""
        received = list(replies)
        self.n_replies = sum(not reply.has_error() for reply in received)
        answer = super().aggregate_train(server_round, received)
        self.trained_at = time.time()
        return answer

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """A round ends when its evaluations are in."""
        answer = super().aggregate_evaluate(server_round, replies)
        marks.mark_round(
            server_round, began_at=self.began_at, trained_at=self.trained_at, n_clients=self.n_replies
        )
        return answer


@app.main()
def main(grid: Grid, context: Context) -> None:
    """All rounds."""
    n_tenants = marks.number(marks.N_TENANTS)
    while len(list(grid.get_node_ids())) < n_tenants:
        time.sleep(0.1)
    n_needed = marks.n_needed()
    strategy = MarkedFedAvg(
        min_train_nodes=n_needed, min_evaluate_nodes=n_needed, min_available_nodes=n_needed
    )
    strategy.start(grid, ArrayRecord([payload()]), num_rounds=marks.number(marks.N_ROUNDS))
