"""Rules by which accepted updates become one change of the version: one file per rule, with its paper.

A rule looks at as many blocks as it needs, then returns what makes the change of each block.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from federation.aggregation.columns import Combine, UpdateBlocks, Vector
from federation.aggregation.rules import krum, median, multi_krum, norm_clipping, trimmed_mean, weighted_mean
from federation.aggregation_settings import Rule
from federation.errors import NothingToAggregate, TooFewUpdates

# Each takes its own settings, the updates, and their weights as [n_updates].
_PREPARE: Final[Mapping[str, Callable[[Any, UpdateBlocks, Vector], Combine]]] = {
    "krum": krum.prepare,
    "median": median.prepare,
    "multi_krum": multi_krum.prepare,
    "norm_clipping": norm_clipping.prepare,
    "trimmed_mean": trimmed_mean.prepare,
    "weighted_mean": weighted_mean.prepare,
}


def prepare(rule: Rule, updates: UpdateBlocks, weights: Vector) -> Combine:
    """What the rule makes of each block of these updates.

    Raises:
        NothingToAggregate: there is no update.
        TooFewUpdates: there are fewer than the rule works on.
        UpdateNotFinite: a value is NaN or infinite.
    """
    if len(updates) == 0:
        raise NothingToAggregate
    if len(updates) < rule.n_needed:
        raise TooFewUpdates(rule=rule.kind, n_updates=len(updates), n_needed=rule.n_needed)
    return _PREPARE[rule.kind](rule, updates, weights)
