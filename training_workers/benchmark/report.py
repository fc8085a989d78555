"""The page: what was run, on what, and every figure of every comparison that is whole."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from training_workers.benchmark.arms import RECIPES
from training_workers.benchmark.personal import N_STEPS, TRAINED_RULES
from training_workers.benchmark.plan import CHOOSING_SEED, Run, Scale
from training_workers.benchmark.schedule import Schedule
from training_workers.benchmark.summary import Costs, Figure, Line
from training_workers.benchmark.texts import MAX_TEXT_CHARACTERS, Alike

# Points below the centralized twin, by split: the goals of prefix federations.
GOALS: Mapping[str, float] = {
    "natural": 0.5,
    "identical": 0.5,
    "dirichlet-1": 0.5,
    "dirichlet-0.5": 1.0,
    "dirichlet-0.1": 2.0,
}
GOAL_ARMS = ("prefix/short", "prefix/heavy-skew", "prefix/short-float16", "prefix/short-int8")
CONTROL_ARM = "prefix/central-4x"
_PUBLISHED = """
FedPETuning (Zhang et al. 2023, arXiv 2212.10025) has published for RoBERTa-base with FedAvg, 100 clients of which 10 %
take part in a round, 100 rounds, the mean over RTE, MRPC, SST-2, QNLI, QQP and MNLI. **Another base, other data, other
sizes: these figures stand beside ours and are not to be subtracted from them.**

| | Dirichlet 1.0, mean of six | Dirichlet 0.1: QNLI | QQP | MNLI |
|---|---:|---:|---:|---:|
| full fine-tuning | 87.0 | | | |
| LoRA | 84.8 | 78.8 | | |
| prefix | 82.3 | 52.3 | 63.8 | 78.4 |
"""
_COLUMNS = (
    "arm",
    "seeds",
    "score",
    "worst tenant",
    "below central",
    "rounds to 95 %",
    "up a round",
    "down a round",
    "in all",
    "TFLOP",
    "seconds",
    "trained",
)


@dataclass(frozen=True)
class Circumstances:
    """How the page came about."""

    command: str
    scale: Scale
    is_quick: bool
    plots: Sequence[str]
    alike: Mapping[str, Alike] = field(default_factory=dict)  # by task


def make_page(schedule: Schedule, lines: Sequence[Line], circumstances: Circumstances) -> str:
    """The page in Markdown."""
    parts = [
        "# How well it learns",
        _opening(schedule, circumstances),
        *(f"![{plot}]({plot})" for plot in circumstances.plots),
        _how_to_read(circumstances),
        "## Goals",
        _goals(lines),
        *_tables(lines),
        "## Beside published figures",
        _PUBLISHED.strip(),
        "## Settings",
        _settings(schedule),
        "## What is not here",
        _missing(schedule),
    ]
    return "\n\n".join(parts) + "\n"


def _opening(schedule: Schedule, circumstances: Circumstances) -> str:
    runs = schedule.runs
    n_finished = sum(schedule.record(run) is not None for run in runs)
    quick = (
        " **A quick run: small, to see that all works; its scores say little.**"
        if circumstances.is_quick
        else ""
    )
    return (
        f"Written by `{circumstances.command}`.{quick} {n_finished} of {len(runs)} runs are finished; "
        f"only comparisons of which every seed is are shown.\n\n{_made_with(schedule)}"
    )


def _made_with(schedule: Schedule) -> str:
    """As the runs themselves say: the page may be written elsewhere, and they may be of several machines."""
    records = [record for run in schedule.runs if (record := schedule.record(run)) is not None]
    machines = Counter(
        ", ".join(f"{name} {value}" for name, value in record.get("machine", {}).items())
        for record in records
    )
    if len(machines) <= 1:
        return f"Made with: {next(iter(machines), '')}."
    return "Made with: " + "; ".join(f"{told} ({n} runs)" for told, n in machines.items()) + "."


def _how_to_read(circumstances: Circumstances) -> str:
    scale = circumstances.scale
    trained = "\n".join(f"- `+ {name}`: {rule.about}" for name, rule in TRAINED_RULES.items())
    recipes = "\n".join(f"- `{name}`: {recipe.about}" for name, recipe in RECIPES.items())
    return f"""## How to read it

