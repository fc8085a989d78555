"""The demo's report: what the results say, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.demo.paths import PROJECT, Paths
from deploy.demo.plot import draw
from deploy.demo.report import build_report, gain_points, phase_totals, table_rows
from deploy.demo.results import Results, RoundResult, Score, VersionResult, completed_scores

TENANTS = ["movies", "shop"]


def make_version(number: int, movies: float, shop: float, *, is_published: bool = False) -> VersionResult:
    """A version with both tenants' scores, downloaded below the project."""
    directory = Paths(PROJECT / "var").versions
    return VersionResult(
        number=number,
        id=f"pfx_{number}",
        sha256=f"{number:064x}",
        size_bytes=737_416,
        is_published=is_published,
        round_id=f"rnd_{number}" if number else None,
        file=directory / f"{number:03d}" / "adapter_model.safetensors",
        archive=directory / f"{number:03d}.zip",
        scores={"movies": Score(accuracy=movies, n_rows=200), "shop": Score(accuracy=shop, n_rows=180)},
    )


def make_round(number: int, state: str, *, parent: int) -> RoundResult:
    """A round that took two seconds to train and one to evaluate."""
    return RoundResult(
        number=number,
        state=state,
        reason=f"The gate {state} the candidate.",
        parent=parent,
        candidate=number,
        up_bytes=1_000,
        down_bytes=2_000,
        seconds={"training": 2.004, "evaluating": 1.0},
    )


@pytest.fixture
def results() -> Results:
    """Two rounds: the first published its candidate, the second's was kept back."""
    return Results(
        federation={"id": "fed_1", "name": "Sentiment"},
        base_model={"name": "Tiny", "weights_sha256": "f" * 64},
        base_scores={"movies": Score(accuracy=0.7, n_rows=200), "shop": Score(accuracy=0.8, n_rows=180)},
        versions=[
            make_version(0, 0.6, 0.7),
            make_version(1, 0.9, 0.8, is_published=True),
            make_version(2, 0.5, 0.6),
        ],
        rounds=[make_round(1, "published", parent=0), make_round(2, "kept", parent=1)],
    )


def test_the_report_has_the_promised_fields(results: Results) -> None:
    report = json.loads(json.dumps(build_report(results, {"set_up": 1.23456})))

    assert report["base"]["scores"] == {
        "movies": {"accuracy": 0.7, "n_rows": 200},
        "shop": {"accuracy": 0.8, "n_rows": 180},
    }
    first = report["versions"][1]
    assert (first["number"], first["sha256"], first["published"]) == (1, f"{1:064x}", True)
    assert first["file"] == "var/demo/versions/001/adapter_model.safetensors"
    assert first["scores"]["movies"] == {"accuracy": 0.9, "n_rows": 200}
    assert first["worst_accuracy"] == 0.8
    assert [version["published"] for version in report["versions"]] == [False, True, False]
    assert report["bytes"] == {"up": 2_000, "down": 4_000}
    assert report["seconds"] == {"steps": {"set_up": 1.23}, "phases": {"training": 4.01, "evaluating": 2.0}}


def test_the_gain_is_that_of_the_published_version_over_the_base(results: Results) -> None:
    assert gain_points(results) == 10.0
    assert gain_points(replace(results, base_scores={})) is None
    assert gain_points(replace(results, versions=results.versions[:1])) is None


def test_seconds_are_summed_by_phase(results: Results) -> None:
    assert phase_totals(results.rounds) == {"training": 4.008, "evaluating": 2.0}
    assert phase_totals([]) == {}


def test_the_table_shows_every_tenant_the_mean_the_worst_and_the_outcome(results: Results) -> None:
    without_shop = replace(results.versions[2], scores={"movies": results.versions[2].scores["movies"]})
    rows = table_rows(replace(results, versions=[*results.versions[:2], without_shop]), TENANTS)

    assert rows == [
        ("base model", "0.700", "0.800", "0.750", "0.700", ""),
        ("version 0 (start)", "0.600", "0.700", "0.650", "0.600", ""),
        ("version 1", "0.900", "0.800", "0.850", "0.800", "in use"),
        ("version 2", "0.500", "-", "0.500", "0.500", "kept"),
    ]


def test_scores_are_those_of_completed_evaluations_of_the_demos_tenants() -> None:
    def evaluation(version: str | None, tenant: str, state: str = "completed") -> dict[str, object]:
        return {"version": version, "tenant": tenant, "state": state, "accuracy": 0.5, "n_rows": 9}

    scores = completed_scores(
        [
            evaluation(None, "tnt_1"),
            evaluation("pfx_0", "tnt_1"),
            evaluation("pfx_0", "tnt_2", "failed"),
            evaluation("pfx_0", "tnt_other"),
        ],
        {"tnt_1": "movies", "tnt_2": "shop"},
    )
    half = Score(accuracy=0.5, n_rows=9)
    assert scores == {None: {"movies": half}, "pfx_0": {"movies": half}}


def test_the_plot_is_a_picture(results: Results, tmp_path: Path) -> None:
    draw(results, TENANTS, tmp_path / "rounds.png")

    assert (tmp_path / "rounds.png").read_bytes().startswith(b"\x89PNG")
    draw(replace(results, base_scores={}), TENANTS, tmp_path / "gap.png")
    assert (tmp_path / "gap.png").stat().st_size > 10_000
