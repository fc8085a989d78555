"""Attention over a batch that lies without its padding as one long row, behind a prefix where there is one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from training_workers.layout import Layout
from training_workers.short_attention import ShortAttention, is_short

NAME = "rows_side_by_side"

KeysAndValues = tuple[Tensor, Tensor]
"""A layer's, [n_kv_heads, n_positions, head_size] both, the same before every row."""


@dataclass(frozen=True)
class _Rows:
    """What attention has to know of the forward pass that it is part of."""

    layout: Layout
    prefix: Sequence[KeysAndValues]

    @property
    def n_before(self) -> int:
        return self.prefix[0][0].shape[1] if self.prefix else 0


_ROWS: ContextVar[_Rows | None] = ContextVar("rows", default=None)


def attend_here(model: Any) -> None:
    """Sets a model's attention to this one; outside `attending` it takes rows as they are."""
    model.set_attn_implementation(NAME)


@contextmanager
def attending(layout: Layout, prefix: Sequence[KeysAndValues] = ()) -> Iterator[None]:
    """While it is open a model's one row is the layout's positions; `prefix` has a pair for each layer."""
    token = _ROWS.set(_Rows(layout, prefix))
    try:
        yield
    finally:
        _ROWS.reset(token)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    softcap: float | None = None,
    **_options: Any,
) -> tuple[Tensor, None]:
    """[n_rows, n_heads, n_positions, head_size] thrice in any dtype; returns it with heads after positions."""
    rows = _ROWS.get()
    if rows is not None:
        query, key, value = (_spread(rows.layout, states) for states in (query, key, value))
        if rows.prefix:
            before = rows.prefix[module.layer_idx]
            key, value = (_behind(own, states) for own, states in zip(before, (key, value), strict=True))
    output = _attend(query, key, value, attention_mask, scaling, softcap).transpose(1, 2)
    if rows is not None:
        output = rows.layout.pack(output).unsqueeze(0)
    return output, None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """On a processor in float32 whatever the dtype: in bfloat16 torch's goes backward in three to six times as long."""
    dtype = query.dtype
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()
    output: Tensor
    if softcap is not None:
        output = _capped(query, key, value, mask, scaling, softcap)
    elif query.dtype != dtype and is_short(query, key):
        output = ShortAttention.apply(query, key, value, mask, scaling)  # type: ignore[no-untyped-call]
    else:
        has_groups = key.shape[1] != query.shape[1]
        output = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scaling, enable_gqa=has_groups
        )
    return output.to(dtype)


def _capped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float
) -> Tensor:
    """Gemma 2's, whose scores stay within plus or minus `softcap`: torch's fused attention has none such."""
    n_groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(n_groups, dim=1), value.repeat_interleave(n_groups, dim=1)
    scores = torch.tanh(query @ key.transpose(2, 3) * (scaling / softcap)) * softcap + mask
    return scores.softmax(dim=-1) @ value


def _spread(layout: Layout, states: Tensor) -> Tensor:
    """[1, n_heads, n_real, head_size] -> [n_rows, n_heads, n_columns, head_size]."""
    return layout.spread(states[0].transpose(0, 1)).transpose(1, 2)


def _behind(before: Tensor, states: Tensor) -> Tensor:
    return torch.cat([before.to(states.dtype).expand(len(states), -1, -1, -1), states], dim=2)


AttentionInterface.register(NAME, _attention)


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    attention_mask: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """What is added to scores, in their dtype and once a batch: what a layer makes of it is kept for the way back."""
    rows = _ROWS.get()
    if rows is not None:
        batch_size, q_length = rows.layout.mask.shape
        q_offset, kv_offset, kv_length = rows.n_before, 0, rows.n_before + q_length
        attention_mask = functional.pad(rows.layout.mask, (rows.n_before, 0), value=True)
    options |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    visible = sdpa_mask(
        batch_size, q_length, kv_length, q_offset, kv_offset, attention_mask=attention_mask, **options
    )
    assert visible is not None  # it is not to be skipped
    if rows is not None:
        # Padding may see all: what sees nothing becomes NaN, and on the way back so does all else.
        visible = visible | ~rows.layout.mask[:, None, :, None]
    dtype = torch.float32 if visible.device.type == "cpu" else options["dtype"]
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(
        ~visible, float("-inf")
    )


AttentionMaskInterface.register(NAME, _mask)
