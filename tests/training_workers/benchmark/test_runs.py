"""Runs on a tiny base, and going on after a stop."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from federation.aggregation.updates import Parent
from federation.specification import DITTO_PROXIMAL, FederationSpecification
from tests.training_workers.benchmark.made import (
    TINY,
    SlowPlace,
    plan_of,
    record,
    results_of,
    timeless,
)
from training_workers.benchmark import report
from training_workers.benchmark.arms import PERSONAL_RULES, RECIPES, Arm, Members, Recipe
from training_workers.benchmark.bench import Bench
from training_workers.benchmark.coordinator import Coordinator
from training_workers.benchmark.engine import run_arm, train_together
from training_workers.benchmark.partition import N_TENANTS, partition, pooled
from training_workers.benchmark.personal import make_personal
from training_workers.benchmark.plan import POOLED, QUICK, Run
from training_workers.benchmark.processes import Broken, Finished, Job, Processes
from training_workers.benchmark.results import Results, sole_writer
from training_workers.benchmark.running import do_plan
from training_workers.benchmark.schedule import Schedule
from training_workers.benchmark.summary import make_lines
from training_workers.benchmark.texts import TASKS, Texts
from training_workers.benchmark.workplace import Workplace
from training_workers.loading import BaseModel
from training_workers.methods import METHODS, get_method
from training_workers.states import send, to_bytes

# Real runs on a tiny base


def test_a_run_uses_the_platforms_updates_and_counts_their_bytes(tiny_base: BaseModel, texts: Texts) -> None:
    arm = Arm("prefix", "short")
    specification = arm.specification(TASKS["sentiment"], {}, n_steps=2, seed=0)
    recipe = Recipe(Members.ALL_TENANTS, n_rounds=2)
    tenants = partition(texts, "dirichlet-0.5", seed=0)
    bench = Bench(tiny_base, texts)

    result = run_arm(bench, recipe, specification, tenants, personal_rules=PERSONAL_RULES)
    again = run_arm(bench, recipe, specification, tenants, personal_rules=PERSONAL_RULES)

    assert timeless(result) == timeless(again)
    size = 16 * 2 * 2 * tiny_base.facts.token_size * 4
    assert result["n_trained"] == size // 4
    assert all(2 * size < spent["up_bytes"] < 2 * (size + 1_000) for spent in result["spent"])
    assert all(spent["flops"] > 0 for spent in result["spent"])
    assert result["n_rejected"] == 0
    assert [number for number, _ in result["curves"][0]] == [0, 1, 2]
    assert [set(own) for own in result["personal"]["prior"]] == [set(tenant.shares) for tenant in tenants]


def test_each_rule_of_personal_prefixes_grows_from_the_very_version_that_short_has(
    tiny_base: BaseModel, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = Arm("prefix", "short")
    settings = {"training": {"learning_rate": 0.02, "calibrate_labels": True}}
    specification = arm.specification(TASKS["sentiment"], settings, n_steps=2, seed=0)
    recipe, tenants = Recipe(Members.ALL_TENANTS, n_rounds=2), partition(texts, "dirichlet-0.5", seed=0)
    bench, train = Bench(tiny_base, texts), Bench.train
    trained: list[tuple[float, bool, int, bool, float]] = []

    def note_and_train(
        self: Bench, method: Any, parent: Any, member: Any, rules: FederationSpecification, *, number: int
    ) -> Any:
        if number == 0:  # no round
            own = rules.training
            told = (own.proximal, method.freezes_keys, own.n_steps, own.calibrate_labels, rules.learning_rate)
            trained.append(told)
        return train(self, method, parent, member, rules, number=number)

    monkeypatch.setattr(Bench, "train", note_and_train)
    result = run_arm(bench, recipe, specification, tenants, personal_rules=arm.recipe.personal_rules)

    a_tenants = [
        (0.0, False, 12, False, 0.02),
        (DITTO_PROXIMAL, False, 12, False, 0.02),
        (0.0, True, 12, False, 0.02),
    ]
    assert trained == a_tenants * len(tenants)
    assert list(result["personal"]) == ["prior", "fine-tuned", "ditto", "personal-values"]
    assert run_arm(bench, recipe, specification, tenants)["models"] == result["models"]


def test_what_a_tenant_grew_is_left_where_its_validation_rows_speak_against_it(
    tiny_base: BaseModel, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    specification = Arm("prefix", "short").specification(TASKS["sentiment"], {}, n_steps=2, seed=0)
    tenants, bench = partition(texts, "identical", seed=0), Bench(tiny_base, texts)
    method = get_method(specification.method)
    shared = to_bytes(method.start(tiny_base, seed=0), {})
    score, speaks_against = Bench.score, True

    def judge(self: Bench, rules: Any, state: bytes, strata: Any, **more: Any) -> dict[str, float]:
        if strata.keys() and next(iter(strata.values()))[0] in validation:
            return dict.fromkeys(strata, float((state == shared) is speaks_against))
        tested.append(state)
        return score(self, rules, state, strata, **more)

    validation = [row for rows in texts.validation.values() for row in rows]
    monkeypatch.setattr(Bench, "score", judge)
    for speaks_against in (True, False):
        tested: list[bytes] = []
        make_personal(bench, specification, tenants[:1], shared, ["ditto"], lambda _text: None)
        assert [state == shared for state in tested] == [speaks_against]


def test_a_run_that_makes_versions_personal_is_another_run(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(split: str) -> str:
        return place.key(Run("smollm2", "sentiment", Arm("prefix", "short"), split, 0), {})

    skewed, identical = key("dirichlet-0.1"), key("identical")
    recipe = replace(RECIPES["short"], personal_rules=())
    monkeypatch.setattr("training_workers.benchmark.arms.RECIPES", {**RECIPES, "short": recipe})
    assert key("dirichlet-0.1") != skewed
    assert key("identical") == identical  # where nothing is made personal


def test_the_prior_stands_wherever_labels_are_skewed_and_what_trains_for_the_hardest_case() -> None:
    def rules(method: str, recipe: str, split: str) -> tuple[str, ...]:
        return Run("minilm", "topics", Arm(method, recipe), split, 0).personal_rules

    assert rules("prefix", "short", "dirichlet-0.1") == PERSONAL_RULES
    assert rules("prefix", "short", "dirichlet-1") == ("prior",)
    assert rules("lora", "short", "dirichlet-0.1") == ("prior",)
    assert rules("prefix", "heavy-skew", "dirichlet-0.1") == ("prior",)
    assert rules("prefix", "short", "identical") == ()
    assert rules("prefix", "long", "dirichlet-0.1") == ()


def test_personal_rules_stand_beside_the_version_that_they_grew_from(
    place: Workplace, tmp_path: Path
) -> None:
    results = Results(tmp_path / "results.jsonl")
    plan = plan_of(place, "central", "short", splits=("dirichlet-0.1",))
    planned = Schedule(plan, place, results)
    while (job := planned.next_job()) is not None:
        made = record(job.run, job, test=0.8)
        own = [made["result"]["models"][0]] * N_TENANTS
        made["result"]["personal"] = dict.fromkeys(job.run.personal_rules, own)
        results.append(made)
        planned.end(job.run)

    lines = {line.arm: line for line in make_lines(planned, place) if not line.is_fresh}
    arms = [f"prefix/short + {name}" for name in PERSONAL_RULES]
    assert [(lines[arm].score.mean, lines[arm].worst.mean) for arm in arms] == [pytest.approx((80, 80))] * 4
    page = report.make_page(planned, list(lines.values()), report.Circumstances("it", TINY, False, []))
    assert all(
        f"`+ {name}`" in page and f"`{arm}`" in page for name, arm in zip(PERSONAL_RULES, arms, strict=True)
    )


def test_smaller_uploads_and_broadcasts_are_measured_as_they_travel(
    tiny_base: BaseModel, texts: Texts
) -> None:
    tenants, bench = partition(texts, "dirichlet-0.5", seed=0), Bench(tiny_base, texts)
    recipe = Recipe(Members.ALL_TENANTS, n_rounds=2)

    def run(name: str) -> dict[str, Any]:
        specification = Arm("prefix", name).specification(TASKS["sentiment"], {}, n_steps=2, seed=0)
        return run_arm(bench, recipe, specification, tenants)

    whole, four, fed_back, both = (
        run(name) for name in ("short", "short-int4", "short-int4-feedback", "short-int8-both")
    )
    up, down = whole["spent"][0]["up_bytes"], whole["spent"][0]["down_bytes"]
    for result in (four, fed_back, both):
        assert result["n_rejected"] == 0
    assert all(spent["up_bytes"] < up / 5 for spent in (*four["spent"], *fed_back["spent"]))
    assert all(spent["down_bytes"] == down for spent in (*four["spent"], *fed_back["spent"]))
    assert all(spent["up_bytes"] < up / 3 for spent in both["spent"])
    assert all(spent["down_bytes"] < down / 3 for spent in both["spent"])


def test_only_what_an_accepted_update_left_out_is_fed_back(
    tiny_base: BaseModel, texts: Texts, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = partition(texts, "identical", seed=0)
    specification = Arm("prefix", "short-int4-feedback").specification(
        TASKS["sentiment"], {}, n_steps=2, seed=0
    )
    rejected, fed_back = tenants[0].name, []
    accepts = Coordinator._accepts

    def accept(self: Coordinator, update: Path, parent: Parent, tenant: str, number: int) -> bool:
        return tenant != rejected and accepts(self, update, parent, tenant, number)

    def note_and_send(*sent: Any, residual: Any) -> Any:
        fed_back.append(residual is not None)
        return send(*sent, residual=residual)

    monkeypatch.setattr(Coordinator, "_accepts", accept)
    monkeypatch.setattr("training_workers.benchmark.engine.send", note_and_send)
    trained = train_together(Bench(tiny_base, texts), specification, tenants, 2)

    assert trained.n_rejected == 2
    assert fed_back == [*[False] * len(tenants), False, *[True] * (len(tenants) - 1)]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_platform_is_measured_by_its_name(
    name: str, any_base: BaseModel, texts: Texts
) -> None:
    arm = Arm(name, "long")
    settings = Arm(name, "central").candidates()[0]
    specification = arm.specification(TASKS["sentiment"], settings, n_steps=5, seed=0)

    recipe = Recipe(Members.ALL_TENANTS, n_rounds=1)
    result = run_arm(Bench(any_base, texts), recipe, specification, partition(texts, "identical", seed=0))

    assert result["n_rejected"] == 0
    assert result["n_trained"] > 0
    assert len(result["curves"][0]) == 2


def test_tenants_alone_have_a_model_each_and_the_twin_has_one(tiny_base: BaseModel, texts: Texts) -> None:
    bench = Bench(tiny_base, texts)
    tenants = partition(texts, "identical", seed=0)
    specification = Arm("prefix", "local").specification(TASKS["sentiment"], {}, n_steps=5, seed=0)

    alone = run_arm(bench, Recipe(Members.EACH_ALONE, n_rounds=1), specification, tenants)
    twin = run_arm(bench, Recipe(Members.ALL_ROWS, n_rounds=1), specification, [pooled(texts)])
    nobody = run_arm(bench, RECIPES["base"], specification, [pooled(texts)])

    assert [len(one["models"]) for one in (alone, twin, nobody)] == [4, 1, 1]
    assert set(nobody["models"][0]) == set(texts.test)


def test_a_process_that_dies_breaks_its_run_and_another_takes_its_place(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRELUDE_TRAINING_THREADS", "1")
    run = Run("smollm2", "sentiment", Arm("prefix", "base"), POOLED, 0)
    job = Job(run, {}, "key")
    with Processes(place, 1) as processes:
        os.kill(processes._processes[0]._process.pid or 0, signal.SIGKILL)
        processes._processes[0].job = job
        first = list(processes.messages())
        processes.give(job)
        second = next(message for message in iter(lambda: next(processes.messages()), None))

    assert isinstance(first[0], Broken)
    assert "exit code -9" in first[0].reason
    assert isinstance(second, Finished)


def test_a_run_that_is_stopped_leaves_no_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRELUDE_TRAINING_THREADS", "1")
    run = Run("smollm2", "sentiment", Arm("prefix", "base"), POOLED, 0)
    with Processes(SlowPlace(tmp_path, tmp_path, TINY), 1) as processes:
        processes.give(Job(run, {}, "key"))
        next(iter(processes.messages()))
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


class RefusingProcesses:
    """Refuses the first run that it is given; the process of any other one dies."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._n_given = 0

    @property
    def is_any_free(self) -> bool:
        return not self.jobs

    def give(self, job: Job) -> None:
        self.jobs.append(job)
        self._n_given += 1

    def messages(self) -> list[Broken]:
        return [Broken(self.jobs.pop(), "nothing_to_aggregate: none", is_refusal=self._n_given == 1)]


