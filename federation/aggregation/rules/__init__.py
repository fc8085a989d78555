"""Rules by which accepted updates become one change of the version: one file per rule, with its paper.

A rule reads the updates as often as it needs, and yields the change of the version, columns by columns.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from federation.aggregation.columns import Changes, Updates, Vector
from federation.aggregation.rules import krum, median, multi_krum, norm_clipping, trimmed_mean, weighted_mean
from federation.aggregation_settings import Rule
from federation.errors import NothingToAggregate, TooFewUpdates

# Each takes its own settings, the updates, and their weights as [n_updates].
_CHANGES: Final[Mapping[str, Callable[[Any, Updates, Vector], Changes]]] = {
    "krum": krum.changes,
    "median": median.changes,
    "multi_krum": multi_krum.changes,
    "norm_clipping": norm_clipping.changes,
    "trimmed_mean": trimmed_mean.changes,
    "weighted_mean": weighted_mean.changes,
}


def changes(rule: Rule, updates: Updates, weights: Vector) -> Changes:
    """What the rule makes of these updates.

    Raises:
        NothingToAggregate: there is no update.
        TooFewUpdates: there are fewer than the rule works on.
        UpdateNotFinite: a value is NaN or infinite.
    """
    if len(updates) == 0:
        raise NothingToAggregate
    if len(updates) < rule.n_needed:
        raise TooFewUpdates(rule=rule.kind, n_updates=len(updates), n_needed=rule.n_needed)
    return _CHANGES[rule.kind](rule, updates, weights)
