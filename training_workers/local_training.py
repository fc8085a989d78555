"""One local run on one tenant's examples: a pure function over a frozen base model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from federation.specification import FederationSpecification, Training
from training_workers.data import Batch, training_batches
from training_workers.errors import JobCancelled, LossNotFinite
from training_workers.examples.rows import Example
from training_workers.loading import BaseModel, TaskModel
from training_workers.methods import Method, State
from training_workers.runtime import make_deterministic


@dataclass(frozen=True)
class Step:
    """One training step that is done; the loss is the batch's before the step, in nats a token."""

    step: int
    n_steps: int
    loss: float
    tokens_per_second: float


@dataclass(frozen=True)
class TrainingOutcome:
    """What a local run learned: `update` is trained minus parent of the trained tensors, float32, on the CPU."""

    update: dict[str, Tensor]
    losses: list[float]
    n_examples: int
    n_tokens: int
    seconds: float
    relative_norm: float


def train_locally(
    base_model: BaseModel,
    method: Method,
    state: State,
    examples: Sequence[Example],
    specification: FederationSpecification,
    *,
    seed: int,
    on_step: Callable[[Step], None] = lambda _step: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingOutcome:
    """Trains a copy of the state with a fresh AdamW without weight decay; the base model stays as it is.

    Raises:
        LossNotFinite: the loss became NaN or infinite.
        JobCancelled: `should_stop` said so.
        StateIncompatible, NoExamples and what `for_task` and `encode` refuse.
    """
    make_deterministic(seed)
    base = base_model.for_task(specification.task)
    method.check(base, state)
    settings = specification.training
    encoded = base.encode(examples, n_positions=method.n_positions)
    batches = training_batches(
        encoded,
        batch_size=settings.batch_size,
        n_steps=settings.n_steps,
        seed=seed,
        device=base.runtime.device,
    )
    run = _Run(base=base, method=method, settings=settings, parent=state)
    for batch in batches:
        if should_stop():
            raise JobCancelled
        on_step(run.take_step(batch))
    return run.outcome()


class _Run:
    """The state in training: a float32 copy of the parent, its optimizer, and what was counted."""

    def __init__(self, *, base: TaskModel, method: Method, settings: Training, parent: State) -> None:
        self._base = base
        self._method = method
        self._settings = settings
        self._parent = parent
        self._state = {
            name: tensor.to(base.runtime.device, copy=True).requires_grad_(method.trained(name))
            for name, tensor in parent.items()
        }
        self._trained = {name: tensor for name, tensor in self._state.items() if tensor.requires_grad}
        self._optimizer = torch.optim.AdamW(
            self._trained.values(), lr=settings.learning_rate, weight_decay=0.0
        )
        self._losses: list[float] = []
        self._n_tokens = 0
        self._started_at = time.perf_counter()

    def take_step(self, batch: Batch) -> Step:
        """One batch forward and backward, and one step of the optimizer."""
        loss = _loss(self._method.logits(self._base, self._state, batch), batch)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._trained.values(), self._settings.gradient_clip)
        self._optimizer.step()
        # Last: reading a number waits for a GPU, which then has the whole step to do already.
        self._losses.append(self._finite(loss.item()))
        self._n_tokens += batch.n_tokens
        return Step(
            step=len(self._losses),
            n_steps=self._settings.n_steps,
            loss=self._losses[-1],
            tokens_per_second=self._n_tokens / (time.perf_counter() - self._started_at),
        )

    def outcome(self) -> TrainingOutcome:
        """The change that the steps made, and what was counted on the way."""
        update = {
            name: tensor.detach().cpu() - self._parent[name].cpu() for name, tensor in self._trained.items()
        }
        return TrainingOutcome(
            update=update,
            losses=self._losses,
            n_examples=self._settings.n_examples,
            n_tokens=self._n_tokens,
            seconds=time.perf_counter() - self._started_at,
            relative_norm=_norm(update) / max(_norm(self._parent), 1e-30),
        )

    def _finite(self, loss: float) -> float:
        if not abs(loss) < float("inf"):
            raise LossNotFinite(step=len(self._losses) + 1, learning_rate=self._settings.learning_rate)
        return loss


def _loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean negative log-likelihood of the answers' tokens over the vocabulary, in nats; float32 scalar."""
    return functional.cross_entropy(logits, batch.targets)


def _norm(state: State) -> float:
    """The Euclidean norm over all tensors of a state, summed in float64."""
    return float(sum(tensor.double().square().sum() for tensor in state.values()) ** 0.5)
