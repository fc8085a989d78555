"""Texts, plans and finished runs for the benchmark's tests."""

import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training_workers.benchmark.arms import Sections
from training_workers.benchmark.partition import splits_of
from training_workers.benchmark.plan import Choices, Plan, Run, Scale, make_plan
from training_workers.benchmark.processes import Job
from training_workers.benchmark.results import Results
from training_workers.benchmark.schedule import Schedule
from training_workers.benchmark.workplace import Workplace

DOMAINS = ("movies", "newspaper", "shop", "tweets")
TINY = Scale(n_steps=4, n_train=400, n_validation=16, n_test=16)


def write_texts(directory: Path, *, n: int = 240) -> Path:
    """Sentiment in four domains: the first word tells the label."""
    generator = random.Random(0)
    (directory / "sentiment").mkdir(parents=True)
    for domain in DOMAINS:
        rows = []
        for number in range(n):
            word, label = (("good", "positive"), ("bad", "negative"))[number % 2]
            tail = " ".join(generator.choices(["film", "food", "story", "world"], k=4))
            rows.append(json.dumps({"text": f"{word} {domain} {number} {tail}", "label": label}))
        (directory / "sentiment" / f"{domain}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return directory


def plan_of(
    place: Workplace, *recipes: str, splits: tuple[str, ...] = ("dirichlet-0.5",), **more: Any
) -> Plan:
    """The plan for prefixes on the tiny base."""
    choices = Choices(
        bases=("smollm2",), tasks=("sentiment",), methods=("prefix",), recipes=recipes, splits=splits, **more
    )
    return make_plan(choices, {"sentiment": splits_of(place.texts("sentiment"))})


def record(run: Run, job: Job, *, validation: float = 0.5, test: float = 0.5) -> dict[str, Any]:
    """A finished run as the results file has it."""
    spent = [
        {
            "tenant": "one",
            "n_train": 100,
            "n_tokens": 9,
            "seconds": 2.0,
            "flops": 3e12,
            "up_bytes": 400,
            "down_bytes": 800,
        }
    ]
    strata = {f"{domain}/{label}": test for domain in DOMAINS for label in ("positive", "negative")}
    result = {
        "models": [strata],
        "curves": [[[0, 0.1], [10, 0.5], [20, validation]]],
        "best_rounds": [20],
        "validation": [validation],
        "spent": spent,
        "n_trained": 7,
        "n_rejected": 0,
        "seconds": 1.0,
    }
    return {
        "key": job.key,
        "seed": run.seed,
        "candidate": run.candidate,
        "settings": job.chosen,
        "result": result,
    }


def finish_all(
    planned: Schedule, results: Results, scores: Mapping[str, float], *, default: float = 0.5
) -> list[Run]:
    """Finishes every run with the score of its recipe, and returns them in the order they were given."""
    given_runs = []
    while (job := planned.next_job()) is not None:
        score = scores.get(job.run.arm.recipe_name, default)
        results.append(record(job.run, job, validation=score, test=score))
        planned.end(job.run)
        given_runs.append(job.run)
    return given_runs


def results_of(output: Path) -> list[dict[str, Any]]:
    """The finished runs of a results file that may not be there yet."""
    file = output / "learning.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs from run to run."""
    spent = [{**one, "seconds": 0} for one in result.get("spent", [])]
    return {**result, "seconds": 0, "spent": spent}


class SlowPlace(Workplace):
    """A run here makes a temporary directory in that of the texts, says so, and never ends."""

    def do(self, run: Run, chosen: Sections, note: Callable[[str], None]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self.texts_directory):
            note("made")
            while True:
                time.sleep(0.1)
