"""From finished runs to figures: each arm on each split, over seeds, beside its centralized twin."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from training_workers.benchmark.arms import BASE, CENTRAL, Arm, Members
from training_workers.benchmark.partition import Tenant
from training_workers.benchmark.plan import FRESH_SEEDS, POOLED, Group, Run, is_pooled
from training_workers.benchmark.results import Record
from training_workers.benchmark.schedule import Schedule
from training_workers.benchmark.scoring import mixed
from training_workers.benchmark.workplace import Workplace

SHARE_OF_CENTRAL = 0.95


@dataclass(frozen=True)
class Figure:
    """A mean over seeds and their deviation; none with one seed."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Figure":
        """The figure of these values."""
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Costs:
    """What an arm takes; bytes, operations and seconds are a tenant's."""

    n_trained: int
    n_rounds: int
    up_bytes: float
    down_bytes: float
    total_bytes: float
    teraflops: float
    seconds: float
    n_rejected: int


@dataclass(frozen=True)
class Line:
    """An arm on a split. Scores are in percent, `gap` in points below the twin's; None unless each seed has one."""

    base: str
    task: str
    split: str
    is_fresh: bool  # measured with the seeds by which nothing was chosen
    arm: str
    n_seeds: int
    score: Figure
    worst: Figure
    gap: Figure | None
    rounds_to_share: Figure | None
    costs: Costs | None


@dataclass(frozen=True)
class _Seed:
    """One finished run on one split's tenants."""

    score: float
    worst: float


def make_lines(schedule: Schedule, workplace: Workplace) -> list[Line]:
    """A line for each arm and split of which every seed's run is finished, the twin's too where it has one.

    A split has lines as soon as something that was trained on it is finished.
    """
    finished = _finished_groups(schedule)
    lines: list[Line] = []
    for base, task, split, is_fresh in _cells(schedule):
        arms = [
            group for group in finished if _is_on(group.first, base, task, split) and _has(group, is_fresh)
        ]
        if all(is_pooled(group.first.arm) for group in arms):
            continue  # what is the same on every split says nothing of this one
        seeds = max((group.runs for group in arms), key=len, default=())
        for group in arms:
            lines += _lines_of(schedule, workplace, group, split, [run.seed for run in seeds])
    return lines


def _finished_groups(schedule: Schedule) -> list[Group]:
    reported = (group for group in schedule.plan.groups if group.first.candidate is None)
    return [group for group in reported if all(schedule.record(run) is not None for run in group.runs)]


def _cells(schedule: Schedule) -> list[tuple[str, str, str, bool]]:
    cells: dict[tuple[str, str, str, bool], None] = {}
    for group in schedule.plan.groups:
        run = group.first
        if run.candidate is None and run.split != POOLED:
            cells[run.base, run.task, run.split, group.is_fresh] = None
    return list(cells)


def _has(group: Group, is_fresh: bool) -> bool:
    """Whether a group's seeds are those that are asked for; the bare base has no seed."""
    return group.first.arm.recipe.members is Members.NOBODY or group.is_fresh == is_fresh


def _is_on(run: Run, base: str, task: str, split: str) -> bool:
    return (run.base, run.task) == (base, task) and run.split in (split, POOLED)


def _lines_of(
    schedule: Schedule, workplace: Workplace, group: Group, split: str, seeds: Sequence[int]
) -> Iterator[Line]:
    """The arm's line, and one more for each thing that its tenants made of the shared version."""
    run = group.first
    records = {one.seed: _known(schedule, one) for one in group.runs}
    if run.arm.recipe.members is Members.NOBODY:
        records = dict.fromkeys(seeds, records[run.seed])
    tenants = {seed: _tenants(workplace, run, split, seed) for seed in records}
    twins = _twins(schedule, run, records)
    twin_scores = {
        seed: _score(twin["result"]["models"], tenants[seed]).score for seed, twin in twins.items()
    }
    measured = {seed: _score(record["result"]["models"], tenants[seed]) for seed, record in records.items()}
    costs = _costs(run.arm, list(records.values()))
    rounds = _rounds_to_share(records, twins) if run.arm.recipe.members is Members.ALL_TENANTS else None
    yield _line(run, split, run.arm.name, measured, twin_scores, rounds, costs)
    for kind in records[next(iter(records))]["result"].get("personal", {}):
        personal = {
            seed: _score(record["result"]["personal"][kind], tenants[seed])
            for seed, record in records.items()
        }
        yield _line(run, split, f"{run.arm.name} + {kind}", personal, twin_scores, None, None)


