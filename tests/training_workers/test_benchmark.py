"""The benchmark of learning: whole and broken runs, going on after a stop, splits, choices and figures."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from hypothesis import given
from hypothesis import strategies as st

from federation.specification import DITTO_PROXIMAL, FederationSpecification
from tests.training_workers.tiny_model import make_tiny_base
from training_workers.benchmark import report
from training_workers.benchmark.arms import PERSONAL_RULES, RECIPES, Arm, Members, Recipe, merged
from training_workers.benchmark.bench import Bench
from training_workers.benchmark.coordinator import Coordinator
from training_workers.benchmark.engine import run_arm, train_together
from training_workers.benchmark.partition import MIN_ROWS, N_TENANTS, SPLITS, partition, pooled, splits_of
from training_workers.benchmark.personal import make_personal
from training_workers.benchmark.plan import BASES, POOLED, QUICK, Choices, Plan, Run, Scale, make_plan
from training_workers.benchmark.processes import Broken, Finished, Job, Processes
from training_workers.benchmark.results import Results
from training_workers.benchmark.schedule import Schedule
from training_workers.benchmark.summary import make_lines
from training_workers.benchmark.texts import TASKS, Texts, count, read_texts
from training_workers.benchmark.workplace import Workplace
from training_workers.errors import BenchmarkFilesMissing, SplitImpossible
from training_workers.examples import input_hash, is_held_out
from training_workers.loading import BaseModel
from training_workers.methods import METHODS, get_method
from training_workers.states import send, to_bytes

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


@pytest.fixture(scope="session")
def texts_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The texts of one task."""
    return write_texts(tmp_path_factory.mktemp("benchmark") / "texts")


@pytest.fixture(scope="session")
def bases_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers in the place of SmolLM2."""
    directory = tmp_path_factory.mktemp("benchmark") / "bases"
    make_tiny_base(directory / BASES["smollm2"])
    return directory


@pytest.fixture
def texts(texts_directory: Path) -> Texts:
    """The task's rows."""
    return read_texts(texts_directory / "sentiment", n_train=400, n_validation=16, n_test=16)


@pytest.fixture
def place(texts_directory: Path, bases_directory: Path) -> Workplace:
    """Texts and base, and small runs."""
    return Workplace(texts_directory, bases_directory, TINY)


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


# Rows and splits


def test_the_three_sides_are_apart_and_the_platform_would_train_on_no_test_row(texts: Texts) -> None:
    sides = [
        {input_hash(row.example) for row in texts.train},
        {input_hash(row) for rows in texts.validation.values() for row in rows},
        {input_hash(row) for rows in texts.test.values() for row in rows},
    ]

    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert all(is_held_out(hashed) for hashed in sides[2])
    assert not any(is_held_out(hashed) for hashed in sides[0] | sides[1])
    assert count(texts.validation) == count(texts.test) == 16
    assert len(texts.validation) == 8


def test_texts_that_are_not_there_are_refused_with_what_brings_them(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFilesMissing, match=r"deploy\.demo\.materials"):
        read_texts(tmp_path / "none", n_train=None, n_validation=1, n_test=1)


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_is_with_one_tenant_and_the_same_seed_gives_the_same_tenants(
    texts: Texts, split: str
) -> None:
    tenants = partition(texts, split, seed=3)

    rows = Counter(row.example.text for tenant in tenants for row in tenant.rows)
    assert rows == Counter(row.example.text for row in texts.train)
    assert len(tenants) == N_TENANTS
    assert min(tenant.n_train for tenant in tenants) >= MIN_ROWS
    assert partition(texts, split, seed=3) == tenants
    assert partition(texts, split, seed=4) != tenants
    assert all(sum(tenant.shares.values()) == pytest.approx(1) for tenant in tenants)


def test_a_natural_tenant_has_its_domain_alone_and_needs_one(texts: Texts) -> None:
    tenants = partition(texts, "natural", seed=0)

    assert [{row.domain for row in tenant.rows} for tenant in tenants] == [{domain} for domain in DOMAINS]
    one_domain = Texts(("bbc",), texts.train, texts.validation, texts.test, texts.sha256)
    assert "natural" not in splits_of(one_domain)
    with pytest.raises(SplitImpossible, match="4 domains"):
        partition(one_domain, "natural", seed=0)


