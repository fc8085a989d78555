"""Scores by stratum, from which every tenant's own score follows.

A tenant's score is what it would see on rows that are mixed as its training rows are: the strata's accuracies
weighted by its shares. All tenants' rows are scored once that way, and a tenant with few rows has a score as
sharp as the others'.
"""

from collections.abc import Mapping

from federation.specification import FederationSpecification
from training_workers.benchmark.texts import Strata
from training_workers.evaluation import evaluate
from training_workers.loading import BaseModel
from training_workers.methods import Method, State

Accuracies = dict[str, float]
"""By stratum."""


def score_strata(
    base: BaseModel,
    method: Method,
    state: State | None,
    strata: Strata,
    specification: FederationSpecification,
    *,
    label_counts: Mapping[str, int] | None = None,
) -> Accuracies:
    """A state's accuracy in each stratum; without a state, the bare base model's."""
    return {
        stratum: evaluate(base, method, state, examples, specification, label_counts=label_counts).accuracy
        for stratum, examples in strata.items()
    }


def mixed(accuracies: Mapping[str, float], shares: Mapping[str, float]) -> float:
    """The accuracy on rows that are mixed in these shares, which add up to one."""
    return sum(share * accuracies[stratum] for stratum, share in shares.items())


def own(strata: Strata, shares: Mapping[str, float]) -> Strata:
    """The strata that a tenant has rows of."""
    return {stratum: rows for stratum, rows in strata.items() if stratum in shares}