def _line(
    run: Run,
    split: str,
    name: str,
    measured: Mapping[int, _Seed],
    twin_scores: Mapping[int, float],
    rounds: Figure | None,
    costs: Costs | None,
) -> Line:
    has_twins = twin_scores.keys() == measured.keys() and run.arm.recipe_name != CENTRAL
    gaps = [twin_scores[seed] - one.score for seed, one in measured.items()] if has_twins else []
    return Line(
        base=run.base,
        task=run.task,
        split=split,
        is_fresh=all(seed in FRESH_SEEDS for seed in measured),
        arm=name,
        n_seeds=len(measured),
        score=Figure.of([one.score for one in measured.values()]),
        worst=Figure.of([one.worst for one in measured.values()]),
        gap=Figure.of(gaps) if gaps else None,
        rounds_to_share=rounds,
        costs=costs,
    )


def _tenants(workplace: Workplace, run: Run, split: str, seed: int) -> list[Tenant]:
    any_federated = Run(run.base, run.task, Arm(run.arm.method, "short"), split, seed)
    return workplace.tenants(any_federated)


def _twins(schedule: Schedule, run: Run, records: Mapping[int, Record]) -> dict[int, Record]:
    """The centralized runs of the same method and seeds, as far as they are finished."""
    if run.arm.recipe_name == BASE:
        return {}
    twin = Arm(run.arm.method, CENTRAL)
    found = {seed: schedule.record(Run(run.base, run.task, twin, POOLED, seed)) for seed in records}
    return {seed: record for seed, record in found.items() if record is not None}


def _known(schedule: Schedule, run: Run) -> Record:
    record = schedule.record(run)
    assert record is not None, "only finished groups are summed up"
    return record


def _score(models: Sequence[Mapping[str, float]], tenants: Sequence[Tenant]) -> _Seed:
    """Each tenant's own score with its model (the one that all share, if there is one): weighted mean, and worst."""
    of_tenants = list(models) * len(tenants) if len(models) == 1 else list(models)
    own = [100 * mixed(model, tenant.shares) for model, tenant in zip(of_tenants, tenants, strict=True)]
    n_rows = sum(tenant.n_train for tenant in tenants)
    mean = sum(score * tenant.n_train for score, tenant in zip(own, tenants, strict=True)) / n_rows
    return _Seed(score=mean, worst=min(own))


def _rounds_to_share(records: Mapping[int, Record], twins: Mapping[int, Record]) -> Figure | None:
    """The first scored round with 95 % of the twin's best validation score; None if a seed never gets there."""
    if twins.keys() != records.keys():
        return None
    firsts = []
    for seed, record in records.items():
        wanted = SHARE_OF_CENTRAL * twins[seed]["result"]["validation"][0]
        reached = [number for number, score in record["result"]["curves"][0] if score >= wanted]
        if not reached:
            return None
        firsts.append(float(reached[0]))
    return Figure.of(firsts)


def _costs(arm: Arm, records: Sequence[Record]) -> Costs | None:
    if arm.recipe.members is Members.NOBODY:
        return None
    spent: list[Mapping[str, Any]] = [one for record in records for one in record["result"]["spent"]]
    sends = arm.recipe.members is Members.ALL_TENANTS
    up = fmean(one["up_bytes"] for one in spent) / arm.recipe.n_rounds if sends else 0.0
    down = fmean(one["down_bytes"] for one in spent) / arm.recipe.n_rounds if sends else 0.0
    n_tenants = len(spent) / len(records)
    return Costs(
        n_trained=records[0]["result"]["n_trained"],
        n_rounds=arm.recipe.n_rounds,
        up_bytes=up,
        down_bytes=down,
        total_bytes=(up + down) * arm.recipe.n_rounds * n_tenants,
        teraflops=fmean(one["flops"] for one in spent) / 1e12,
        seconds=fmean(one["seconds"] for one in spent),
        n_rejected=sum(record["result"]["n_rejected"] for record in records),
    )
