"""Splits, choices and figures, and comparisons that are whole or not shown."""

import resource
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training_workers.benchmark.made import DOMAINS, TINY, finish_all, plan_of, record
from training_workers.benchmark import plots, report
from training_workers.benchmark.arms import RECIPES, Arm, Members, Recipe, merged
from training_workers.benchmark.partition import MIN_ROWS, N_TENANTS, SPLITS, partition, splits_of
from training_workers.benchmark.plan import FRESH_SEEDS, POOLED, Run
from training_workers.benchmark.results import Results
from training_workers.benchmark.schedule import Schedule
from training_workers.benchmark.summary import make_lines
from training_workers.benchmark.texts import MAX_TEXT_CHARACTERS, TASKS, Texts, count, count_alike, read_texts
from training_workers.benchmark.workplace import Workplace
from training_workers.errors import BenchmarkFilesMissing, SplitImpossible
from training_workers.examples import LabelExample, input_hash, is_held_out
from training_workers.methods import METHODS

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


def test_texts_that_a_prompt_cuts_to_the_same_are_counted_and_told(
    place: Workplace, texts: Texts, tmp_path: Path
) -> None:
    none = count_alike(texts)
    assert (none.n_validation_alike, none.n_test_alike) == (0, 0)
    opening = "x" * MAX_TEXT_CHARACTERS
    trained = replace(texts.train[0], example=LabelExample(f"{opening} one", "positive"))
    stratum, rows = next(iter(texts.test.items()))
    tested = {**texts.test, stratum: [*rows[1:], LabelExample(f"{opening} two", "positive")]}
    found = count_alike(replace(texts, train=(trained, *texts.train[1:]), test=tested))
    assert (found.n_validation_alike, found.n_test_alike) == (0, 1)

    planned = Schedule(plan_of(place, "base"), place, Results(tmp_path / "results.jsonl"))
    circumstances = report.Circumstances("it", TINY, False, [])
    assert "all that a prompt holds" not in report.make_page(planned, [], circumstances)
    page = report.make_page(planned, [], replace(circumstances, alike={"sentiment": found}))
    assert (
        f"0 of {found.n_validation} for validation and 1 of {found.n_test} to test on have the first" in page
    )


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


def test_no_arm_of_the_methods_is_refused_for_a_rate_that_is_to_be_tried() -> None:
    for method in METHODS:
        for recipe in ("central", "short", "long", "heavy-skew"):
            arm = Arm(method, recipe)
            for candidate in arm.candidates():
                arm.specification(TASKS["topics"], candidate, n_steps=60, seed=0)


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
    for validation in (0.6, 0.9, 0.7, 0.8, 0.5):
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
    assert len(rates[0]) == 5


# Finished, broken and cut off