def test_a_refusal_is_on_record_and_a_process_that_died_is_not(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "central"), place, results)
    watcher = mock.Mock()
    do_plan(planned, cast("Processes", RefusingProcesses()), results, watcher)

    kept = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(one["candidate"], one["refused"]) for one in kept] == [(0, "nothing_to_aggregate: none")]
    assert len(planned.broken_now) == watcher.note.call_count == len(planned.plan.groups[0].runs)
    assert Schedule(planned.plan, place, results).broken_now == {}


def test_a_killed_benchmark_goes_on_and_comes_to_the_same_results(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRELUDE_TRAINING_THREADS", "1")
    what = ["--bases", "smollm2", "--tasks", "sentiment", "--methods", "prefix", "--seeds", "0"]
    what += ["--recipes", "base", "central", "local", "--splits", "identical", "--processes", "1"]
    places = ["--texts", str(place.texts_directory), "--base-models", str(place.bases_directory)]
    command = ["benchmark", "--quick", *what, *places, "--output", str(tmp_path)]
    program = ["deploy/scripts/with_settings.sh", sys.executable, "manage.py"]
    started = subprocess.Popen([*program, *command])
    deadline = time.monotonic() + 240
    while len(results_of(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    started.kill()
    started.wait()
    before = results_of(tmp_path)
    assert 2 <= len(before) < 8
    assert not (tmp_path / "learning.md").exists()

    call_command(*command)

    after = results_of(tmp_path)
    assert after[: len(before)] == before
    assert len({one["key"] for one in after}) == len(after) == 8
    quick = replace(place, scale=QUICK)
    for one in after:
        run = Run(
            "smollm2", "sentiment", Arm("prefix", one["recipe"]), one["split"], one["seed"], one["candidate"]
        )
        again = json.loads(json.dumps(quick.do(run, one["settings"], lambda _text: None)))
        assert timeless(again) == timeless(one["result"])
        assert quick.runtime("smollm2").items() <= one["machine"].items()
    page = (tmp_path / "learning.md").read_text(encoding="utf-8")
    assert "8 of 8 runs are finished" in page
    assert "`prefix/local`" in page
    assert str(place.texts_directory.parent) not in page
    assert (tmp_path / "learning-splits.png").stat().st_size > 10_000


def test_of_two_benchmarks_with_the_same_results_one_is_refused(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRELUDE_TRAINING_THREADS", "1")
    command = ["benchmark", "--quick", "--bases", "smollm2", "--tasks", "sentiment", "--recipes", "base"]
    command += ["--texts", str(place.texts_directory), "--base-models", str(place.bases_directory)]
    command += ["--processes", "1", "--output", str(tmp_path)]
    with sole_writer(tmp_path / "learning.jsonl"):
        with pytest.raises(CommandError, match="benchmark_running"):
            call_command(*command)
        call_command(*command, "--report-only")
        assert "0 of 1 runs" in (tmp_path / "learning.md").read_text(encoding="utf-8")
    call_command(*command)
    assert len(results_of(tmp_path)) == 1


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="benchmark_files_missing"):
        call_command("benchmark", "--texts", str(tmp_path), "--processes", "1")


@pytest.mark.parametrize(
    "words",
    [("--seeds", "1000"), ("--seeds", "-1"), ("--seeds", "9999999"), ("--hours", "0"), ("--processes", "0")],
)
def test_numbers_that_would_mean_something_else_are_refused(tmp_path: Path, words: tuple[str, str]) -> None:
    with pytest.raises(CommandError, match=f"{words[0]}: .*not {words[1]}"):
        call_command("benchmark", "--texts", str(tmp_path), *words)
