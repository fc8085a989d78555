"""The main job with real processes: rounds over HTTP, a prefix for plain PEFT, workers killed, memory watched."""

import base64
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load

from tests.platform import PROJECT, RunningPlatform, get, post, reviews
from training_workers.examples import as_row, select_held_out

pytestmark = pytest.mark.processes
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def two_rounds(platform: RunningPlatform) -> dict[str, Any]:
    """A federation after two rounds, with both rounds as the API tells them."""
    federation = platform.make_federation("main job")
    ended = [platform.finish_round(platform.start_round(federation)) for _ in range(2)]
    return {"federation": federation, "rounds": ended}


def blob(platform: RunningPlatform, sha256: str) -> bytes:
    [path] = [path for path in platform.storage.rglob("*") if path.name == sha256]
    return path.read_bytes()


def versions_of(platform: RunningPlatform, federation: dict[str, Any]) -> list[dict[str, Any]]:
    found = get(platform.operator, f"federations/{federation['id']}/prefix-versions")["results"]
    return sorted(found, key=lambda version: int(version["number"]))


def runs_of(platform: RunningPlatform, started: dict[str, Any]) -> list[dict[str, Any]]:
    return list(get(platform.operator, f"local-runs?round={started['id']}")["results"])


def archive_of(platform: RunningPlatform, version: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    response = platform.tenants[0].client.get(f"prefix-versions/{version['id']}/archive")
    assert response.status_code == 200, response.text
    return response.content, dict(response.headers)


def assert_same_score_elsewhere(
    platform: RunningPlatform, version: dict[str, Any], place: int, directory: Path
) -> None:
    """A process that knows nothing of the project finds the score that a tenant was told of a version."""
    (directory / "archive.zip").write_bytes(archive_of(platform, version)[0])
    held_out = select_held_out(io.BytesIO(reviews(place).encode()), "jsonl", n=20)
    (directory / "rows.jsonl").write_text("\n".join(json.dumps(as_row(row)) for row in held_out))
    script = directory / "score.py"
    script.write_text((PROJECT / "tests/score_with_peft.py").read_text())
    command = [sys.executable, "-I", str(script), "archive.zip", str(platform.base_directory), "rows.jsonl"]
    done = subprocess.run(command, cwd=directory, env={"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [reported] = get(platform.tenants[place].client, f"evaluations?version={version['id']}")["results"]
    assert reported["n_rows"] == len(held_out)
    assert float(done.stdout) == pytest.approx(reported["accuracy"])


def test_rounds_end_published_and_versions_count_up(
    platform: RunningPlatform, two_rounds: dict[str, Any]
) -> None:
    assert [(ended["number"], ended["state"]) for ended in two_rounds["rounds"]] == [
        (1, "published"),
        (2, "published"),
    ]
    versions = versions_of(platform, two_rounds["federation"])
    assert [version["number"] for version in versions] == [0, 1, 2]
    assert [version["is_published"] for version in versions] == [False, False, True]
    pointer = get(platform.tenants[0].client, f"federations/{two_rounds['federation']['id']}/published")
    assert pointer["version"] == versions[2]["id"]


def test_the_published_tensor_is_a_numpy_weighted_mean_of_the_accepted_updates(
    platform: RunningPlatform, two_rounds: dict[str, Any]
) -> None:
    versions = versions_of(platform, two_rounds["federation"])
    for ended, parent, child in zip(two_rounds["rounds"], versions, versions[1:], strict=False):
        runs = [run for run in runs_of(platform, ended) if run["state"] == "accepted"]
        assert len(runs) == 3
        weights = np.array([run["n_examples"] for run in runs], np.float64)
        changes = [load(blob(platform, run["update"]["sha256"])) for run in runs]
        old, new = load(blob(platform, parent["sha256"])), load(blob(platform, child["sha256"]))
        for name, tensor in new.items():
            stacked = np.stack([change[name].astype(np.float64) for change in changes])
            mean = np.tensordot(weights / weights.sum(), stacked, axes=1)
            wanted = (old[name].astype(np.float64) + mean).astype(np.float32)
            np.testing.assert_array_max_ulp(tensor, wanted, maxulp=1)  # float64 sums in another order
            assert np.abs(stacked).max() > 0


def test_the_archive_is_what_its_headers_say(platform: RunningPlatform, two_rounds: dict[str, Any]) -> None:
    version = versions_of(platform, two_rounds["federation"])[-1]
    archive, headers = archive_of(platform, version)
    digest = base64.b64encode(hashlib.sha256(archive).digest()).decode()
    assert headers["repr-digest"] == f"sha-256=:{digest}:"
    assert headers["x-prelude-prefix-sha256"] == version["sha256"]
    files = zipfile.ZipFile(io.BytesIO(archive))
    assert sorted(files.namelist()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "prelude.json",
    ]
    assert hashlib.sha256(files.read("adapter_model.safetensors")).hexdigest() == version["sha256"]
    about = json.loads(files.read("prelude.json"))
    assert about["base_model"]["weights_sha256"] == platform.base_model["weights_sha256"]


def test_the_archive_gives_the_reported_score_with_plain_peft_elsewhere(
    platform: RunningPlatform, two_rounds: dict[str, Any], tmp_path: Path
) -> None:
    version = versions_of(platform, two_rounds["federation"])[-1]
    for place in range(len(platform.tenants)):
        assert_same_score_elsewhere(platform, version, place, tmp_path)


def test_the_base_model_on_disk_is_what_was_registered(
    platform: RunningPlatform, two_rounds: dict[str, Any]
) -> None:
    copy = {"name": "tiny again", "directory": "tiny", "source": "the same directory", "licence": "none"}
    made = post(platform.operator, "base-models", copy)
    again = platform.wait_for(f"base-models/{made['id']}", lambda found: found["state"] == "ready")
    assert again["weights_sha256"] == platform.base_model["weights_sha256"]


def test_the_second_job_of_a_worker_does_not_load_the_base_again(
    platform: RunningPlatform, two_rounds: dict[str, Any]
) -> None:
    loaded = [run["metrics"]["base_loaded"] for run in runs_of(platform, two_rounds["rounds"][1])]
    assert loaded == [False] * 3


def _wait_for_training(platform: RunningPlatform, started: dict[str, Any], *, n_runs: int = 1) -> None:
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        in_training = [
            run
            for run in runs_of(platform, started)
            if run["state"] == "running" and run["progress"].get("step")
        ]
        if len(in_training) >= n_runs:
            return
        time.sleep(0.02)
    pytest.fail(f"not {n_runs} local runs were seen in training")


def test_a_round_survives_kill_9_of_every_training_worker_with_the_same_prefix(
    platform: RunningPlatform,
) -> None:
    calm = platform.make_federation("undisturbed", n_steps=1_000)
    undisturbed = platform.finish_round(platform.start_round(calm))
    rough = platform.make_federation("disturbed", n_steps=1_000)
    started = platform.start_round(rough)
    _wait_for_training(platform, started)
    for pid in platform.platform.pids("gpu"):
        os.kill(pid, signal.SIGKILL)
    ended = platform.finish_round(started, seconds=180)

    assert (undisturbed["state"], ended["state"]) == ("published", "published")
    runs = runs_of(platform, ended)
    assert [run["state"] for run in runs] == ["accepted"] * 3
    assert max(run["attempt"] for run in runs) == 2
    assert versions_of(platform, rough)[1]["sha256"] == versions_of(platform, calm)[1]["sha256"]


def test_cancel_reaches_a_running_worker(platform: RunningPlatform) -> None:
    federation = platform.make_federation("canceled", n_steps=5_000)
    started = platform.start_round(federation)
    _wait_for_training(platform, started)
    canceled = post(platform.operator, f"rounds/{started['id']}/cancel", {})
    assert canceled["state"] == "canceled"
    assert {run["state"] for run in runs_of(platform, started)} == {"canceled"}
    quick = platform.make_federation("after the cancel")  # a worker is free again
    assert platform.finish_round(platform.start_round(quick), seconds=60)["state"] == "published"


ADAPTER = {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(
    ("method", "n_steps", "learning_rate", "files"),
    [
        ({"kind": "full"}, 400, 1e-4, {"config.json", "model.safetensors"}),
        ({"kind": "lora", "rank": 4}, 600, 0.01, ADAPTER),
        ({"kind": "prompt", "start_text": "The film was wonderful."}, 600, 0.01, ADAPTER),
    ],
    ids=["full", "lora", "prompt"],
)
def test_a_round_of_another_method_survives_kill_9_of_a_training_worker_in_mid_run(
    method: dict[str, Any],
    n_steps: int,
    learning_rate: float,
    files: set[str],
    platform: RunningPlatform,
    tmp_path: Path,
) -> None:
    federation = platform.make_federation(
        method["kind"], method=method, n_steps=n_steps, learning_rate=learning_rate
    )
    started = platform.start_round(federation)
    _wait_for_training(platform, started, n_runs=2)  # both workers are in mid-run
    os.kill(platform.platform.pids("gpu1")[0], signal.SIGKILL)
    ended = platform.finish_round(started, seconds=180)

    assert ended["state"] == "published"
    runs = runs_of(platform, ended)
    assert [run["state"] for run in runs] == ["accepted"] * 3
    assert sorted(run["attempt"] for run in runs) == [1, 1, 2]
    start, published = versions_of(platform, federation)
    assert published["is_published"]
    assert published["sha256"] != start["sha256"]
    archive = zipfile.ZipFile(io.BytesIO(archive_of(platform, published)[0]))
    assert files < set(archive.namelist())
    assert_same_score_elsewhere(platform, published, 0, tmp_path)


@pytest.fixture(scope="module")
def lora_campaign(platform: RunningPlatform) -> dict[str, Any]:
    """A federation of another method after a campaign, with the campaign as the API tells it."""
    federation = platform.make_federation("campaign", method={"kind": "lora", "rank": 4}, learning_rate=0.05)
    started = post(platform.operator, f"federations/{federation['id']}/campaigns", {"n_rounds": 4})
    path = f"campaigns/{started['id']}"
    ended = platform.wait_for(path, lambda found: found["finished_at"] is not None, seconds=120)
    return {"federation": federation, "campaign": ended}


def test_a_campaign_of_another_method_ends_with_its_best_version_published(
    platform: RunningPlatform, lora_campaign: dict[str, Any], tmp_path: Path
) -> None:
    campaign = lora_campaign["campaign"]
    assert (campaign["state"], campaign["n_ended_rounds"]) == ("completed", 4)
    versions = versions_of(platform, lora_campaign["federation"])
    assert [version["number"] for version in versions] == [0, 1, 2, 3, 4]
    scores = [_mean_score(platform, version) for version in versions]
    best = scores.index(max(scores))  # the first: one that is as good is kept
    assert best > 0
    assert [version["is_published"] for version in versions] == [
        number == best for number in range(len(versions))
    ]
    assert campaign["best_version"] == versions[best]["id"]
    assert_same_score_elsewhere(platform, versions[best], 0, tmp_path)


def _mean_score(platform: RunningPlatform, version: dict[str, Any]) -> float:
    """Over the tenants, whose updates all have the same weight."""
    found = [
        get(tenant.client, f"evaluations?version={version['id']}")["results"] for tenant in platform.tenants
    ]
    return sum(float(row["accuracy"]) for [row] in found) / len(found)


def test_a_campaign_is_canceled_as_one_and_leaves_its_federation_free(
    platform: RunningPlatform, lora_campaign: dict[str, Any]
) -> None:
    federation = lora_campaign["federation"]
    path = f"federations/{federation['id']}/campaigns"
    before = get(platform.operator, f"federations/{federation['id']}/published")
    started = post(platform.operator, path, {"n_rounds": 1_000})
    campaign = f"campaigns/{started['id']}"
    platform.wait_for(campaign, lambda found: found["n_ended_rounds"] > 0 and found["live_round"] is not None)
    canceled = post(platform.operator, f"{campaign}/cancel", {})

    assert canceled["state"] == "canceled"
    assert canceled["n_rounds_by_state"]["canceled"] == 1
    assert canceled["live_round"] is None
    after = get(platform.operator, f"federations/{federation['id']}/published")
    assert after["version"] in (before["version"], canceled["best_version"])
    alone = platform.finish_round(platform.start_round(federation))
    assert alone["campaign"] is None
    assert get(platform.operator, campaign)["n_ended_rounds"] == canceled["n_ended_rounds"]


def test_a_schedule_opens_a_round_by_itself(platform: RunningPlatform) -> None:
    federation = platform.make_federation("scheduled")
    path = f"federations/{federation['id']}/schedule"
    response = platform.operator.put(path, json={"cron": "* * * * *", "time_zone": "Europe/Berlin"})
    assert response.status_code in (200, 201), response.text
    rounds = f"federations/{federation['id']}/rounds"
    platform.wait_for(rounds, lambda found: len(found["results"]) > 0, seconds=75)
    assert platform.operator.delete(path).status_code == 204
    opened = get(platform.operator, rounds)["results"][0]
    assert platform.finish_round(opened)["state"] == "published"
    assert opened["due_at"] is not None


def _proportional_set_size(pids: list[int]) -> int:
    trees = {child.pid: child for pid in pids for child in psutil.Process(pid).children(recursive=True)}
    processes = [*(psutil.Process(pid) for pid in pids), *trees.values()]
    return sum(process.memory_full_info().pss for process in processes)


@pytest.mark.parametrize("role", ["web", "coordinator"])
def test_web_and_coordinator_stay_small(
    platform: RunningPlatform, two_rounds: dict[str, Any], role: str
) -> None:
    assert _proportional_set_size(platform.platform.pids(role)) < 200 * MEBIBYTE


def test_no_process_tells_a_secret_on_its_command_line_or_in_its_log(
    platform: RunningPlatform, two_rounds: dict[str, Any]
) -> None:
    secrets = [
        value
        for name, value in json.loads((platform.platform.directory / "secrets.json").read_text()).items()
    ]
    keys = [tenant.client.headers["authorization"].split("_", 2)[2] for tenant in platform.tenants]
    texts = [path.read_text(errors="replace") for path in platform.platform.logs.iterdir()]
    roles = ("web", "coordinator", "gpu", "ticker", "announcer")
    pids = [pid for role in roles for pid in platform.platform.pids(role)]
    texts += [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
    assert [secret for secret in [*secrets, *keys] if any(str(secret) in text for text in texts)] == []
    assert not any("and the staff was" in text for text in texts), "a log holds a tenant's text"


def test_no_tenants_text_lies_in_the_clear(platform: RunningPlatform, two_rounds: dict[str, Any]) -> None:
    stored = [path.read_bytes() for path in platform.storage.rglob("*") if path.is_file()]
    assert stored
    assert not any(b"and the staff was" in data for data in stored)
