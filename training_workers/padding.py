"""No padding in the feed-forward layers, which take three quarters of a model's products.

They work on each position by itself: its real positions are laid side by side before such a layer and put back behind
it. Attention never looks at padding, so that what is real comes out bit for bit as with it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

FEED_FORWARD = "mlp"  # as most families call such a layer; others take the padding along


@contextmanager
def leaving_out_padding(model: nn.Module, mask: Tensor) -> Iterator[None]:
    """While it is open the model's feed-forward layers see real positions alone; `mask` is [n_rows, n_columns]."""
    real = mask.flatten().nonzero().squeeze(1)
    with ExitStack() as hooks:
        if len(real) < mask.numel():
            for layer in _feed_forward_layers(model):
                hooks.enter_context(
                    layer.register_forward_pre_hook(lambda _, inputs: _packed(inputs[0], real))
                )
                hooks.enter_context(
                    layer.register_forward_hook(lambda _, __, output: _spread(output, real, mask.shape))
                )
        yield


def _feed_forward_layers(model: Any) -> Iterator[nn.Module]:
    return (module for name, module in model.named_modules() if name.endswith(f".{FEED_FORWARD}"))


def _packed(states: Tensor, real: Tensor) -> Tensor:
    """[n_rows, n_columns, size] -> [n_real, size]."""
    return states.flatten(0, 1).index_select(0, real)


def _spread(states: Tensor, real: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[n_real, size] -> [n_rows, n_columns, size], zero at padding."""
    n_rows, n_columns = shape
    places = states.new_zeros(n_rows * n_columns, states.shape[1])
    return places.index_copy(0, real, states).view(n_rows, n_columns, -1)
