"""Whether a round came through its fault: one version, the undisturbed bytes, nothing twice, nothing left over."""

import hashlib
import time
from dataclasses import dataclass, field

from tests.faults.arena import ENDED, Arena, Place
from tests.faults.faults import Fault

N_TENANTS = 3
COUNTS = """
    SELECT
        (SELECT count(*) FROM federation_federatedround r WHERE r.federation_id = f.id),
        (SELECT count(*) FROM federation_prefixversion v WHERE v.federation_id = f.id AND v.number > 0),
        (SELECT count(*) FROM federation_publishrecord p JOIN federation_federatedround r
            ON r.candidate_version_id = p.new_id WHERE r.federation_id = f.id AND r.number = %(number)s)
    FROM federation_federation f WHERE f.name = %(name)s
"""
EVENTS = """
    SELECT e.kind, e.tenant_id, count(*) FROM federation_roundevent e
    JOIN federation_federatedround r ON r.id = e.federated_round_id
    JOIN federation_federation f ON f.id = r.federation_id
    WHERE f.name = %(name)s AND r.number = %(number)s GROUP BY 1, 2
"""
AUDITED = "SELECT action, count(*) FROM tenants_auditentry WHERE object_id = %(id)s GROUP BY 1"
ONCE_A_ROUND = ("round.training", "round.aggregating", "round.evaluating", "round.published")
ONCE_A_RUN = ("local_run.submitted", "local_run.accepted")


@dataclass(frozen=True)
class Outcome:
    """One round under one fault. The lists say what is wrong, and are empty where nothing is."""

    fault: str
    is_published: bool
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    recovery_seconds: float | None = None

    @property
    def problems(self) -> list[str]:
        """All that is wrong."""
        return [*self.lost, *self.doubled, *self.stuck]


def endure(arena: Arena, fault: Fault, place: Place) -> Outcome:
    """Hold one round under the fault and judge it; one that cannot be judged, or whose fault was missed, is stuck."""
    try:
        return _endure(arena, fault, place)
    except AssertionError as error:
        return Outcome(fault.name, is_published=False, stuck=[str(error)])


def _endure(arena: Arena, fault: Fault, place: Place) -> Outcome:
    name = place.federation["name"]
    round_id, struck_at = fault.hold_round(arena, place)
    ended = arena.await_end(round_id)
    recovery = None if struck_at is None else max(0.0, time.time() - struck_at)
    is_quiet = arena.settle(name)
    stuck = [] if ended["state"] in ENDED else [f"the round is {ended['state']}"]
    stuck += [] if is_quiet else ["some of its work has not ended"]
    [(n_rounds, n_versions, n_publications)] = arena.rows(COUNTS, name=name, number=place.number)
    doubled = [
        f"{n} {things}"
        for n, things, allowed in (
            (n_rounds, "rounds", place.number),
            (n_versions, "versions", place.number),
            (n_publications, "publications", fault.n_publications),
        )
        if n > allowed
    ]
    doubled += _told_twice(arena, name, place.number, round_id)
    return Outcome(
        fault=fault.name,
        is_published=ended["state"] == "published",
        lost=_lost(arena, place, ended, n_publications - fault.n_publications),
        doubled=doubled,
        stuck=stuck,
        recovery_seconds=recovery,
    )


def _told_twice(arena: Arena, name: str, number: int, round_id: str) -> list[str]:
    events = {(kind, tenant): n for kind, tenant, n in arena.rows(EVENTS, name=name, number=number)}
    told = [(kind, n) for (kind, _), n in events.items() if kind in (*ONCE_A_ROUND, *ONCE_A_RUN)]
    told += arena.rows(AUDITED, id=round_id)
    return [f"{n} times {kind}" for kind, n in told if n > 1]


def _lost(arena: Arena, place: Place, ended: dict[str, object], n_publications_more: int) -> list[str]:
    if ended["state"] in ENDED and ended["state"] != "published":
        return [f"the round is {ended['state']}: {ended['reason']}"]
    if ended["state"] != "published":
        return []  # stuck
    lost = [] if n_publications_more >= 0 else ["a publication is missing"]
    runs = ended["n_local_runs"]
    lost += [] if runs == {"accepted": N_TENANTS} else [f"the local runs are {runs}"]
    pointer = arena.get(f"federations/{place.federation['id']}/published")["version"]
    if pointer != ended["candidate_version"]:
        lost.append("another version is the published one")
    sha256 = arena.get(f"prefix-versions/{ended['candidate_version']}")["sha256"]
    if sha256 != arena.undisturbed[place.number - 1]:
        lost.append("the bytes are not those of the undisturbed run")
    stored = arena.running.storage / "content" / sha256[:2] / sha256
    if hashlib.sha256(stored.read_bytes()).hexdigest() != sha256:
        lost.append("the stored bytes are damaged")
    return lost
