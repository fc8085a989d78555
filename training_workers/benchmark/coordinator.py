"""The coordinator's half of a round, by the functions that the coordinator calls: checks, weights, the rule."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from federation.aggregation.combining import Recipe, WeightedUpdate, combine
from federation.aggregation.updates import ExpectedUpdate, Parent, check_update
from federation.aggregation.weights import capped_weight
from federation.aggregation.wire import in_broadcast_form
from federation.errors import UpdateRefused
from federation.specification import FederationSpecification
from tenants import staging


@dataclass(frozen=True)
class Submitted:
    """A tenant's update as it arrived."""

    tenant: str
    update: bytes
    n_examples: int


class Coordinator:
    """Holds what tenants train from and what is scored, and moves both on by accepted updates."""

    def __init__(self, specification: FederationSpecification, *, base_sha256: str, start: bytes) -> None:
        self._rules = specification
        self._base_sha256 = base_sha256
        self._server_state: bytes | None = None
        self.scored = start
        self.broadcast = in_broadcast_form(start, specification.broadcast.dtype)
        self.n_rejected = 0

    def identity(self, tenant: str, *, number: int) -> dict[str, str]:
        """What an update's metadata must say."""
        return {
            "round": f"round {number}",
            "tenant": tenant,
            "attempt": "1",
            "base": self._base_sha256,
            "parent": hashlib.sha256(self.broadcast).hexdigest(),
        }

    def close_round(self, submitted: list[Submitted], *, number: int) -> set[str]:
        """Aggregate what passes the checks, and return whose updates did.

        Raises:
            NothingToAggregate, TooFewUpdates: not as many passed as the rule needs.
            AggregateNotFinite: the rule's result is none.
        """
        with staging.directory() as directory:
            version = _file(directory / "parent", self.scored)
            parent = Parent(version)
            updates = [_file(directory / one.tenant, one.update) for one in submitted]
            accepted = [
                (path, one)
                for path, one in zip(updates, submitted, strict=True)
                if self._accepts(path, parent, one.tenant, number)
            ]
            self.n_rejected += len(submitted) - len(accepted)
            self._move(version, accepted, directory)
        return {one.tenant for _, one in accepted}

    def _move(self, version: Path, accepted: list[tuple[Path, Submitted]], directory: Path) -> None:
        rules = self._rules.aggregation
        state = self._server_state
        made = combine(
            version=version,
            server_state=None if state is None else _file(directory / "state", state),
            updates=[
                WeightedUpdate(path, capped_weight(one.n_examples, rules.max_weight))
                for path, one in accepted
            ],
            recipe=Recipe(
                rule=rules.rule,
                server=rules.server,
                average_decay=rules.average_decay,
                upload_dtype=self._rules.upload.dtype,
                broadcast_dtype=self._rules.broadcast.dtype,
                sends=self._rules.method.sends,
            ),
            directory=directory,
        )
        self.scored, self.broadcast = made.version.read_bytes(), made.broadcast.read_bytes()
        self._server_state = None if made.server_state is None else made.server_state.read_bytes()

    def _accepts(self, update: Path, parent: Parent, tenant: str, number: int) -> bool:
        identity = self.identity(tenant, number=number)
        expected = ExpectedUpdate(
            round=identity["round"],
            tenant=identity["tenant"],
            attempt=int(identity["attempt"]),
            base=identity["base"],
            parent_sha256=identity["parent"],
        )
        try:
            check_update(
                update,
                parent=parent,
                expected=expected,
                max_relative_norm=self._rules.max_relative_norm,
                dtype=self._rules.upload.dtype,
                sends=self._rules.method.sends,
            )
        except UpdateRefused:
            return False
        return True


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
