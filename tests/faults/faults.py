"""What may hit a round: each fault is inflicted once, in one round."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tenants.failpoints import SCORED, SUBMITTED, FailPoint
from tests.faults.arena import Arena, Place


class FaultMissed(AssertionError):
    """A fail point was armed and no process came by: its loop proves nothing."""


class Fault(Protocol):
    """Something that hits a round."""

    @property
    def name(self) -> str:
        """Its row in the table."""

    def hold_round(self, arena: Arena, place: Place) -> tuple[str, float | None]:
        """Open the round and let the fault happen; the round's id, and when it happened, in seconds of the clock."""

    @property
    def n_publications(self) -> int:
        """How often the round's version is published: again after it was rolled back."""


@dataclass(frozen=True)
class AtFailPoint:
    """The process that reaches the point dies there; so do those that reach the other points."""

    process: str
    points: tuple[tuple[FailPoint, str], ...]
    by_schedule: bool = False
    needs_new_trainers: bool = False
    n_publications: int = 1

    @property
    def name(self) -> str:
        point, detail = self.points[-1]
        return f"{self.process}: {' '.join(filter(None, [point.value, detail]))}"

    def hold_round(self, arena: Arena, place: Place) -> tuple[str, float | None]:
        if self.needs_new_trainers:
            arena.kill(arena.trainers())
        for point, detail in self.points:
            arena.arm(point, detail)
        opened = arena.let_schedule_open_round if self.by_schedule else arena.open_round
        round_id = opened(place)
        arena.await_end(round_id)
        return round_id, self.disarmed(arena)

    def disarmed(self, arena: Arena) -> float:
        """When the last point was reached. Raises FaultMissed."""
        reached = {point: arena.disarm(point) for point, _ in self.points}
        if missed := [point for point, at in reached.items() if at is None]:
            raise FaultMissed(f"{self.name}: nothing reached {missed}")
        return max(at for at in reached.values() if at is not None)


@dataclass(frozen=True)
class InRollBack(AtFailPoint):
    """After a calm round its version is rolled back, in which the process dies, and published again."""

    n_publications: int = 2

    def hold_round(self, arena: Arena, place: Place) -> tuple[str, float | None]:
        round_id = arena.open_round(place)
        ended = arena.await_end(round_id)
        for point, detail in self.points:
            arena.arm(point, detail)
        roll_back = f"federations/{place.federation['id']}/roll-back"
        arena.post(roll_back, {"version": ended["parent_version"]})
        reached_at = self.disarmed(arena)
        arena.post(roll_back, {"version": ended["candidate_version"]})
        return round_id, reached_at


@dataclass(frozen=True)
class AtSomeTime:
    """Something is done at a random time within a round's usual length."""

    name: str
    strike: Callable[[Arena], None]
    after_share: float  # of an undisturbed round's seconds
    n_publications: int = 1

    def hold_round(self, arena: Arena, place: Place) -> tuple[str, float | None]:
        round_id = arena.open_round(place)
        time.sleep(self.after_share * arena.calm_seconds)
        struck_at = time.time()
        self.strike(arena)
        return round_id, struck_at


@dataclass(frozen=True)
class Scattered:
    """Every message of the round is delivered five times and out of order."""

    name: str = "every message five times, out of order"
    n_publications: int = 1

    def hold_round(self, arena: Arena, place: Place) -> tuple[str, float | None]:
        with arena.scattering():
            round_id = arena.open_round(place)
            arena.await_end(round_id)
        return round_id, None


def _at(process: str, *points: FailPoint | tuple[FailPoint, str], **options: bool) -> AtFailPoint:
    named = tuple(point if isinstance(point, tuple) else (point, "") for point in points)
    return AtFailPoint(process, named, **options)


_P = FailPoint
TRAIN, EVALUATE = "LocalRun", "Evaluation"

