"""Attention on a processor within a bfloat16 model: plain products in float32, a few rows at a time.

torch's fused attention takes twice as long over short texts, forward and backward, and half as long again over rows of
400 tokens. What it is for, never to hold all scores, is done here by the row: they are kept for the way back while
they are few, and else worked out again.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from training_workers.products import by_onednn

MAX_KEPT = 2**20
"""Probabilities that a layer keeps for the way back: 4 MiB of them."""
MAX_AT_ONCE = 2**20
"""Scores that there are at a time, of one row at least: what a processor's cache holds."""
MAX_OF_A_ROW = 2**21
"""Measured: 1.5 million scores (9 heads, 400 tokens) gain by it, 9 million (1,000 tokens) lose."""


def is_short(query: Tensor, key: Tensor) -> bool:
    """Whether a row's scores, of all heads, are few enough for this to pay; shapes as in `ShortAttention`."""
    return _n_scores_of_a_row(query, key) <= MAX_OF_A_ROW


class ShortAttention(torch.autograd.Function):
    """softmax(scaling * query key^T + mask) value in float32; no gradient for the mask.

    `query` [n_rows, n_heads, n_queries, head_size], `key` and `value` [n_rows, n_kv_heads, n_keys, head_size], each
    for n_heads / n_kv_heads heads that follow one another, `mask` [n_rows, 1, n_queries, n_keys].
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> Tensor:
        """Like `query`."""
        # Heads that share their keys are one head with as many queries more.
        grouped = (query * scaling).reshape(len(key), key.shape[1], -1, key.shape[3])
        outputs, kept = [], None
        with by_onednn():
            for rows in _groups(query, key):
                p = _probabilities(grouped[rows], key[rows], mask[rows])
                outputs.append(p @ value[rows])
                if len(p) == len(key) and p.numel() <= MAX_KEPT:
                    kept = p
        ctx.scaling = scaling
        ctx.save_for_backward(grouped, key, value, mask, kept)
        return _joined(outputs).view(query.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Of query, key and value."""
        grouped, key, value, mask, kept = ctx.saved_tensors
        (gradient,) = gradients
        given = gradient.reshape(grouped.shape)
        parts = []
        with by_onednn():
            for rows in _groups(gradient, key):
                p = _probabilities(grouped[rows], key[rows], mask[rows]) if kept is None else kept
                of_p = given[rows] @ value[rows].transpose(2, 3)
                of_scores = torch._softmax_backward_data(of_p, p, -1, torch.float32)
                of_query, of_key = of_scores @ key[rows], of_scores.transpose(2, 3) @ grouped[rows]
                parts.append((of_query, of_key, p.transpose(2, 3) @ given[rows]))
        of_query, of_key, of_value = map(_joined, zip(*parts, strict=True))
        return of_query.mul_(ctx.scaling).view(gradient.shape), of_key, of_value, None, None


def _n_scores_of_a_row(query: Tensor, key: Tensor) -> int:
    return query.shape[1] * query.shape[2] * key.shape[2]


def _groups(query: Tensor, key: Tensor) -> Iterator[slice]:
    """Rows to take at a time."""
    n_rows = max(1, MAX_AT_ONCE // _n_scores_of_a_row(query, key))
    return (slice(first, first + n_rows) for first in range(0, len(key), n_rows))


def _probabilities(grouped: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """[n_rows, n_kv_heads, queries of the heads that share keys, n_keys]."""
    scores = grouped @ key.transpose(2, 3)
    scores.view(*scores.shape[:2], -1, *mask.shape[2:]).add_(mask.unsqueeze(2))
    return scores.softmax(dim=-1)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
