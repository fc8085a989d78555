"""What tenants make of a shared version for themselves, by the platform's rules of personal prefixes.

All that train take the same steps on the same rows, and are used where the tenant's validation rows do not speak
against them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from federation.specification import DITTO_PROXIMAL, FederationSpecification
from training_workers.benchmark.bench import Bench, Note
from training_workers.benchmark.partition import Tenant
from training_workers.benchmark.scoring import Accuracies, mixed, own
from training_workers.methods import get_method
from training_workers.states import from_bytes, moved, to_bytes

N_STEPS = 12


@dataclass(frozen=True)
class TrainedRule:
    """How a rule's training differs from plain training."""

    about: str
    proximal: float = 0.0
    freezes_keys: bool = False


PRIOR = "prior"
TRAINED_RULES: Mapping[str, TrainedRule] = {
    "fine-tuned": TrainedRule("plain training"),
    "ditto": TrainedRule(f"held to the shared version by {DITTO_PROXIMAL:g}", proximal=DITTO_PROXIMAL),
    "personal-values": TrainedRule("the shared keys stay, the values are trained", freezes_keys=True),
}


def make_personal(
    bench: Bench,
    specification: FederationSpecification,
    tenants: Sequence[Tenant],
    shared: bytes,
    rules: Sequence[str],
    note: Note,
) -> dict[str, list[Accuracies]]:
    """By each rule, every tenant's test scores on the strata that it has rows of."""
    results: dict[str, list[Accuracies]] = {rule: [] for rule in rules}
    for tenant in tenants:
        test = own(bench.texts.test, tenant.shares)
        for rule, scores in results.items():
            note(f"{tenant.name} makes the shared version its own: {rule}")
            if rule == PRIOR:
                counts = tenant.label_counts
                scores.append(bench.score(specification, shared, test, label_counts=counts))
            else:
                grown = _grown(bench, specification, tenant, shared, TRAINED_RULES[rule])
                scores.append(bench.score(specification, grown, test))
    return results


def _grown(
    bench: Bench, specification: FederationSpecification, tenant: Tenant, shared: bytes, rule: TrainedRule
) -> bytes:
    """The tenant's own, or the shared version where that does better on the tenant's validation rows."""
    rules = specification.for_personal(
        n_steps=N_STEPS, learning_rate=specification.learning_rate, proximal=rule.proximal
    )
    method = get_method(rules.method, freezes_keys=rule.freezes_keys)
    state = from_bytes(shared)
    update = bench.train(method, state, tenant, rules, number=0).update
    grown = to_bytes(moved(state, update), {})
    validation = own(bench.texts.validation, tenant.shares)
    scores = [mixed(bench.score(rules, version, validation), tenant.shares) for version in (shared, grown)]
    return grown if scores[1] >= scores[0] else shared