def test_a_small_alpha_skews_the_labels(texts: Texts) -> None:
    def skew(split: str) -> float:
        tenants = [tenant for seed in range(20) for tenant in partition(texts, split, seed=seed)]
        return sum(max(tenant.label_counts.values()) / tenant.n_train for tenant in tenants) / len(tenants)

    assert skew("identical") < skew("dirichlet-10") < skew("dirichlet-1") < skew("dirichlet-0.1")
    assert skew("dirichlet-0.1") > 0.8


# Arms and the plan


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers())
    )
)
def test_merging_keeps_what_is_not_named_and_takes_what_is(over: dict[str, Any]) -> None:
    under: dict[str, Any] = {"a": {"x": 1, "y": 2}, "d": 3}
    both = merged(under, over)

    assert both["d"] == 3
    assert merged(both, over) == both
    if isinstance(over.get("a"), dict):
        assert both["a"] == {"x": 1, "y": 2, **over["a"]}


def test_all_recipes_take_the_same_number_of_steps() -> None:
    for name, recipe in RECIPES.items():
        arm = Arm("prefix", name)
        if recipe.n_rounds and not recipe.sections:
            training = arm.specification(TASKS["sentiment"], {}, n_steps=60, seed=0).training
            assert training.n_steps * recipe.n_rounds == 60


def test_what_the_platform_refuses_is_told_and_not_run(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    impossible = Recipe(Members.ALL_TENANTS, n_rounds=1, sections={"training": {"batch_size": 0}})
    monkeypatch.setitem(RECIPES, "long", impossible)
    plan = plan_of(place, "long", "short")

    assert "batch_size" in plan.left_out["prefix/long"]
    assert {group.first.arm.recipe_name for group in plan.groups} == {"short"}


def test_what_needs_settings_waits_until_all_candidates_are_through(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "short"), place, results)
    candidates = [planned.next_job() for _ in Arm("prefix", "short").candidates()]

    assert all(job is not None and job.run.candidate is not None for job in candidates)
    assert planned.next_job() is None
    for job in candidates:
        assert job is not None
        planned.end(job.run, reason="loss_not_finite: no")
    assert planned.next_job() is None  # nothing could be chosen


def test_settings_are_chosen_before_they_are_needed_and_each_comparison_stands_together(
    place: Workplace,
) -> None:
    plan = plan_of(place, "base", "central", "short")

    assert [(group.first.arm.recipe_name, group.first.candidate) for group in plan.groups] == [
        ("base", None),
        ("central", 0),
        ("central", None),
        ("short", 0),
        ("short", None),
    ]
    assert [run.seed for run in plan.groups[-1].runs] == [0, 1, 2]
    assert [run.seed for run in plan.groups[0].runs] == [0]
    assert {group.first.split for group in plan.groups[:3]} == {POOLED}


def test_the_settings_that_did_best_on_validation_are_taken(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "short"), place, results)
    for validation in (0.6, 0.9, 0.7):
        job = planned.next_job()
        assert job is not None
        assert job.run.candidate is not None
        results.append(record(job.run, job, validation=validation))
    later = Schedule(plan_of(place, "short"), place, results).next_job()

    assert later is not None
    assert later.run.candidate is None
    assert later.chosen == Arm("prefix", "short").candidates()[1]
    assert place.key(later.run, later.chosen) == later.key


def test_every_recipe_chooses_its_rate_or_takes_that_of_one_that_does() -> None:
    chosen_by = {name: Arm("prefix", name).chosen_by() for name in RECIPES}

    assert chosen_by.pop("base") is None
    choosers = {name for name, chooser in chosen_by.items() if chooser == Arm("prefix", name)}
    assert choosers == {"central", "short", "long", "heavy-skew", "heavy-skew-int4"}
    assert all(chooser is not None and chooser.recipe_name in choosers for chooser in chosen_by.values())
    rates = [Arm("prefix", name).candidates() for name in ("central", "short", "long")]
    assert rates[0] == rates[1] == rates[2]
    assert len(rates[0]) == 3


# Finished, broken and cut off


def test_a_line_that_a_crash_cut_off_counts_as_no_run(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    Results(file).append({"key": "one"})
    with file.open("ab") as content:
        content.write(b'{"key": "tw')

    Results(file).append({"key": "three"})
    again = Results(file)
    assert [again.get(key) is not None for key in ("one", "two", "three")] == [True, False, True]


def test_a_broken_run_is_told_and_its_comparison_is_not_shown(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "central", "short", "long"), place, results)
    while (job := planned.next_job()) is not None:
        if job.run.arm.recipe_name == "long" and job.run.seed == 1:
            planned.end(job.run, reason="loss_not_finite: no")
            continue
        results.append(record(job.run, job))
        planned.end(job.run)

    lines = make_lines(planned, place)
    assert {line.arm for line in lines} == {"prefix/central", "prefix/short"}
    page = report.make_page(planned, lines, report.Circumstances("benchmark", TINY, False, {}, []))
    assert "seed 1 broke: loss_not_finite" in page


