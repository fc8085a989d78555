"""Trainers that hang, run out of memory or are stopped, as real processes: found, ended, told of, and replaced."""

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import ProgrammingError
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from federation.models import LocalRun, TrainerLogTail
from federation.states import LocalRunState
from tenants import scoping
from tenants.admin.rows import change_url
from tests.factories import MembershipFactory, UserFactory, ready_federation
from tests.federation import rounds as steps
from tests.federation.console import signed_in, text_of
from tests.keys import new_client
from training_workers.attempts import Attempt, perform
from training_workers.errors import TrainerDied, WorkerStalled
from training_workers.resident import ResidentTrainer

ROW_TEXT = "a marked review that must not be told"
STALL_SECONDS = 2.0


@pytest.fixture
def trainer(tiny_directory: Path) -> Iterator[ResidentTrainer]:
    """One that runs and has done a job."""
    resident = ResidentTrainer(stall_seconds=STALL_SECONDS)
    resident.run(inspect(tiny_directory))
    yield resident
    resident.close()


def inspect(directory: Path) -> dict[str, Any]:
    return {"kind": "inspect", "path": str(directory)}


def run_out_of_memory(trainer: ResidentTrainer) -> None:
    """A job that takes more memory than the trainer may have."""
    assert trainer.pid is not None
    n_pages = int(Path(f"/proc/{trainer.pid}/statm").read_text().split()[0])
    limit = n_pages * resource.getpagesize() + 2**24
    resource.prlimit(trainer.pid, resource.RLIMIT_AS, (limit, limit))
    job = {"kind": "train", "examples": [{"text": ROW_TEXT, "label": "good"}]}
    trainer.run(job, {"state": ROW_TEXT.encode() * 2**22})


def test_a_trainer_that_hangs_is_ended_and_tells_where(
    trainer: ResidentTrainer, tiny_directory: Path, tmp_path: Path
) -> None:
    hanging = shutil.copytree(tiny_directory, tmp_path / "hanging")
    (hanging / "model.safetensors").unlink()
    os.mkfifo(hanging / "model.safetensors")  # nobody writes: who opens it waits for ever
    beats: list[int] = []
    with pytest.raises(WorkerStalled, match="no progress for 2 seconds") as caught:
        trainer.run(inspect(hanging), beat_seconds=0.2, on_beat=lambda: beats.append(1))
    assert len(beats) > 3, "its worker was well, and would have kept the lease for ever"
    assert any("in _n_parameters" in line for line in caught.value.log_tail), caught.value.log_tail
    assert trainer.run(inspect(tiny_directory)).result["facts"]["n_layers"] == 2


def test_a_trainer_that_reads_nothing_holds_no_worker_up(
    trainer: ResidentTrainer, tiny_directory: Path
) -> None:
    assert trainer.pid is not None
    os.kill(trainer.pid, signal.SIGSTOP)
    with pytest.raises(WorkerStalled):
        trainer.run(inspect(tiny_directory), {"state": bytes(2**20)})
    assert trainer.run(inspect(tiny_directory)).result["facts"]["n_layers"] == 2


def test_each_file_of_a_base_model_is_told_of_so_that_a_large_one_is_no_stall(
    trainer: ResidentTrainer, tiny_directory: Path
) -> None:
    phases: list[str] = []
    trainer.run(inspect(tiny_directory), on_event=lambda event: phases.append(event["phase"]))
    assert len(phases) > 2
    assert set(phases) == {"reading"}


def test_a_trainer_without_memory_ends_and_tells_where_but_no_texts(
    trainer: ResidentTrainer, tiny_directory: Path
) -> None:
    with pytest.raises(TrainerDied) as caught:
        run_out_of_memory(trainer)
    assert caught.value.log_tail[-1] == "MemoryError"
    assert ROW_TEXT not in "".join(caught.value.log_tail)
    assert trainer.run(inspect(tiny_directory)).result["facts"]["n_layers"] == 2


@pytest.mark.django_db
def test_a_run_that_loses_its_trainer_each_time_is_stopped_and_blamed_and_others_go_on(
    trainer: ResidentTrainer, tiny_directory: Path, settings: Settings, operator_client: APIClient
) -> None:
    deadly, harmless, *_ = steps.runs_of(steps.start(ready_federation()))

    def attempt(local_run: LocalRun, *, is_deadly: bool) -> LocalRun:
        def work(attempt: Attempt[LocalRun]) -> None:
            trainer.run(inspect(tiny_directory))
            if is_deadly:
                run_out_of_memory(trainer)
            steps.submit(attempt.row, steps.update_bytes(attempt.row, steps.change(0)))

        perform(Attempt(steps.claim(local_run)), work)
        return steps.reload(local_run)

    for _ in range(settings.MAX_ATTEMPTS - 1):
        waiting = attempt(deadly, is_deadly=True)
        assert waiting.state == LocalRunState.QUEUED
        assert waiting.state_reason.startswith("trainer_died: ")
    assert attempt(harmless, is_deadly=False).state == LocalRunState.ACCEPTED
    failed = attempt(deadly, is_deadly=True)
    assert failed.state == LocalRunState.FAILED
    assert failed.state_reason.startswith("trainer_died: ")
    assert "exit code 3" in failed.state_reason
    told = operator_client.get(f"/api/v1/local-runs/{deadly.public_id}").json()["log_tails"]
    assert [tail["attempt"] for tail in told] == [1, 2, 3]
    assert all(tail["lines"][-1] == "MemoryError" for tail in told)
    assert ROW_TEXT not in str(told)
    clean = operator_client.get(f"/api/v1/local-runs/{harmless.public_id}").json()
    assert clean["log_tails"] == []


@pytest.mark.django_db
def test_what_a_trainer_wrote_last_is_the_operators_to_read() -> None:
    local_run = steps.runs_of(steps.start(ready_federation()))[0]
    with scoping.platform():
        TrainerLogTail.objects.create(subject=local_run.public_id, attempt=1, lines=["<terminate called>"])
    staff = signed_in(UserFactory.create(is_staff=True, is_superuser=True))
    assert "&lt;terminate called&gt;" in text_of(staff.get(change_url(local_run)))
    member: Client = signed_in(MembershipFactory.create(tenant=local_run.tenant).user)
    assert "terminate called" not in text_of(member.get(change_url(local_run)))
    path = f"/api/v1/local-runs/{local_run.public_id}"
    assert new_client(local_run.tenant).get(path).json()["log_tails"] is None
    with pytest.raises(ProgrammingError, match="permission denied"), scoping.tenant(local_run.tenant_id):
        TrainerLogTail.objects.exists()