AT_FAIL_POINTS: tuple[AtFailPoint, ...] = (
    _at("web", (_P.REQUEST_RECEIVED, "POST")),
    _at("web", _P.ROUND_OPENED),
    _at("web", (_P.COMMITTED, TRAIN)),
    _at("web", (_P.SENT, TRAIN)),
    _at("web", (_P.REQUEST_COMMITTED, "POST")),
    InRollBack("web", ((_P.ROLLED_BACK, ""),)),
    InRollBack("web, roll-back", ((_P.REQUEST_COMMITTED, "POST"),)),
    _at("ticker", _P.SCHEDULE_LOCKED, by_schedule=True),
    _at("ticker", _P.ROUND_OPENED, by_schedule=True),
    _at("ticker", (_P.COMMITTED, TRAIN), by_schedule=True),
    _at("ticker", (_P.SENT, TRAIN), by_schedule=True),
    _at("worker and ticker", _P.UPDATE_RECEIVED, _P.TAKEN_BACK),
    _at("worker", _P.RECEIVED),
    _at("worker", (_P.CLAIMED, TRAIN)),
    _at("worker", _P.TRAINER_STARTED, needs_new_trainers=True),
    _at("worker", _P.JOB_GIVEN),
    _at("worker", _P.UPDATE_RECEIVED),
    _at("worker", _P.UPDATE_STORED),
    _at("worker", _P.UPDATE_SUBMITTED),
    _at("worker", (_P.COMMITTED, SUBMITTED)),
    _at("worker", (_P.SENT, SUBMITTED)),
    _at("worker", (_P.CLAIMED, EVALUATE)),
    _at("worker", _P.EVALUATION_COMPLETED),
    _at("worker", (_P.COMMITTED, SCORED)),
    _at("worker", (_P.SENT, SCORED)),
    _at("trainer", _P.TRAINING_BEGUN),
    _at("trainer", (_P.STEP_TAKEN, "10")),
    _at("trainer", (_P.JOB_DONE, "train")),
    _at("trainer", (_P.JOB_DONE, "evaluate")),
    _at("coordinator", _P.CHECK_BEGUN),
    _at("coordinator", _P.VERDICT_WRITTEN),
    _at("coordinator", _P.VERDICT_COMMITTED),
    _at("coordinator", _P.TRAINING_CLOSED),
    _at("coordinator", _P.AGGREGATION_PLANNED),
    _at("coordinator", _P.UPDATE_LOADED),
    _at("coordinator", _P.CANDIDATE_SUMMED),
    _at("coordinator", _P.CANDIDATE_STORED),
    _at("coordinator", _P.CANDIDATE_ADOPTED),
    _at("coordinator", (_P.COMMITTED, EVALUATE)),
    _at("coordinator", (_P.SENT, EVALUATE)),
    _at("coordinator", _P.GATE_DECIDED),
    _at("coordinator", (_P.ROUND_CONCLUDED, "published")),
)


def _kill(*names: str) -> Callable[[Arena], None]:
    return lambda arena: arena.kill(arena.running.platform.pids(*names))


def _stop_valkey(arena: Arena) -> None:
    arena.running.platform.stop("valkey")
    time.sleep(1.0)
    arena.running.platform.start("valkey")


def _kill_trainer(arena: Arena) -> None:
    arena.kill(arena.trainers()[:1])


def _shut_postgres_down(arena: Arena) -> None:
    arena.kill(arena.running.platform.pids("postgres"), signal.SIGQUIT)


KILLS: dict[str, Callable[[Arena], None]] = {
    "kill -9 web": _kill("web"),
    "kill -9 coordinator": _kill("coordinator"),
    "kill -9 worker 1": _kill("gpu1"),
    "kill -9 worker 2": _kill("gpu2"),
    "kill -9 both workers": _kill("gpu"),
    "kill -9 trainer": _kill_trainer,
    "kill -9 ticker": _kill("ticker"),
}
OUTAGES: dict[str, Callable[[Arena], None]] = {
    "Valkey stopped for a second": _stop_valkey,
    "Valkey kill -9": _kill("valkey"),
    "Valkey FLUSHALL": Arena.flush_broker,
    "PostgreSQL immediate shutdown": _shut_postgres_down,
}


def at_some_time(strikes: dict[str, Callable[[Arena], None]], *, n: int, draw: random.Random) -> list[Fault]:
    """That many faults, each kind as often as another, at random times and in random order."""
    kinds = list(strikes) * (n // len(strikes) + 1)
    faults: list[Fault] = [AtSomeTime(kind, strikes[kind], draw.uniform(0.0, 1.0)) for kind in kinds[:n]]
    draw.shuffle(faults)
    return faults
