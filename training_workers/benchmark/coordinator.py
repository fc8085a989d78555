"""The coordinator's half of a round, by the functions that the coordinator calls: checks, weights, the rule."""

import hashlib
from dataclasses import dataclass

from federation.aggregation import WeightedUpdate, capped_weight, get_rule
from federation.aggregation.updates import ExpectedUpdate, check_update
from federation.errors import UpdateRefused
from federation.specification import FederationSpecification


@dataclass(frozen=True)
class Submitted:
    """A tenant's update as it arrived."""

    tenant: str
    update: bytes
    n_examples: int

    def load(self) -> bytes:
        """Its bytes, as the rule asks for them."""
        return self.update


class Coordinator:
    """Holds what tenants train from and what is scored, and moves both on by accepted updates."""

    def __init__(self, specification: FederationSpecification, *, base_sha256: str, start: bytes) -> None:
        self._rules = specification
        self._base_sha256 = base_sha256
        self.broadcast = start
        self.n_rejected = 0

    @property
    def scored(self) -> bytes:
        """The version that is evaluated and published."""
        return self.broadcast

    def identity(self, tenant: str, *, number: int) -> dict[str, str]:
        """What an update's metadata must say."""
        return {
            "round": f"round {number}",
            "tenant": tenant,
            "attempt": "1",
            "base": self._base_sha256,
            "parent": hashlib.sha256(self.broadcast).hexdigest(),
        }

    def close_round(self, submitted: list[Submitted], *, number: int) -> None:
        """Aggregate what passes the checks.

        Raises:
            NothingToAggregate: nothing passed.
            AggregateNotFinite: the rule's result is none.
        """
        rules = self._rules.aggregation
        accepted = [one for one in submitted if self._accepts(one, number)]
        self.n_rejected += len(submitted) - len(accepted)
        weighted = [
            WeightedUpdate(weight=capped_weight(one.n_examples, rules.max_weight), load=one.load)
            for one in accepted
        ]
        self.broadcast = get_rule(rules.rule)(self.broadcast, weighted, sends=self._rules.method.sends)

    def _accepts(self, one: Submitted, number: int) -> bool:
        identity = self.identity(one.tenant, number=number)
        expected = ExpectedUpdate(
            round=identity["round"],
            tenant=identity["tenant"],
            attempt=int(identity["attempt"]),
            base=identity["base"],
            parent_sha256=identity["parent"],
        )
        try:
            check_update(
                one.update,
                parent=self.broadcast,
                expected=expected,
                max_relative_norm=self._rules.max_relative_norm,
                sends=self._rules.method.sends,
            )
        except UpdateRefused:
            return False
        return True
