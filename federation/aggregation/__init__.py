"""Rules by which accepted updates become the next version: one file per rule, no Django, no torch."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from federation.aggregation import weighted_mean
from federation.aggregation.tensors import Sends
from federation.aggregation.weights import WeightedUpdate, capped_weight
from federation.errors import AggregationRuleUnknown

__all__ = ["RULES", "AggregationRule", "WeightedUpdate", "capped_weight", "get_rule"]


class AggregationRule(Protocol):
    """From the parent version's bytes and the accepted updates to the candidate's bytes."""

    def __call__(self, parent: bytes, updates: Iterable[WeightedUpdate], *, sends: Sends) -> bytes: ...


RULES: Mapping[str, AggregationRule] = {"weighted_mean": weighted_mean.aggregate}


def get_rule(name: str) -> AggregationRule:
    """Return the rule that a federation's specification names. Raises AggregationRuleUnknown."""
    if name not in RULES:
        raise AggregationRuleUnknown(rule=name, known=sorted(RULES))
    return RULES[name]