Four tenants. Every tenant takes {scale.n_steps} local steps on 8 rows in all, whatever the recipe (`central-4x` is the
control that takes 32). Rows to train on, for validation ({scale.n_validation}) and to test on (at most {scale.n_test})
are apart by a hash of their text{_alike(circumstances.alike)}. The round that does best on validation is the one
that is tested.

- *score*: accuracy in percent on test rows mixed as each tenant's training rows are, the tenants weighted by their
  rows; for a shared version that is its accuracy on everyone's rows. Mean ± deviation over seeds.
- *worst tenant*: the lowest such score of a tenant.
- *below central*: points below the centralized twin of the same method and seed; below zero is above it.
- *rounds to 95 %*: the first scored round with 95 % of the twin's validation score; one in three of thirty is scored.
  Nothing where a seed never gets there.
- *up*, *down*: bytes of the real payloads, a tenant and round; *in all*: both ways, all tenants and rounds.
- *TFLOP*, *seconds*: a tenant's training in all. Operations: 4 per weight of the base's matrices and token (forward 2,
  back to the activations 2), 6 in `full`, on the rows' own tokens; a prompt's virtual tokens, the embedding,
  attention's products of activations and the optimizer are not counted. Seconds are by the clock, while other runs
  shared the machine's cores.
- *trained*: numbers that an update holds.
- `+ …`: what each tenant makes of the shared version for itself, on its own mixture. All that train take {N_STEPS} more
  steps of the tenant's own on the same rows, and are used where its validation rows do not speak against it.
- *fresh seeds*: what the seeds 0 to 2 had measured, again with seeds by which nothing was chosen.
- *below 4x* (goals): points below `central-4x`, which sees as many rows as the four tenants together. *met* is by
  *below central*: beside the twin with as many steps of 8 rows, a fourth of the federation's.
- *with its own* (goals): the worst tenant where each uses what it made of the shared version by the rule named, which
  is the best of those in the split's table by these very scores.
- *without federation*: the worst tenant of `local`, or of `base` where that is better or `local` was not run.
- `+ prior`: nothing is trained; the tenant's own log label prior is added at use.
{trained}

