"""One local run on one tenant's examples: a pure function over a frozen base model."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from federation.specification import FederationSpecification
from training_workers.data import Batch, TokenExample, training_batches
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
    """Trains a copy of the state with a fresh optimizer without weight decay; the base model stays as it is.

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
    calibration = _calibration(base, encoded) if settings.calibrate_labels else None
    run = _Run(base=base, method=method, specification=specification, parent=state, calibration=calibration)
    for batch in batches:
        if should_stop():
            raise JobCancelled
        on_step(run.take_step(batch))
    return run.outcome()


class _Run:
    """The state in training: a float32 copy of the parent, its optimizer, and what was counted."""

    def __init__(
        self,
        *,
        base: TaskModel,
        method: Method,
        specification: FederationSpecification,
        parent: State,
        calibration: "_Calibration | None",
    ) -> None:
        self._base = base
        self._method = method
        self._settings = specification.training
        self._learning_rate = specification.learning_rate
        self._parent = {name: tensor.to(base.runtime.device) for name, tensor in parent.items()}
        self._calibration = calibration
        self._state = {
            name: tensor.to(base.runtime.device, copy=True).requires_grad_(method.trained(name))
            for name, tensor in parent.items()
        }
        self._trained = {name: tensor for name, tensor in self._state.items() if tensor.requires_grad}
        self._optimizer = _optimizer(self._settings.optimizer, self._trained.values(), self._learning_rate)
        self._losses: list[float] = []
        self._n_tokens = 0
        self._started_at = time.perf_counter()

    def take_step(self, batch: Batch) -> Step:
        """One batch forward and backward, and one step of the optimizer."""
        loss = _loss(self._method.logits(self._base, self._state, batch), batch, self._calibration)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._pull_to_the_parent()
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

    def _pull_to_the_parent(self) -> None:
        """Adds the gradient of FedProx's term, mu / 2 |state - parent|^2."""
        if not self._settings.proximal:
            return
        for name, tensor in self._trained.items():
            if tensor.grad is not None:
                tensor.grad.add_(tensor.detach() - self._parent[name], alpha=self._settings.proximal)

    def outcome(self) -> TrainingOutcome:
        """The change that the steps made, and what was counted on the way."""
        update = {
            name: (tensor.detach() - self._parent[name]).cpu() for name, tensor in self._trained.items()
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
            raise LossNotFinite(step=len(self._losses) + 1, learning_rate=self._learning_rate)
        return loss


def _optimizer(
    name: Literal["adamw", "sgd"], parameters: Iterable[Tensor], learning_rate: float
) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate)
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)


@dataclass(frozen=True)
class _Calibration:
    """The labels' first tokens and the logs of the tenant's own label counts, both [n_labels]."""

    tokens: Tensor
    log_counts: Tensor


def _calibration(base: TaskModel, examples: Sequence[TokenExample]) -> _Calibration:
    """Of the rows to train on. A label without a row has minus infinity: the loss leaves it out (FedLC)."""
    tokens = base.label_tokens
    assert tokens is not None  # the specification takes label tasks alone
    labels = torch.tensor([example.label for example in examples])
    log_counts = torch.bincount(labels, minlength=len(tokens)).float().log()
    return _Calibration(tokens, log_counts.to(base.runtime.device))


def _loss(logits: Tensor, batch: Batch, calibration: _Calibration | None) -> Tensor:
    """Mean negative log-likelihood in nats, a float32 scalar: of the answers' tokens over the vocabulary.

    With a calibration of the labels among the labels, under the tenant's own prior (Menon et al. 2021, arXiv
    2007.07314; FedLC, Zhang et al. 2022, arXiv 2209.00189).
    """
    if calibration is None:
        return functional.cross_entropy(logits, batch.targets)
    choices = logits[batch.first_targets][:, calibration.tokens] + calibration.log_counts
    return functional.cross_entropy(choices, batch.labels)


def _norm(state: State) -> float:
    """The Euclidean norm over all tensors of a state, summed in float64."""
    return float(sum(tensor.double().square().sum() for tensor in state.values()) ** 0.5)