def test_a_line_that_a_crash_cut_off_counts_as_no_run(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    Results(file).append({"key": "one"})
    with file.open("ab") as content:
        content.write(b'{"key": "tw')

    Results(file).append({"key": "three"})
    again = Results(file)
    assert [again.get(key) is not None for key in ("one", "two", "three")] == [True, False, True]


def test_a_run_that_the_disk_has_no_room_for_is_not_over(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    results = Results(file)
    results.append({"key": "one"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 5, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            results.append({"key": "two"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert results.get("two") is None
    results.append({"key": "three"})
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
    page = report.make_page(planned, lines, report.Circumstances("benchmark", TINY, False, []))
    assert "seed 1 broke: loss_not_finite" in page


def test_there_is_no_gap_to_twins_of_which_one_is_missing(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "central", "short"), place, results)
    while (job := planned.next_job()) is not None:
        if job.run.arm.recipe_name == "central" and job.run.seed == 1 and job.run.candidate is None:
            planned.end(job.run, reason="its process ended (exit code -9)")
            continue
        results.append(record(job.run, job))
        planned.end(job.run)

    [line] = make_lines(planned, place)
    assert (line.arm, line.n_seeds, line.gap) == ("prefix/short", 3, None)


def test_a_refused_candidate_is_known_later_and_the_others_are_chosen_among(
    place: Workplace, tmp_path: Path
) -> None:
    results = Results(tmp_path / "results.jsonl")
    plan = plan_of(place, "central")
    planned = Schedule(plan, place, results)
    for number, validation in enumerate((0.6, 0.9, 0.7, 0.8, None)):
        job = planned.next_job()
        assert job is not None
        if validation is None:
            made = record(job.run, job)
            del made["result"]
            results.append({**made, "refused": "update_norm_too_large: no"})
            planned.end(job.run, reason="update_norm_too_large: no")
        else:
            assert job.run.candidate == number
            results.append(record(job.run, job, validation=validation))

    later = Schedule(plan, place, Results(tmp_path / "results.jsonl"))
    job = later.next_job()
    assert job is not None
    assert (job.run.candidate, job.chosen) == (None, Arm("prefix", "central").candidates()[1])
    page = report.make_page(later, [], report.Circumstances("benchmark", TINY, False, []))
    assert "choosing settings (5) broke: update_norm_too_large" in page
    assert "training.learning_rate 0.003: 90.0" in page


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
    page = report.make_page(planned, list(lines.values()), report.Circumstances("it", TINY, False, []))
    goal = "| smollm2, sentiment, dirichlet-0.5 | prefix/short | 2.0 ± 0.0 | 1 | no "
    assert f"{goal}|  | 88.0 ± 0.0 |  | 50.0 ± 0.0 (base) |" in page


def test_a_goal_stands_beside_the_control_that_sees_as_many_rows(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "central", "central-4x", "short"), place, results)
    finish_all(planned, results, {"central": 0.88, "central-4x": 0.91, "short": 0.88})

    page = report.make_page(planned, make_lines(planned, place), report.Circumstances("it", TINY, False, []))
    assert "| prefix/short | 0.0 ± 0.0 | 1 | yes | 3.0 | 88.0 ± 0.0 |" in page


def test_a_page_tells_what_its_runs_were_made_with_wherever_it_is_written(
    place: Workplace, tmp_path: Path
) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "central"), place, results)
    for torch in ("2.1", "2.1", "2.2"):
        job = planned.next_job()
        assert job is not None
        results.append({**record(job.run, job), "machine": {"torch": torch, "dtype": "bfloat16"}})

    page = report.make_page(planned, [], report.Circumstances("it", TINY, False, []))
    assert "Made with: torch 2.1, dtype bfloat16 (2 runs); torch 2.2, dtype bfloat16 (1 runs)." in page


def test_a_page_tells_whose_rate_an_arm_has_that_chose_none(place: Workplace, tmp_path: Path) -> None:
    planned = Schedule(plan_of(place, "central"), place, Results(tmp_path / "results.jsonl"))
    page = report.make_page(planned, [], report.Circumstances("it", TINY, False, []))
    assert "that of `central`: `central-4x`, `local`; that of `short`: `short-float16`, " in page
    assert "that of `long`: `long-calibrated`, `long-proximal`." in page


def test_what_did_best_is_measured_again_with_seeds_that_chose_nothing(
    place: Workplace, tmp_path: Path
) -> None:
    results = Results(tmp_path / "results.jsonl")
    plan = plan_of(place, "base", "central", "short", "long", splits=("dirichlet-0.1", "dirichlet-1"))
    planned = Schedule(plan, place, results)
    finish_all(planned, results, {"central": 0.9, "short": 0.88, "base": 0.5})

    fresh = [group for group in plan.groups if group.is_fresh]
    assert plan.groups[-len(fresh) :] == tuple(fresh)
    assert {(group.first.arm.recipe_name, group.first.split) for group in fresh} == {
        ("central", POOLED),
        ("short", "dirichlet-0.1"),
    }
    assert all([run.seed for run in group.runs] == list(FRESH_SEEDS) for group in fresh)
    again = {line.arm: line for line in make_lines(planned, place) if line.is_fresh}
    assert {line.split for line in again.values()} == {"dirichlet-0.1"}
    assert {name: line.n_seeds for name, line in again.items()} == {
        "base": 5,
        "prefix/central": 5,
        "prefix/short": 5,
    }
    asked = plan_of(place, "central", "short", splits=("dirichlet-0.1",), seeds=(0,))
    assert not any(group.is_fresh for group in asked.groups)


@pytest.mark.parametrize("seeds", [(0, 3), (3, 0)])
def test_seeds_of_which_some_are_fresh_are_not_called_fresh(
    place: Workplace, tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "base", "central", "short", seeds=seeds), place, results)
    finish_all(planned, results, {})
    assert [(line.arm, line.is_fresh) for line in make_lines(planned, place)] == [
        ("base", False),
        ("prefix/central", False),
        ("prefix/short", False),
    ]


def test_a_split_has_no_table_before_something_was_trained_on_it(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    plan = plan_of(place, "base", "central", "short", splits=("dirichlet-0.1", "dirichlet-1"))
    planned = Schedule(plan, place, results)
    tables: dict[tuple[str, bool], set[str]] = {}
    while (job := planned.next_job()) is not None:
        results.append(record(job.run, job))
        planned.end(job.run)
        tables = defaultdict(set)
        for line in make_lines(planned, place):
            tables[line.split, line.is_fresh].add(line.arm)
        assert all(arms == {"base", "prefix/central", "prefix/short"} for arms in tables.values())
    assert tables.keys() == {("dirichlet-0.1", False), ("dirichlet-1", False), ("dirichlet-0.1", True)}


def test_a_picture_leaves_out_what_stands_on_one_split_where_others_are_on_several(
    place: Workplace, tmp_path: Path
) -> None:
    results = Results(tmp_path / "results.jsonl")
    plan = plan_of(place, "central", "short", "long-calibrated", splits=("dirichlet-0.1", "dirichlet-1"))
    planned = Schedule(plan, place, results)
    finish_all(planned, results, {})
    lines = [line for line in make_lines(planned, place) if not line.is_fresh]
    skewed = [line for line in lines if line.split == "dirichlet-0.1"]
    assert {line.arm for line in plots.most_spread(lines)} == {"prefix/central", "prefix/short"}
    assert plots.most_spread(skewed) == skewed
    assert plots.most_spread([]) == []
    assert plots.draw_splits(lines, tmp_path / "splits.png")


def test_a_page_made_before_the_end_says_what_is_not_there(place: Workplace, tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    planned = Schedule(plan_of(place, "base", "central"), place, results)
    page = report.make_page(planned, [], report.Circumstances("it", TINY, False, []))
    assert page.endswith("- smollm2, sentiment: not run to the end: all\n")
    job = planned.next_job()
    assert job is not None
    results.append(record(job.run, job))

    page = report.make_page(planned, [], report.Circumstances("it", TINY, False, []))
    assert "- smollm2, sentiment, pooled: not run to the end: `prefix/central`" in page
    assert "`base`: " not in page.split("## What is not here")[1]


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