{recipes}"""


def _alike(by_task: Mapping[str, Alike]) -> str:
    """The sides part whole texts, of which a prompt holds the beginning."""
    shown = f"have the first {MAX_TEXT_CHARACTERS} characters, all that a prompt holds, of one to train on"
    return "".join(
        f"\n({task}: {one.n_validation_alike} of {one.n_validation} for validation and "
        f"{one.n_test_alike} of {one.n_test} to test on {shown})"
        for task, one in by_task.items()
        if one.n_validation_alike or one.n_test_alike
    )


def _goals(lines: Sequence[Line]) -> str:
    rows = []
    by_cell: dict[tuple[str, str, str, bool], list[Line]] = {}
    for line in lines:
        by_cell.setdefault((line.base, line.task, line.split, line.is_fresh), []).append(line)
    for line in lines:
        if line.arm not in GOAL_ARMS or line.split not in GOALS or line.gap is None:
            continue
        beside = by_cell[line.base, line.task, line.split, line.is_fresh]
        own = [other for other in beside if other.arm.startswith(f"{line.arm} + ")]
        best = max(own, key=lambda other: other.worst.mean, default=None)
        apart = [other for other in beside if other.arm in ("prefix/local", "base")]
        without = max(apart, key=lambda other: other.worst.mean, default=None)
        control = next((other for other in beside if other.arm == CONTROL_ARM), None)
        rows.append(
            [
                f"{line.base}, {line.task}, {_place(line)}",
                line.arm,
                _figure(line.gap),
                f"{GOALS[line.split]:g}",
                "yes" if line.gap.mean <= GOALS[line.split] else "no",
                f"{control.score.mean - line.score.mean:.1f}" if control else "",
                _figure(line.worst),
                f"{_figure(best.worst)} ({best.arm.removeprefix(f'{line.arm} + ')})" if best else "",
                f"{_figure(without.worst)} ({without.arm.removeprefix('prefix/')})" if without else "",
                _bytes(line.costs.up_bytes if line.costs else 0),
            ]
        )
    columns = (
        "where",
        "arm",
        "below central",
        "goal",
        "met",
        "below 4x",
        "worst tenant",
        "with its own",
        "without federation",
        "up a round",
    )
    return _table(columns, rows) if rows else "Nothing that a goal is about is finished."


def _tables(lines: Sequence[Line]) -> Iterable[str]:
    for base, task in dict.fromkeys((line.base, line.task) for line in lines):
        yield f"## {base}, {task}"
        mine = [line for line in lines if (line.base, line.task) == (base, task)]
        for place in dict.fromkeys(map(_place, mine)):
            yield f"### {place}"
            yield _table(_COLUMNS, [_cells(line) for line in mine if _place(line) == place])


def _place(line: Line) -> str:
    return f"{line.split}, fresh seeds" if line.is_fresh else line.split


def _cells(line: Line) -> list[str]:
    return [
        f"`{line.arm}`",
        str(line.n_seeds),
        _figure(line.score),
        _figure(line.worst),
        "" if line.gap is None else _figure(line.gap),
        "" if line.rounds_to_share is None else _figure(line.rounds_to_share),
        *_cost_cells(line.costs),
    ]


def _cost_cells(costs: Costs | None) -> list[str]:
    if costs is None:
        return [""] * 6
    rejected = f" ({costs.n_rejected} updates refused)" if costs.n_rejected else ""
    return [
        _bytes(costs.up_bytes),
        _bytes(costs.down_bytes),
        _bytes(costs.total_bytes),
        f"{costs.teraflops:.2f}",
        f"{costs.seconds:.1f}",
        f"{costs.n_trained:,}{rejected}",
    ]


def _settings(schedule: Schedule) -> str:
    """What validation chose, arm by arm."""
    rows = []
    for group in schedule.plan.groups:
        run = group.first
        records = [record for one in group.runs if (record := schedule.record(one)) is not None]
        n_broken = sum(schedule.reason_broken(one) is not None for one in group.runs)
        if run.candidate is None or len(records) + n_broken < len(group.runs):
            continue
        scores = "; ".join(
            f"{_sections(record['settings'])}: {100 * record['result']['validation'][0]:.1f}"
            for record in records
        )
        rows.append([f"{run.base}, {run.task}", f"`{run.arm.name}`", run.split, scores])
    followers: dict[str, list[str]] = {}
    for name, recipe in RECIPES.items():
        if recipe.rate_of is not None:
            followers.setdefault(recipe.rate_of, []).append(f"`{name}`")
    taken = "; ".join(f"that of `{chooser}`: {', '.join(names)}" for chooser, names in followers.items())
    told = (
        f"Chosen by the validation score of one run each with the seed {CHOOSING_SEED}, which no reported run has. "
        f"Others train at the rate that was chosen for another recipe of their method; {taken}."
    )
    return f"{told}\n\n{_table(('where', 'arm', 'split', 'candidates and their validation scores'), rows)}"


def _missing(schedule: Schedule) -> str:
    told = [f"- `{arm}` is not offered: {reason}" for arm, reason in schedule.plan.left_out.items()]
    told += [
        f"- {run.name} broke: {reason}"
        for run in schedule.runs
        if (reason := schedule.reason_broken(run)) is not None
    ]
    begun = {(run.base, run.task) for run in schedule.runs if schedule.record(run) is not None}
    not_run: dict[str, list[str]] = {}
    for group in schedule.plan.groups:
        run = group.first
        if run.candidate is None and any(_is_unfinished(schedule, one) for one in group.runs):
            place = f"{run.base}, {run.task}"
            if (run.base, run.task) in begun:
                place += f", {run.split}{', fresh seeds' if group.is_fresh else ''}"
                not_run.setdefault(place, []).append(f"`{run.arm.name}`")
            else:
                not_run[place] = ["all"]
    told += [f"- {place}: not run to the end: {', '.join(arms)}" for place, arms in not_run.items()]
    return "\n".join(told) or "Nothing was left out."


def _is_unfinished(schedule: Schedule, run: Run) -> bool:
    return schedule.record(run) is None and schedule.reason_broken(run) is None


def _sections(sections: Mapping[str, Any]) -> str:
    flat = []
    for name, value in sections.items():
        flat.append(f"{name}.{_sections(value)}" if isinstance(value, Mapping) else f"{name} {value:g}")
    return ", ".join(flat)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, marks, *rows))


def _figure(figure: Figure) -> str:
    deviation = "" if figure.deviation is None else f" ± {figure.deviation:.1f}"
    return f"{figure.mean:.1f}{deviation}"


def _bytes(n: float) -> str:
    return f"{n / 1e6:.2f} MB" if n >= 1e5 else f"{n / 1e3:.1f} kB" if n else ""
