"""The whole platform as real processes: it starts, heals, says when it is ill, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from deploy.demo.keys import Keys, ensure_console_login, ensure_operator_key
from deploy.embedded import layout
from deploy.embedded.__main__ import parse
from deploy.embedded.environment import application_environment, inherited
from deploy.embedded.errors import PlatformAlreadyRunning
from deploy.embedded.platform import Platform
from deploy.embedded.processes import wait_until_gone
from deploy.embedded.servers import Servers
from tests.deploy.waiting import eventually

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with one training worker."""
    directory = tmp_path_factory.mktemp("platform")
    with Platform(directory, n_gpu_workers=1, test_mode=True) as platform:
        yield platform


def readiness(platform: Platform) -> int:
    """The status that `/readyz` answers with now."""
    try:
        with urllib.request.urlopen(f"{platform.url}/readyz", timeout=10) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return status


def test_every_role_runs_and_the_status_file_tells_their_processes(platform: Platform) -> None:
    status = json.loads((platform.directory / "status.json").read_text())
    roles = {process["role"]: [process["pid"]] for process in status["processes"].values()}
    assert set(roles) == {"postgres", "valkey", "web", "coordinator", "gpu", "ticker", "announcer"}
    assert roles == {role: platform.pids(role) for role in roles}


@pytest.mark.parametrize("server", ["postgres", "valkey"])
def test_readiness_goes_red_with_a_server_and_comes_back_by_itself(platform: Platform, server: str) -> None:
    platform.stop(server)
    eventually(lambda: readiness(platform) == 503, seconds=30)
    platform.start(server)
    platform.wait_until_ready(seconds=60)


def test_a_killed_process_comes_back(platform: Platform) -> None:
    before = platform.pids("web")
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: platform.pids("web") not in ([], before))
    platform.wait_until_ready(seconds=60)


def test_a_second_platform_in_the_same_directory_is_refused(platform: Platform) -> None:
    with pytest.raises(PlatformAlreadyRunning, match=f"process {os.getpid()}"), Platform(platform.directory):
        pass


def test_readiness_is_asked_of_the_platform_and_not_of_a_proxy(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # one that knows of no proxy may be kept there
    platform.wait_until_ready(seconds=20)


def test_the_demo_makes_a_login_anew_on_a_platform_that_is_new(platform: Platform, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "state.json", operator="prl_old", console_login="old", console_password="old")
    ensure_operator_key(keys, platform.url, platform.environment)
    ensure_console_login(keys, platform.environment)
    assert keys.console_login.startswith("demo-")
    kept = Keys.load(keys.file)
    ensure_operator_key(keys, platform.url, platform.environment)
    assert keys == kept


@pytest.mark.parametrize(
    "words", [("--port", "0"), ("--port", "70000"), ("--port", "-1"), ("--gpu-workers", "0")]
)
def test_numbers_that_cannot_be_are_refused(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["up", *words])
    assert f"{words[0]}: from 1 to " in capsys.readouterr().err


def test_training_follows_the_environment_of_who_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELUDE_TRAINING_THREADS", "3")
    monkeypatch.setenv("PRELUDE_LEASE_SECONDS", "3")
    [worker] = layout.gpu_workers(inherited(), n_workers=1)
    assert worker.environment["PRELUDE_TRAINING_THREADS"] == "3"
    assert "PRELUDE_LEASE_SECONDS" not in worker.environment


def test_temporary_files_lie_below_the_platforms_directory(platform: Platform) -> None:
    place = Path(platform.environment["TMPDIR"])
    assert place.is_relative_to(platform.directory)
    assert place.is_dir()


def test_no_process_but_the_migration_is_given_the_owners_password(platform: Platform) -> None:
    assert "OWNER_DATABASE_URL" not in platform.environment
    assert "OWNER_DATABASE_URL" in platform.owner_environment


def test_three_replicas_that_start_together_migrate_once(embedded_servers: Servers, tmp_path: Path) -> None:
    environment = application_environment(embedded_servers, directory=tmp_path, url="http://127.0.0.1")
    environment["OWNER_DATABASE_URL"] = embedded_servers.owner_database_url
    replicas = [
        subprocess.Popen([*layout.MANAGE, "migrate_once"], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    outputs = [replica.communicate(timeout=120)[0] for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0, 0, 0]
    assert sum("Applying tenants.0001_initial... OK" in output for output in outputs) == 1
    assert sum("No migrations to apply." in output for output in outputs) == 2


def test_the_command_starts_whatever_was_meant_for_others_and_stops_everything_on_sigterm(
    tmp_path: Path,
) -> None:
    meant_for_others = {
        "PGHOSTADDR": "192.0.2.1",
        "PGOPTIONS": "-c role=nobody",
        "PGSERVICE": "elsewhere",
        "PGSSLMODE": "verify-full",
        "GUNICORN_CMD_ARGS": "--bind 127.0.0.1:1",
        "PRELUDE_HTTPS_ONLY": "true",
        "PRELUDE_STORAGE_BUCKET": "elsewhere",
    }
    left = tmp_path / "temporary" / "left" / "by a platform that was killed"
    left.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "deploy.embedded",
        "up",
        "--gpu-workers",
        "1",
        "--directory",
        str(tmp_path),
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=layout.PROJECT,
        env={**os.environ, **meant_for_others},
    ) as up:
        assert up.stdout is not None
        assert any("Prelude runs at" in line for line in up.stdout)
        assert not left.parent.exists()
        processes = json.loads((tmp_path / "status.json").read_text())["processes"].values()
        up.send_signal(signal.SIGTERM)
        assert up.wait(timeout=60) == 0
    assert wait_until_gone([process["pid"] for process in processes], seconds=1.0) == []


def given(directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`python -m deploy.embedded manage` with these words, as a person at another terminal."""
    command = [sys.executable, "-m", "deploy.embedded", "manage", "--directory", str(directory), *words]
    return subprocess.run(command, cwd=layout.PROJECT, capture_output=True, text=True, check=False)


def test_commands_reach_a_platform_that_runs(platform: Platform) -> None:
    done = given(platform.directory, "create_operator_key", "--name", "me")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith("prl_")
    assert (platform.directory / "environment.json").stat().st_mode & 0o777 == 0o600


def test_a_closed_event_stream_gives_its_place_back_within_seconds(platform: Platform) -> None:
    key = given(platform.directory, "create_operator_key", "--name", "streams").stdout.strip()
    stream, headers = f"{platform.url}/api/v1/events/stream", {"Authorization": f"Bearer {key}"}

    def status() -> int:
        with httpx.stream("GET", stream, headers=headers, timeout=30) as answer:
            return answer.status_code

    with ExitStack() as pages:
        for _ in range(4):
            assert pages.enter_context(httpx.stream("GET", stream, headers=headers)).status_code == 200
        assert status() == 429
    eventually(lambda: status() == 200, seconds=6)


def test_commands_need_a_platform(tmp_path: Path) -> None:
    done = given(tmp_path, "create_operator_key", "--name", "me")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("platform_never_started: ")
