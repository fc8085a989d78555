"""Attention in float32 within a bfloat16 model, for processors.

torch's fused attention goes backward in bfloat16 three to six times as slowly as in float32 on a processor at the
lengths of short texts, and no faster at others; it took a third of a training step. The layers' products, where
bfloat16 pays, stay as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_in_float32"


def attend_in_float32(model: Any) -> None:
    """Sets a model that uses torch's fused attention to use it in float32; others stay as they are."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """[n_rows, n_heads, n_positions, head_size] thrice in any dtype; returns it with heads after positions.

    With a mask transformers copies keys and values to as many heads as there are queries, for other devices' sake:
    grouped heads are read in place here.
    """
    dtype = query.dtype
    query, key, value = query.float(), key.float(), value.float()
    if attention_mask is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, None, dropout=dropout, scaling=scaling, **options
        )
        return output.to(dtype), None
    output = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return output.to(dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)


def _mask(*shape: Any, **options: Any) -> Tensor | None:
    """What is added to scores, float32: of a boolean one torch would make that again in every layer."""
    visible = sdpa_mask(*shape, **options)
    if visible is None:
        return None
    return torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, float("-inf"))


AttentionMaskInterface.register(NAME, _mask)
