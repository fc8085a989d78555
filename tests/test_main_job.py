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
    (tmp_path / "prefix.zip").write_bytes(archive_of(platform, version)[0])
    for seed, tenant in enumerate(platform.tenants):
        held_out = select_held_out(io.BytesIO(reviews(seed).encode()), "jsonl", n=20)
        rows = "\n".join(json.dumps(as_row(row)) for row in held_out)
        (tmp_path / "rows.jsonl").write_text(rows)
        script = tmp_path / "score.py"
        script.write_text((PROJECT / "tests/score_with_peft.py").read_text())
        command = [
            sys.executable,
            "-I",
            str(script),
            "prefix.zip",
            str(platform.base_directory),
            "rows.jsonl",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env={"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        path = f"evaluations?version={version['id']}"
        [reported] = [row for row in get(tenant.client, path)["results"] if row["version"] == version["id"]]
        assert reported["n_rows"] == len(held_out)
        assert float(done.stdout) == pytest.approx(reported["accuracy"])


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


def _wait_for_training(platform: RunningPlatform, started: dict[str, Any]) -> None:
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        if any(
            run["state"] == "running" and run["progress"].get("step") for run in runs_of(platform, started)
        ):
            return
        time.sleep(0.02)
    pytest.fail("no local run was seen in training")


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
