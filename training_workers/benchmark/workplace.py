"""Base models and texts where they lie, and one run made from its description."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from federation.specification import FederationSpecification
from training_workers.base_models import BaseModelFacts, inspect_directory
from training_workers.benchmark.arms import Sections
from training_workers.benchmark.bench import Bench
from training_workers.benchmark.engine import run_arm
from training_workers.benchmark.partition import Tenant, partition, pooled
from training_workers.benchmark.plan import BASES, Run, Scale, is_pooled
from training_workers.benchmark.texts import TASKS, Texts, read_texts
from training_workers.errors import BenchmarkFilesMissing
from training_workers.loading import BaseModel, load_base_model
from training_workers.runtime import choose_runtime

# Another number makes all earlier results count for nothing: raised when runs come to mean something else.
MEANING = 1
SEEDS_APART = 1_000  # a round's number is added to the seed


@dataclass(frozen=True)
class Workplace:
    """Two directories, and how large the runs are."""

    texts_directory: Path
    bases_directory: Path
    scale: Scale

    def texts(self, task: str) -> Texts:
        """A task's rows. Raises BenchmarkFilesMissing."""
        return _texts(self, task)

    def facts(self, base: str) -> BaseModelFacts:
        """What a base model's files say. Raises BenchmarkFilesMissing."""
        return _facts(self.base_directory(base))

    def base_directory(self, base: str) -> Path:
        """Where a base model lies. Raises BenchmarkFilesMissing."""
        directory = self.bases_directory / BASES[base]
        if not directory.is_dir():
            raise BenchmarkFilesMissing(path=str(directory))
        return directory

    def specification(self, run: Run, chosen: Sections) -> FederationSpecification:
        """What the run's federation agrees on."""
        return run.arm.specification(
            TASKS[run.task], chosen, n_steps=self.scale.n_steps, seed=SEEDS_APART * run.seed
        )

    def tenants(self, run: Run) -> list[Tenant]:
        """The run's tenants; one with all rows where they are in one hand."""
        if is_pooled(run.arm):
            return [pooled(self.texts(run.task))]
        return partition(self.texts(run.task), run.split, seed=run.seed)

    def key(self, run: Run, chosen: Sections) -> str:
        """The digest of all that a run's result follows from."""
        described = {
            "meaning": MEANING,
            "base": [self.facts(run.base).weights_sha256, self.facts(run.base).tokenizer_sha256],
            "texts": self.texts(run.task).sha256,
            "scale": asdict(self.scale),
            "specification": self.specification(run, chosen).as_json(),
            "members": run.arm.recipe.members,
            "n_rounds": run.arm.recipe.n_rounds,
            "split": run.split,
            "seed": run.seed,
            "personal_rules": run.personal_rules,
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def do(self, run: Run, chosen: Sections, note: Callable[[str], None]) -> dict[str, Any]:
        """The run's result, from its beginning to its end. Raises PreludeError."""
        bench = Bench(base=_loaded(self.base_directory(run.base)), texts=self.texts(run.task))
        return run_arm(
            bench,
            run.arm.recipe,
            self.specification(run, chosen),
            self.tenants(run),
            personal_rules=run.personal_rules,
            note=note,
        )

    def runtime(self, base: str) -> dict[str, str]:
        """On what and in which number format this process computes: scores depend on both, keys do not tell them."""
        runtime = _loaded(self.base_directory(base)).runtime
        return {"device": runtime.device.type, "dtype": runtime.dtype_name}


@cache
def _texts(workplace: Workplace, task: str) -> Texts:
    scale = workplace.scale
    return read_texts(
        workplace.texts_directory / task,
        n_train=scale.n_train,
        n_validation=scale.n_validation,
        n_test=scale.n_test,
    )


@cache
def _facts(directory: Path) -> BaseModelFacts:
    return inspect_directory(directory)


@cache
def _loaded(directory: Path) -> BaseModel:
    return load_base_model(directory, choose_runtime())