def test_figures_stand_beside_the_twin_of_the_same_seed(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "base", "central", "short"), place, results)
    finish_all(planned, results, {"central": 0.9, "short": 0.88, "base": 0.5})

    lines = {line.arm: line for line in make_lines(planned, place)}
    short, costs = lines["prefix/short"], lines["prefix/short"].costs
    assert short.score.mean == pytest.approx(88)
    assert short.gap is not None
    assert short.gap.mean == pytest.approx(2)
    assert short.gap.deviation == pytest.approx(0)
    assert short.rounds_to_share is not None
    assert short.rounds_to_share.mean == 20
    assert costs is not None
    assert costs.up_bytes == pytest.approx(400 / 30)
    assert (costs.teraflops, costs.seconds) == (3, 2)
    assert lines["base"].n_seeds == 3
    page = report.make_page(planned, list(lines.values()), report.Circumstances("it", TINY, False, {}, []))
    assert "| smollm2, sentiment, dirichlet-0.5 | prefix/short | 2.0 ± 0.0 | 1 | no |" in page


def test_no_comparison_is_begun_that_would_not_be_whole_in_time(place: Workplace, tmp_path: Path) -> None:
    now = 0.0
    results = Results(tmp_path / "results.jsonl")
    plan = plan_of(place, "base", "central", "short", "long")
    planned = Schedule(plan, place, results, limit_seconds=100.0, clock=lambda: now)
    ended: list[Run] = []
    while (job := planned.next_job()) is not None:
        now += 12.0
        results.append(record(job.run, job))
        planned.end(job.run)
        ended.append(job.run)

    recipes = Counter(run.arm.recipe_name for run in ended if run.candidate is None)
    assert planned.put_off
    assert set(recipes.values()) <= {1, 3}
    assert recipes["long"] == 0


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


def test_personal_rules_stand_beside_the_version_that_they_grew_from(
    place: Workplace, tmp_path: Path
) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "central", "short"), place, results)
    while (job := planned.next_job()) is not None:
        made = record(job.run, job, test=0.8)
        own = [made["result"]["models"][0]] * N_TENANTS
        made["result"]["personal"] = dict.fromkeys(job.run.personal_rules, own)
        results.append(made)
        planned.end(job.run)

    lines = {line.arm: line for line in make_lines(planned, place)}
    arms = [f"prefix/short + {name}" for name in PERSONAL_RULES]
    assert [(lines[arm].score.mean, lines[arm].worst.mean) for arm in arms] == [pytest.approx((80, 80))] * 4
    page = report.make_page(planned, list(lines.values()), report.Circumstances("it", TINY, False, {}, []))
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

    def accept(self: Coordinator, update: Path, version: Path, tenant: str, number: int) -> bool:
        return tenant != rejected and accepts(self, update, version, tenant, number)

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


def results_of(output: Path) -> list[dict[str, Any]]:
    """The finished runs of a results file that may not be there yet."""
    file = output / "learning.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what differs from run to run."""
    spent = [{**one, "seconds": 0} for one in result.get("spent", [])]
    return {**result, "seconds": 0, "spent": spent}


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
    assert 2 <= len(before) < 6
    assert not (tmp_path / "learning.md").exists()

    call_command(*command)

    after = results_of(tmp_path)
    assert after[: len(before)] == before
    assert len({one["key"] for one in after}) == len(after) == 6
    quick = replace(place, scale=QUICK)
    for one in after:
        run = Run(
            "smollm2", "sentiment", Arm("prefix", one["recipe"]), one["split"], one["seed"], one["candidate"]
        )
        again = json.loads(json.dumps(quick.do(run, one["settings"], lambda _text: None)))
        assert timeless(again) == timeless(one["result"])
    page = (tmp_path / "learning.md").read_text(encoding="utf-8")
    assert "6 of 6 runs are finished" in page
    assert "`prefix/local`" in page
    assert str(place.texts_directory.parent) not in page
    assert (tmp_path / "learning-splits.png").stat().st_size > 10_000


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="benchmark_files_missing"):
        call_command("benchmark", "--texts", str(tmp_path), "--processes", "1")
