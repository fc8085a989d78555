"""What is compared: recipes by which one method is trained, each as sections of a federation's specification.

All take the same number of local steps on batches of the same size, but for the control that says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from federation.specification import FederationSpecification, parse_specification
from training_workers.benchmark.partition import N_TENANTS
from training_workers.benchmark.texts import TaskDefinition

N_STEPS = 60
BATCH_SIZE = 8

Sections = Mapping[str, Any]


class Members(StrEnum):
    """Who trains one state together."""

    NOBODY = "nobody"
    EACH_ALONE = "each alone"
    ALL_ROWS = "all rows"
    ALL_TENANTS = "all tenants"


@dataclass(frozen=True)
class Recipe:
    """Rounds, members, and what its specification has beyond the defaults.

    The validation rows choose the learning rate, among the same ones for all: for the recipe itself, or for the one
    named in `rate_of`. They choose among `candidates` instead where a recipe has several.
    """

    members: Members
    n_rounds: int
    sections: Sections = field(default_factory=dict)
    candidates: tuple[Sections, ...] = ({},)
    rate_of: str | None = None
    batch_size: int = BATCH_SIZE
    about: str = ""
    # By which tenants make the shared version their own at the end, where labels are skewed.
    personal_rules: tuple[str, ...] = ()


CENTRAL = "central"
BASE = "base"
SHORT, LONG = "short", "long"
ADAM_RATES = (0.02, 0.06, 0.12)  # of the server
PERSONAL_RULES = ("prior", "fine-tuned", "ditto", "personal-values")
HEAVY_SKEW: Sections = {
    "training": {"optimizer": "sgd", "learning_rate": 1.0},
    "aggregation": {
        "server": {"kind": "fedadam", "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-6},
        "average_decay": 0.8,
    },
}


def _short(about: str, **sections: Sections) -> Recipe:
    return Recipe(Members.ALL_TENANTS, n_rounds=30, sections=sections, rate_of=SHORT, about=about)


def _fed_back(dtype: str) -> Recipe:
    return _short(
        f"short, updates in {dtype} with error feedback", upload={"dtype": dtype, "error_feedback": True}
    )


def _server_rate(rate: float) -> Sections:
    return {"aggregation": {"server": {"learning_rate": rate}}}


RECIPES: Mapping[str, Recipe] = {
    BASE: Recipe(Members.NOBODY, n_rounds=0, about="the base model without anything"),
    CENTRAL: Recipe(
        Members.ALL_ROWS,
        n_rounds=5,
        about="all rows in one hand, as many steps one by one",
    ),
    "central-4x": Recipe(
        Members.ALL_ROWS,
        n_rounds=5,
        batch_size=4 * BATCH_SIZE,
        rate_of=CENTRAL,
        about="all rows in one hand, batches of 32",
    ),
    "local": Recipe(Members.EACH_ALONE, n_rounds=5, rate_of=CENTRAL, about="each tenant alone with its rows"),
    LONG: Recipe(Members.ALL_TENANTS, n_rounds=5, about="FedAvg, 5 rounds of 12 steps"),
    SHORT: Recipe(
        Members.ALL_TENANTS, n_rounds=30, about="FedAvg, 30 rounds of 2 steps", personal_rules=PERSONAL_RULES
    ),
    "heavy-skew": Recipe(
        Members.ALL_TENANTS,
        n_rounds=30,
        sections=HEAVY_SKEW,
        candidates=tuple(_server_rate(rate) for rate in ADAM_RATES),
        about="30 rounds of 2 SGD steps, server Adam, average of past versions",
        personal_rules=("prior",),
    ),
    "heavy-skew-int4": Recipe(
        Members.ALL_TENANTS,
        n_rounds=30,
        sections={**HEAVY_SKEW, "upload": {"dtype": "int4"}},
        candidates=tuple(_server_rate(rate) for rate in ADAM_RATES),
        about="heavy-skew, updates in int4",
    ),
    "short-float16": _short("short, updates in float16", upload={"dtype": "float16"}),
    "short-int8": _short("short, updates in int8", upload={"dtype": "int8"}),
    "short-int4": _short("short, updates in int4", upload={"dtype": "int4"}),
    "short-float16-feedback": _fed_back("float16"),
    "short-int8-feedback": _fed_back("int8"),
    "short-int4-feedback": _fed_back("int4"),
    "short-int8-both": _short(
        "short, updates and what tenants train from in int8",
        upload={"dtype": "int8"},
        broadcast={"dtype": "int8"},
    ),
    "long-calibrated": Recipe(
        Members.ALL_TENANTS,
        n_rounds=5,
        rate_of=LONG,
        sections={"training": {"calibrate_labels": True}},
        about="long, the training loss calibrated by the tenant's label counts",
    ),
    "long-proximal": Recipe(
        Members.ALL_TENANTS,
        n_rounds=5,
        rate_of=LONG,
        sections={"training": {"proximal": 0.01}},
        about="long, with FedProx's term at 0.01",
    ),
    "short-median": _short("short, coordinate median", aggregation={"rule": {"kind": "median"}}),
}

METHOD_SECTIONS: Mapping[str, Sections] = {
    "prefix": {"n_virtual_tokens": 16},
    "lora": {"rank": 8},
    "prompt": {"n_virtual_tokens": 16},
}
STARTED_FROM_TEXT = ("prefix", "prompt")
RATES: Mapping[str, tuple[float, ...]] = {
    "prefix": (1e-3, 3e-3, 1e-2, 3e-2, 5e-2),
    "lora": (5e-4, 2e-3, 8e-3),
    "prompt": (1e-3, 3e-3, 1e-2),
    "full": (2e-5, 1e-4, 5e-4),
}
DEFAULT_RATES = (1e-3, 5e-3)


@dataclass(frozen=True)
class Arm:
    """A method by a recipe."""

    method: str
    recipe_name: str

    @property
    def name(self) -> str:
        """As in the tables."""
        return self.recipe_name if self.recipe_name == BASE else f"{self.method}/{self.recipe_name}"

    @property
    def recipe(self) -> Recipe:
        """Its recipe."""
        return RECIPES[self.recipe_name]

    def candidates(self) -> list[Sections]:
        """The settings among which validation chooses; one alone is no choice."""
        if self._has_candidates or self.recipe.rate_of is not None:
            return list(self.recipe.candidates)
        rates = RATES.get(self.method, DEFAULT_RATES)
        return [{"training": {"learning_rate": rate}} for rate in rates]

    def chosen_by(self) -> "Arm | None":
        """The arm whose runs choose this one's settings; None where there is nothing to choose."""
        if self.recipe.members is Members.NOBODY:
            return None
        if self._has_candidates or self.recipe.rate_of is None:
            return self
        return Arm(self.method, self.recipe.rate_of)

    @property
    def _has_candidates(self) -> bool:
        return len(self.recipe.candidates) > 1

    def specification(
        self, task: TaskDefinition, chosen: Sections, *, n_steps: int, seed: int
    ) -> FederationSpecification:
        """The federation's specification, checked as one that a user sends.

        Raises:
            SpecificationInvalid: the platform refuses it.
        """
        recipe = self.recipe
        sections: dict[str, Any] = {
            "method": _method_section(self.method, task),
            "task": dict(task.section),
            "training": {
                "n_steps": max(1, n_steps // max(1, recipe.n_rounds)),
                "batch_size": recipe.batch_size,
                "seed": seed,
            },
            "round": {"quorum": N_TENANTS if recipe.members is Members.ALL_TENANTS else 1},
        }
        return parse_specification(merged(merged(sections, recipe.sections), chosen))


def merged(under: Sections, over: Sections) -> dict[str, Any]:
    """Both mappings as one, section by section; where both have a value it is that of `over`."""
    both = dict(under)
    for name, value in over.items():
        known = both.get(name)
        both[name] = (
            merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
        )
    return both


def _method_section(method: str, task: TaskDefinition) -> dict[str, Any]:
    start = {"start_text": task.start_text} if method in STARTED_FROM_TEXT else {}
    return {"kind": method, **METHOD_SECTIONS.get(method, {}), **start}
