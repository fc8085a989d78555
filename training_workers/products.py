"""Products of float32 matrices on a processor within a bfloat16 model, which take a fifth of a training step there.

PyTorch leaves them to MKL, or to oneDNN where it is told that bfloat16's precision will do. Measured on a processor
with AVX-512 alone, oneDNN takes two fifths to two thirds of the time, attention's at float32's precision. Elsewhere it
may round factors to bfloat16, which a bfloat16 model's states, keys and values are to begin with, and sums in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@contextmanager
def by_onednn() -> Iterator[None]:
    """While it is open products are oneDNN's; torch's fused attention would be several times as slow."""
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def logits_of(states: Tensor, weight: Tensor) -> Tensor:
    """`states` [n, size] in any dtype by the float32 `weight` [m, size]: [n, m] in float32."""
    if states.device.type == "cpu" and states.dtype == torch.bfloat16:
        logits: Tensor = _Product.apply(states.float(), weight)  # type: ignore[no-untyped-call]
        return logits
    return functional.linear(states.float(), weight)


class _Product(torch.autograd.Function):
    """`factor` [n, size] by the transposed `weight` [m, size]."""

    @staticmethod
    def forward(ctx: Any, factor: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(factor, weight)
        with by_onednn():
            return factor @ weight.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        factor, weight = ctx.saved_tensors
        (gradient,) = gradients
        of_factor, of_weight = ctx.needs_input_grad
        with by_onednn():
            return gradient @ weight if of_factor else None, gradient.T @ factor if of_weight else None
