"""Which runs there are, and in which order: what tells most comes first, and whole comparisons after one another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from federation.errors import SpecificationInvalid
from training_workers.benchmark.arms import BASE, BATCH_SIZE, CENTRAL, N_STEPS, RECIPES, Arm, Members
from training_workers.benchmark.engine import N_SCORINGS
from training_workers.benchmark.partition import IDENTICAL, N_TENANTS, NATURAL
from training_workers.benchmark.personal import N_STEPS as N_PERSONAL_STEPS
from training_workers.benchmark.personal import PRIOR
from training_workers.benchmark.texts import TASKS
from training_workers.methods import METHODS

BASES: Mapping[str, str] = {"minilm": "all-MiniLM-L6-v2", "smollm2": "SmolLM2-135M-Instruct"}
"""The benchmark's base models and their directories."""

POOLED = "pooled"
"""Stands for the split where all rows are in one hand, or nobody trains: it is the same for every split."""

SEEDS = (0, 1, 2)
FRESH_SEEDS = (3, 4, 5, 6, 7)
"""What did best with the seeds above is run again with these, by which nothing was chosen."""

FINALISTS = (CENTRAL, "short", "heavy-skew", "local")
CHOOSING_SEED = 1_000  # of no reported run
CHOOSING_SPLIT = "dirichlet-0.1"
PRIOR_SPLITS = ("dirichlet-1", "dirichlet-0.5", "dirichlet-0.1")
_SKEWED, _MILD = "dirichlet-0.1", "dirichlet-1"
_PAIRS = (("minilm", "topics"), ("smollm2", "sentiment"), ("minilm", "sentiment"), ("smollm2", "topics"))
_ALL_SPLITS = (_SKEWED, _MILD, NATURAL, "dirichlet-0.5", IDENTICAL, "dirichlet-10")
_OTHERS = ("lora", "prompt", "full")
_UPLOADS = ("short-int8", "short-int4", "short-float16", "short-int8-both")
_FED_BACK = ("short-int4-feedback", "short-int8-feedback", "short-float16-feedback")

# Each line is measured for all pairs of a base and a task before the next one begins.
_ORDER: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (("prefix",), (BASE, CENTRAL, "short", "long", "heavy-skew", "local"), (_SKEWED,)),
    (("prefix",), ("short", "heavy-skew"), (_MILD, NATURAL, "dirichlet-0.5", IDENTICAL)),
    (_OTHERS, (CENTRAL, "short"), (_MILD, _SKEWED)),
    (("prefix",), (*_UPLOADS, *_FED_BACK, "heavy-skew-int4"), (_SKEWED,)),
    (("prefix",), ("local", "long", "heavy-skew", "central-4x"), _ALL_SPLITS),
    (("prefix",), ("long-calibrated", "long-proximal", "short-median"), (_SKEWED,)),
    (("prefix", *_OTHERS), ("short", "long", "local"), _ALL_SPLITS),
    (("prefix",), _UPLOADS, (_MILD,)),
)


@dataclass(frozen=True)
class Scale:
    """How large the runs are."""

    n_steps: int = N_STEPS
    n_train: int | None = None
    n_validation: int = 200
    n_test: int = 800


QUICK = Scale(n_steps=30, n_train=480, n_validation=40, n_test=80)


@dataclass(frozen=True)
class Choices:
    """What of the benchmark is to be run."""

    bases: tuple[str, ...] = tuple(BASES)
    tasks: tuple[str, ...] = tuple(TASKS)
    methods: tuple[str, ...] = tuple(METHODS)
    splits: tuple[str, ...] = _ALL_SPLITS
    recipes: tuple[str, ...] = tuple(RECIPES)
    seeds: tuple[int, ...] = SEEDS
    scale: Scale = Scale()


@dataclass(frozen=True)
class Run:
    """One run: `candidate` is the number of the settings that it is to judge, None with the chosen ones."""

    base: str
    task: str
    arm: Arm
    split: str
    seed: int
    candidate: int | None = None

    @property
    def name(self) -> str:
        """For people."""
        aim = "" if self.candidate is None else f", choosing settings ({self.candidate + 1})"
        return f"{self.base}, {self.task}, {self.arm.name}, {self.split}, seed {self.seed}{aim}"

    @property
    def personal_rules(self) -> tuple[str, ...]:
        """By which tenants make the shared version their own at the end.

        The prior costs nothing but scoring: it stands wherever labels are skewed. What trains is for the hardest case.
        """
        if self.candidate is not None or self.split not in PRIOR_SPLITS:
            return ()
        is_trained = self.arm.method == "prefix" and self.split == _SKEWED
        return tuple(rule for rule in self.arm.recipe.personal_rules if is_trained or rule == PRIOR)


