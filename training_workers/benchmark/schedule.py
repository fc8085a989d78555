"""What is run next: the plan's groups in order, each whole, within a limit of time."""

import time
from collections.abc import Callable

from training_workers.benchmark.arms import Sections
from training_workers.benchmark.engine import matrix_weights
from training_workers.benchmark.plan import Group, Plan, Run, choosing_group, cost
from training_workers.benchmark.processes import Job
from training_workers.benchmark.results import Record, Results
from training_workers.benchmark.workplace import Workplace


class Schedule:
    """Knows what is finished, what is broken, and about how long the rest takes."""

    def __init__(
        self,
        plan: Plan,
        workplace: Workplace,
        results: Results,
        *,
        limit_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.broken_now: dict[Run, str] = {}
        self.put_off: list[Group] = []
        self._workplace = workplace
        self._results = results
        self._limit_seconds = limit_seconds
        self._clock = clock
        self._began_at = clock()
        self._jobs: dict[Run, Job] = {}
        self._given: set[Run] = set()
        self._cost_done = 0.0

    @property
    def runs(self) -> list[Run]:
        """The plan's runs in order."""
        return [run for group in self.plan.groups for run in group.runs]

    def record(self, run: Run) -> Record | None:
        """What came of a run, if it is finished."""
        found = self._over(run)
        return found if found is not None and "result" in found else None

    def reason_broken(self, run: Run) -> str | None:
        """Why a run came to no result: now, or, where it was refused, at any time before."""
        found = self._over(run)
        return self.broken_now.get(run) or (None if found is None else found.get("refused"))

    def _over(self, run: Run) -> Record | None:
        job = self._job(run)
        return None if job is None else self._results.get(job.key)

    def next_job(self) -> Job | None:
        """The next run; None while all that is left waits for others' end, and when nothing is left."""
        for group in self.plan.groups:
            jobs = [job for run in group.runs if self._is_open(run) and (job := self._job(run)) is not None]
            if not jobs or group in self.put_off:
                continue
            if not self._fits(group):
                self.put_off.append(group)
                continue
            self._given.add(jobs[0].run)
            return jobs[0]
        return None

    def end(self, run: Run, *, reason: str | None = None) -> None:
        """A run is over: its record is in the results, or it broke for this reason."""
        if reason is not None:
            self.broken_now[run] = reason
        self._cost_done += self._cost(run)

    def remaining_seconds(self) -> float | None:
        """About how long it takes until all is done that is not put off; None before the first run's end."""
        if not self._cost_done:
            return None
        left = [run for group in self.plan.groups if group not in self.put_off for run in group.runs]
        under_way = sum(map(self._cost, self._given)) - self._cost_done
        needed = under_way + sum(self._cost(run) for run in left if self._is_open(run))
        return needed * (self._clock() - self._began_at) / self._cost_done

    def _is_open(self, run: Run) -> bool:
        return run not in self._given and self._over(run) is None

    def _job(self, run: Run) -> Job | None:
        """The run with its settings; None while they are not chosen."""
        if run not in self._jobs:
            settings = self._settings(run)
            if settings is None:
                return None
            self._jobs[run] = Job(run, settings, self._workplace.key(run, settings))
        return self._jobs[run]

    def _settings(self, run: Run) -> Sections | None:
        if run.candidate is not None:
            return run.arm.candidates()[run.candidate]
        group = choosing_group(run)
        if group is None:
            return {}
        records = [record for one in group.runs if (record := self.record(one)) is not None]
        n_broken = sum(self.reason_broken(one) is not None for one in group.runs)
        if not records or len(records) + n_broken < len(group.runs):
            return None
        best = max(records, key=lambda record: record["result"]["validation"][0])
        chosen: Sections = best["settings"]
        return chosen

    def _fits(self, group: Group) -> bool:
        """Whether all of the group can be done in time; one that has begun is ended."""
        begun = any(run in self._given for run in group.runs)
        if self._limit_seconds is None or not self._cost_done or begun:
            return True
        elapsed = self._clock() - self._began_at
        under_way = sum(map(self._cost, self._given)) - self._cost_done
        needed = under_way + sum(self._cost(run) for run in group.runs if self._is_open(run))
        return elapsed + needed * elapsed / self._cost_done <= self._limit_seconds

    def _cost(self, run: Run) -> float:
        """In rows that go forward once, times their length, times the base model's weights."""
        row = self._workplace.texts(run.task).mean_characters
        return cost(run, self._workplace.scale) * row * matrix_weights(self._workplace.facts(run.base))
