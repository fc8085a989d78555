"""The score of a state on held-out rows, such that plain PEFT in float32 gives the same accuracy.

Measured with SmolLM2-135M on 200 held-out rows, six states of two tenants: bfloat16 moves the difference
between two label words' logits by 0.05 (0.15 at most) and so turns 1 to 5 answers of 200, as much as a gate's
tolerance, yet takes a third of float32's time. So answers are given in the runtime's format first, and the
close calls among them (5 to 20 rows of 100, under CLOSE_CALL_LOGITS) again in float32: the same answers as in
float32 throughout, in half its time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from federation.specification import FederationSpecification, LabelTask
from training_workers.data import Batch, TokenExample, evaluation_batches
from training_workers.errors import JobCancelled, ScoreNotFinite
from training_workers.examples.label_prior import label_log_prior
from training_workers.examples.rows import Example
from training_workers.loading import BaseModel, TaskModel
from training_workers.methods import Method, State

# Tokens with padding in one forward pass: short rows fill a batch, long ones stand alone.
BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}
CLOSE_CALL_LOGITS = 0.3


@dataclass(frozen=True)
class Score:
    """How a state does: the share of right answers (label) or tokens (completion), the loss in nats a token.

    `precision` says in which number format the answers were decided.
    """

    accuracy: float
    loss: float
    n_rows: int
    precision: str


@dataclass(frozen=True)
class _RowScore:
    """One row's answers; `margin` is from its best label to the next in logits, infinite for completions."""

    example: TokenExample
    n_right: int
    n_answers: int
    loss_sum: float
    margin: float


@dataclass(frozen=True)
class _Scorer:
    """Scores examples with a state; `label_tokens` are the labels' first tokens, None for completions.

    `log_prior` is added to the labels' logits before one is chosen.
    """

    method: Method
    state: State | None
    label_tokens: Tensor | None
    log_prior: Tensor | None
    on_rows: Callable[[int], None]
    should_stop: Callable[[], bool]

    def score_rows(
        self, base: TaskModel, examples: Sequence[TokenExample], *, n_before: int = 0
    ) -> list[_RowScore]:
        """Every example's score; `n_before` rows are done already."""
        scores: list[_RowScore] = []
        device = base.runtime.device
        for rows, batch in evaluation_batches(examples, max_tokens=BATCH_TOKENS[device.type], device=device):
            if self.should_stop():
                raise JobCancelled
            scores += self._score_batch(base, batch, rows)
            self.on_rows(n_before + len(scores))
        return scores

    @torch.no_grad()
    def _score_batch(self, base: TaskModel, batch: Batch, rows: Sequence[TokenExample]) -> list[_RowScore]:
        if self.state is None:
            logits = base.logits(base.target_states(batch))
        else:
            logits = self.method.logits(base, self.state, batch)
        losses = functional.cross_entropy(logits, batch.targets, reduction="none")
        loss_sums = torch.zeros(len(rows), device=losses.device).index_add(0, batch.target_rows, losses)
        if self.label_tokens is not None and self.log_prior is not None:
            choices = logits[batch.first_targets][:, self.label_tokens]
            loss_sums += _leaning(choices, self.log_prior, batch.labels)
        n_right, n_answers, margins = self._answers(logits, batch, rows)
        columns = zip(rows, n_right, n_answers, loss_sums.tolist(), margins, strict=True)
        return [_RowScore(*column) for column in columns]

    def _answers(
        self, logits: Tensor, batch: Batch, rows: Sequence[TokenExample]
    ) -> tuple[list[int], list[int], list[float]]:
        """Per row: right answers, answers, and the margin of the decision."""
        if self.label_tokens is None:
            right = (logits.argmax(dim=-1) == batch.targets).long()
            n_right = torch.zeros(len(rows), dtype=torch.int64, device=right.device)
            n_right.index_add_(0, batch.target_rows, right)
            return n_right.tolist(), [len(row.answer) for row in rows], [float("inf")] * len(rows)
        choices = logits[batch.first_targets][:, self.label_tokens]
        if self.log_prior is not None:
            choices = choices + self.log_prior
        best = choices.topk(2, dim=-1).values
        right = choices.argmax(dim=-1) == batch.labels
        return right.long().tolist(), [1] * len(rows), (best[:, 0] - best[:, 1]).tolist()


def evaluate(
    base_model: BaseModel,
    method: Method,
    state: State | None,
    examples: Sequence[Example],
    specification: FederationSpecification,
    *,
    label_counts: Mapping[str, int] | None = None,
    on_rows: Callable[[int, int], None] = lambda _n_done, _n_rows: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Score:
    """The score of a state on held-out examples; without a state, of the bare base model.

    With a tenant's `label_counts` its answers lean to the labels that it sees often, by their log prior: right
    where use is mixed as the counted rows are. The loss is that of such answers.

    Raises:
        JobCancelled: `should_stop` said so.
        ScoreNotFinite: the loss is NaN or infinite.
        StateIncompatible, NoExamples and what `for_task` and `encode` refuse.
    """
    base = base_model.for_task(specification.task)
    if state is not None:
        method.check(base, state)
        state = {name: tensor.to(base.runtime.device) for name, tensor in state.items()}
    encoded = base.encode(examples, n_positions=method.n_positions)
    scorer = _Scorer(
        method=method,
        state=state,
        label_tokens=base.label_tokens,
        log_prior=_log_prior(base, label_counts),
        on_rows=lambda n_done: on_rows(n_done, len(encoded)),
        should_stop=should_stop,
    )
    scores = scorer.score_rows(base, encoded)
    if base.exact is not None:
        close = [score.example for score in scores if score.margin < CLOSE_CALL_LOGITS]
        clear = [
            score for score in scores if not score.margin < CLOSE_CALL_LOGITS
        ]  # NaN stays, to be refused
        scores = clear + scorer.score_rows(base.exact, close, n_before=len(clear))
    return _total(scores, precision=_precision(base))


def _total(scores: Sequence[_RowScore], *, precision: str) -> Score:
    n_targets = sum(len(score.example.answer) for score in scores)
    loss = sum(score.loss_sum for score in scores) / n_targets
    if not abs(loss) < float("inf"):
        raise ScoreNotFinite(n_rows=len(scores))
    accuracy = sum(score.n_right for score in scores) / sum(score.n_answers for score in scores)
    return Score(accuracy=accuracy, loss=loss, n_rows=len(scores), precision=precision)


def _precision(base: TaskModel) -> str:
    if base.exact is None or base.label_tokens is None:
        return base.runtime.dtype_name
    return f"{base.runtime.dtype_name}, close calls in float32"


def _leaning(choices: Tensor, log_prior: Tensor, labels: Tensor) -> Tensor:
    """What the prior adds to each row's loss, [n_rows]; what the labels have together of a vocabulary stays."""
    leaned = functional.cross_entropy(choices + log_prior, labels, reduction="none")
    return leaned - functional.cross_entropy(choices, labels, reduction="none")


def _log_prior(base: TaskModel, label_counts: Mapping[str, int] | None) -> Tensor | None:
    """As it is added, [n_labels]."""
    if label_counts is None or not isinstance(base.task, LabelTask):
        return None
    log_shares = label_log_prior(label_counts, labels=base.task.label_words)
    return torch.tensor(list(log_shares.values()), device=base.runtime.device)