@dataclass(frozen=True)
class Group:
    """Runs that say something together only: an arm's seeds, or the candidates of a choice."""

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """Any of them: all are of one base, task, arm and split."""
        return self.runs[0]

    @property
    def is_fresh(self) -> bool:
        """Whether its seeds are those by which nothing was chosen."""
        return all(run.seed in FRESH_SEEDS for run in self.runs)


@dataclass(frozen=True)
class Plan:
    """Groups in their order, and the arms that the platform refuses, with its reasons."""

    groups: tuple[Group, ...]
    left_out: Mapping[str, str]


def make_plan(choices: Choices, splits_by_task: Mapping[str, Sequence[str]]) -> Plan:
    """Everything that the choices ask for, each group once; what chooses settings stands before what needs them."""
    arms = {Arm(method, recipe) for method in choices.methods for recipe in choices.recipes}
    left_out = {arm.name: reason for arm in arms if (reason := _refusal(arm))}
    groups: dict[Group, None] = {}
    last: list[Group] = []
    for run in _cells(choices, splits_by_task):
        if run.arm.name in left_out:
            continue
        chooser = choosing_group(run)
        if chooser is not None:
            groups[chooser] = None
        groups[_seeds_of(run, choices.seeds)] = None
        if _is_finalist(run):
            last.append(_seeds_of(run, FRESH_SEEDS))
    if choices.seeds == SEEDS and CHOOSING_SPLIT in choices.splits:
        groups |= dict.fromkeys(last)
    return Plan(groups=tuple(groups), left_out=dict(sorted(left_out.items())))


def choosing_group(run: Run) -> Group | None:
    """The runs by whose validation scores this run's settings are chosen; None where there is no choice."""
    chooser = run.arm.chosen_by()
    if chooser is None:
        return None
    split = POOLED if is_pooled(chooser) else CHOOSING_SPLIT
    return Group(
        tuple(
            Run(run.base, run.task, chooser, split, CHOOSING_SEED, candidate=number)
            for number in range(len(chooser.candidates()))
        )
    )


def cost(run: Run, scale: Scale) -> float:
    """About how much a run takes, in rows that go forward once; a step back takes as much as two forward."""
    recipe = run.arm.recipe
    if recipe.members is Members.NOBODY:
        return scale.n_test
    n_tenants = 1 if recipe.members is Members.ALL_ROWS else N_TENANTS
    n_models = N_TENANTS if recipe.members is Members.EACH_ALONE else 1
    n_scored = (min(recipe.n_rounds, N_SCORINGS) + 1) * scale.n_validation + scale.n_test
    total = 3.0 * n_tenants * scale.n_steps * recipe.batch_size + n_models * n_scored
    # By half: a tenant's own strata only.
    a_rule = 3.0 * N_PERSONAL_STEPS * BATCH_SIZE + scale.n_validation + scale.n_test
    return total + len(run.personal_rules) * N_TENANTS * a_rule / 2


def _cells(choices: Choices, splits_by_task: Mapping[str, Sequence[str]]) -> Iterator[Run]:
    """One run of each cell, in order."""
    pairs = [pair for pair in _PAIRS if pair[0] in choices.bases and pair[1] in choices.tasks]
    for methods, recipes, splits in _ORDER:
        wanted = [recipe for recipe in recipes if recipe in choices.recipes]
        for base, task in pairs:
            allowed = [split for split in splits if split in choices.splits and split in splits_by_task[task]]
            for method in (method for method in methods if method in choices.methods):
                for arm in (Arm(method, recipe) for recipe in wanted):
                    for split in [POOLED] if is_pooled(arm) else allowed:
                        yield Run(base, task, arm, split, seed=0)


def _is_finalist(run: Run) -> bool:
    is_there = run.split in (POOLED, CHOOSING_SPLIT)
    return is_there and run.arm.method == "prefix" and run.arm.recipe_name in FINALISTS


def is_pooled(arm: Arm) -> bool:
    """Whether an arm is the same on every split."""
    return arm.recipe.members in (Members.NOBODY, Members.ALL_ROWS)


def _seeds_of(run: Run, seeds: Sequence[int]) -> Group:
    """The cell's runs; nothing is random where nobody trains."""
    wanted = seeds[:1] if run.arm.recipe.members is Members.NOBODY else seeds
    return Group(tuple(Run(run.base, run.task, run.arm, run.split, seed) for seed in wanted))


def _refusal(arm: Arm) -> str:
    """Why the platform does not take an arm's specification; empty where it does."""
    if arm.method not in METHODS:
        return "there is no such method"
    try:
        for candidate in arm.candidates():
            arm.specification(next(iter(TASKS.values())), candidate, n_steps=N_STEPS, seed=0)
    except SpecificationInvalid as refusal:
        return str(refusal)
    return ""
