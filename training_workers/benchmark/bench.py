"""What every run of a base model and a task works with: the platform's training and its evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

from torch import Tensor

from federation.specification import FederationSpecification
from training_workers.benchmark.partition import Tenant
from training_workers.benchmark.scoring import Accuracies, score_strata
from training_workers.benchmark.texts import Strata, Texts
from training_workers.examples import select_both
from training_workers.loading import BaseModel
from training_workers.local_training import TrainingOutcome, train_locally
from training_workers.methods import Method, get_method
from training_workers.states import from_bytes

Note = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """A base model and a task's texts."""

    base: BaseModel
    texts: Texts

    def score(
        self,
        specification: FederationSpecification,
        state: bytes | None,
        strata: Strata,
        *,
        label_counts: Mapping[str, int] | None = None,
    ) -> Accuracies:
        """A version's accuracies by stratum."""
        tensors = None if state is None else from_bytes(state)
        method = get_method(specification.method)
        return score_strata(self.base, method, tensors, strata, specification, label_counts=label_counts)

    def train(
        self,
        method: Method,
        parent: Mapping[str, Tensor],
        member: Tenant,
        specification: FederationSpecification,
        *,
        number: int,
    ) -> TrainingOutcome:
        """A local run as a worker does it: the round's number varies which rows are drawn."""
        seed = specification.training.seed + number
        n = specification.training.n_examples
        # A member has no held-out rows: its sides were parted before.
        rows, _ = select_both(
            BytesIO(member.content), "jsonl", n=n, n_train=member.n_train, seed=seed, n_held_out=0
        )
        return train_locally(self.base, method, parent, rows, specification, seed=seed)
