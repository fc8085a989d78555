"""The resident trainer as a real process: jobs, the kept base model, cancelling, and every way to die."""

import copy
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from federation.aggregation.wire import decode, in_broadcast_form
from tests.training_workers.conftest import SPECIFICATION
from tests.training_workers.tiny_model import make_tiny_base
from training_workers.base_models import inspect_directory
from training_workers.errors import TrainerDied, TrainerFailed
from training_workers.examples import Example, as_row
from training_workers.frames import read_frame, write_frame
from training_workers.resident import ResidentTrainer, StopJob

SECRET_TEXT = "a marked review that must not be quoted"


@pytest.fixture(scope="module")
def trainer() -> Iterator[ResidentTrainer]:
    """One trainer for this file: starting one takes seconds."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PRELUDE_TRAINING_THREADS", "1")
    patch.setenv("PRELUDE_TRAINING_DTYPE", "float32")
    patch.setenv("DATABASE_URL", "postgresql://secret")
    resident = ResidentTrainer(grace_seconds=20.0)
    yield resident
    resident.close()
    patch.undo()


def _named(directory: Path) -> dict[str, str]:
    """The base model as a job names it."""
    facts = inspect_directory(directory)
    return {
        "path": str(directory),
        "weights_sha256": facts.weights_sha256,
        "tokenizer_sha256": facts.tokenizer_sha256,
    }


@pytest.fixture
def base(tiny_directory: Path) -> dict[str, str]:
    """The tiny base model as a job names it."""
    return _named(tiny_directory)


@pytest.fixture
def start_blob(trainer: ResidentTrainer, base: dict[str, str]) -> bytes:
    """Version 0, as the trainer makes it."""
    answer = trainer.run({"kind": "start", "base": base, "specification": SPECIFICATION})
    return answer.blobs["start"]


def _train_job(base: dict[str, str], reviews: list[Example], start_blob: bytes) -> dict[str, Any]:
    return {
        "kind": "train",
        "base": base,
        "specification": SPECIFICATION,
        "seed": 3,
        "examples": [as_row(example) for example in reviews[:16]],
        "held_out": [as_row(example) for example in reviews[16:]],
        "evaluate_before": True,
        "evaluate_after": True,
        "identity": {
            "round": "rnd_1",
            "tenant": "tnt_1",
            "attempt": 2,
            "parent": hashlib.sha256(start_blob).hexdigest(),
        },
    }


def _long(job: dict[str, Any]) -> dict[str, Any]:
    """The job with more steps than any test waits for: about a minute of them."""
    job = copy.deepcopy(job)
    job["specification"]["training"]["n_steps"] = 20_000
    job["evaluate_before"] = job["evaluate_after"] = False
    job["specification"]["training"]["batch_size"] = 1
    return job


def test_inspects_a_directory(trainer: ResidentTrainer, base: dict[str, str], tiny_directory: Path) -> None:
    facts = trainer.run({"kind": "inspect", "path": base["path"]}).result["facts"]
    assert facts == inspect_directory(tiny_directory).to_dict()


def test_trains_and_reports(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes, tmp_path: Path
) -> None:
    events: list[dict[str, Any]] = []
    job = _train_job(base, reviews, start_blob)
    answer = trainer.run(job, {"state": start_blob}, on_event=events.append)
    metrics = answer.result["metrics"]
    assert metrics["n_examples"] == 24
    assert metrics["loss_last"] < metrics["loss_first"]
    assert metrics["dtype"] == "float32"
    assert metrics["tokens_per_second"] > 0
    assert metrics["peak_memory_bytes"] > 10_000_000
    assert 0 < metrics["relative_norm"] < 1
    assert metrics["scores"]["before"]["n_rows"] == metrics["scores"]["after"]["n_rows"] == 8
    assert metrics["scores"]["after"]["loss"] < metrics["scores"]["before"]["loss"]
    steps = [event for event in events if event["phase"] == "training"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[0]["loss"] == metrics["loss_first"]
    assert {"evaluating_before", "evaluating_after"} <= {event["phase"] for event in events}
    (tmp_path / "update.safetensors").write_bytes(answer.blobs["update"])
    with safe_open(tmp_path / "update.safetensors", "pt") as update:
        assert update.metadata() == {
            "format": "pt",
            "round": "rnd_1",
            "tenant": "tnt_1",
            "attempt": "2",
            "base": base["weights_sha256"],
            "parent": hashlib.sha256(start_blob).hexdigest(),
        }


def test_without_scores_around_it_the_training_is_the_same(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    scored = _train_job(base, reviews, start_blob)
    bare = {**scored, "evaluate_before": False, "evaluate_after": False}
    del bare["held_out"]
    events: list[dict[str, Any]] = []
    answer = trainer.run(bare, {"state": start_blob}, on_event=events.append)
    assert answer.result["metrics"]["scores"] == {"before": None, "after": None}
    assert answer.blobs == trainer.run(scored, {"state": start_blob}).blobs
    assert not [event for event in events if event["phase"].startswith("evaluating")]


def test_a_second_attempt_gives_the_same_update_and_loads_nothing(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    job = _train_job(base, reviews, start_blob)
    first = trainer.run(job, {"state": start_blob})
    second = trainer.run(job, {"state": start_blob})
    assert first.blobs == second.blobs
    assert second.result["base_loaded"] is False


def test_a_small_broadcast_comes_in_and_a_smaller_update_goes_out_with_what_it_lacks(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    broadcast = in_broadcast_form(start_blob, "int8")
    sections = {"upload": {"dtype": "int4", "error_feedback": True}, "broadcast": {"dtype": "int8"}}
    small = _train_job(base, reviews, broadcast)
    small["specification"] = {**SPECIFICATION, **sections}
    first = trainer.run(small, {"state": broadcast})
    second = trainer.run(small, {"state": broadcast, "residual": first.blobs["residual"]})
    # As any other, from what an int8 broadcast holds.
    start = load_tensors(start_blob)
    state = save_tensors({name: torch.from_numpy(x) for name, x in decode(broadcast, "int8").items()})
    whole = trainer.run(_train_job(base, reviews, state), {"state": state})

    update = load_tensors(whole.blobs["update"])
    shapes = {name: tuple(tensor.shape) for name, tensor in start.items()}
    sent = [decode(answer.blobs["update"], "int4", shapes) for answer in (first, second)]
    left = [load_tensors(answer.blobs["residual"]) for answer in (first, second)]
    for name, change in update.items():
        torch.testing.assert_close(torch.from_numpy(sent[0][name]) + left[0][name], change)
        torch.testing.assert_close(
            torch.from_numpy(sent[1][name]) + left[1][name], change + left[0][name], rtol=0, atol=1e-6
        )
    assert len(first.blobs["update"]) < len(whole.blobs["update"]) / 3
    assert "residual" not in whole.blobs


def test_a_broadcast_in_another_form_than_agreed_is_refused(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    job = _train_job(base, reviews, start_blob)
    job["specification"] = {**SPECIFICATION, "broadcast": {"dtype": "int8"}}
    with pytest.raises(TrainerFailed) as refused:
        trainer.run(job, {"state": start_blob})
    assert refused.value.refusal_code == "state_unreadable"


def test_the_updated_state_scores_as_training_said(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    job = _train_job(base, reviews, start_blob)
    trained = trainer.run(job, {"state": start_blob})
    update, parent = load_tensors(trained.blobs["update"]), load_tensors(start_blob)
    state = save_tensors({name: parent[name] + update[name] for name in parent})
    evaluation = {"kind": "evaluate", **{name: job[name] for name in ("base", "specification", "held_out")}}
    events: list[dict[str, Any]] = []
    score = trainer.run(evaluation, {"state": state}, on_event=events.append).result
    for name, value in trained.result["metrics"]["scores"]["after"].items():
        assert score[name] == value
    assert events[-1] == {"job_id": events[-1]["job_id"], "event": "progress", **_done_rows(8)}
    bare = trainer.run(evaluation).result
    assert bare["loss"] != score["loss"]
    assert bare["seconds"] > 0


def _done_rows(n_rows: int) -> dict[str, Any]:
    return {"phase": "evaluating", "n_done": n_rows, "n_rows": n_rows}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"kind": "dance"}, "job_unknown"),
        ({"kind": None}, "job_unknown"),
        ({"identity": {"parent": "0" * 64}}, "parent_mismatch"),
        ({"specification": {**SPECIFICATION, "method": {"kind": "magic"}}}, "specification_invalid"),
        ({"examples": []}, "no_examples"),
        ({"examples": [{"text": SECRET_TEXT, "label": "unheard of"}]}, "label_without_word"),
        ({"examples": [{"text": SECRET_TEXT}]}, "column_missing"),
    ],
)
def test_refusals_come_with_their_code_and_without_texts(
    trainer: ResidentTrainer,
    base: dict[str, str],
    reviews: list[Example],
    start_blob: bytes,
    changes: dict[str, Any],
    code: str,
) -> None:
    with pytest.raises(TrainerFailed) as caught:
        trainer.run({**_train_job(base, reviews, start_blob), **changes}, {"state": start_blob})
    assert (caught.value.refusal_code, caught.value.is_unexpected) == (code, False)
    assert SECRET_TEXT not in str(caught.value)


def test_states_that_are_no_prefix_are_refused(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example]
) -> None:
    job = {"kind": "evaluate", "base": base, "specification": SPECIFICATION, "held_out": [as_row(reviews[0])]}
    for blob, code in (
        (b"no safetensors", "state_unreadable"),
        (save_tensors({"prompt_embeddings": torch.zeros(5, 95)}), "state_incompatible"),
    ):
        with pytest.raises(TrainerFailed) as caught:
            trainer.run(job, {"state": blob})
        assert caught.value.refusal_code == code


def test_label_words_that_clash_are_refused_before_a_federation_starts(
    trainer: ResidentTrainer, base: dict[str, str]
) -> None:
    task = {**SPECIFICATION["task"], "label_words": {"a": " good", "b": " good!"}}
    with pytest.raises(TrainerFailed) as caught:
        trainer.run({"kind": "start", "base": base, "specification": {**SPECIFICATION, "task": task}})
    assert caught.value.refusal_code == "label_words_clash"


def test_what_the_base_model_cannot_do_is_refused_before_a_federation_starts(
    trainer: ResidentTrainer, tmp_path: Path
) -> None:
    encoder = _named(make_tiny_base(tmp_path, architecture="bert", n_positions=256))
    completion = {"task": {"kind": "completion", "max_tokens": 64}}
    crowded = {"method": {**SPECIFICATION["method"], "n_virtual_tokens": 256}}
    for changes, code in ((completion, "task_unsupported"), (crowded, "specification_invalid")):
        with pytest.raises(TrainerFailed) as caught:
            trainer.run({"kind": "start", "base": encoder, "specification": {**SPECIFICATION, **changes}})
        assert (caught.value.refusal_code, caught.value.is_unexpected) == (code, False)


def test_examples_that_cannot_fit_the_context_are_refused_before_a_federation_starts(
    trainer: ResidentTrainer, tmp_path: Path
) -> None:
    base = _named(make_tiny_base(tmp_path, n_positions=128))

    def start(**task: Any) -> None:
        trainer.run({"kind": "start", "base": base, "specification": {**SPECIFICATION, "task": task}})

    start(kind="completion", max_tokens=128 - 5 + 1)  # five are the prefix's, the last one is only predicted
    with pytest.raises(TrainerFailed, match=r"task.max_tokens .* leaves 124 tokens") as long:
        start(kind="completion", max_tokens=128 - 5 + 2)
    wordy = {**SPECIFICATION["task"], "template": "a good film " * 60 + "{text}"}
    with pytest.raises(TrainerFailed, match=r"task.template .* leaves 123") as template:
        start(**wordy)
    for refused in (long, template):
        assert (refused.value.refusal_code, refused.value.is_unexpected) == ("specification_invalid", False)


def test_another_base_model_than_the_registered_one_is_refused(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example]
) -> None:
    job = {
        "kind": "evaluate",
        "base": {**base, "weights_sha256": "0" * 64},
        "specification": SPECIFICATION,
        "held_out": [as_row(reviews[0])],
    }
    with pytest.raises(TrainerFailed) as caught:
        trainer.run(job)
    assert caught.value.refusal_code == "base_model_digest_mismatch"


def test_an_unexpected_error_is_told_by_its_type_and_the_trainer_lives_on(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    job = {**_train_job(base, reviews, start_blob), "seed": SECRET_TEXT}
    pid = trainer.pid
    with pytest.raises(TrainerFailed) as caught:
        trainer.run(job, {"state": start_blob})
    assert (caught.value.refusal_code, caught.value.is_unexpected) == ("trainer_error", True)
    assert SECRET_TEXT not in str(caught.value)
    assert trainer.pid == pid


def test_beats_come_while_the_trainer_works_and_a_stop_cancels(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    beats: list[float] = []

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 4:
            raise StopJob("the lease is lost")

    trainer.run({"kind": "inspect", "path": base["path"]})
    pid = trainer.pid
    started_at = time.monotonic()
    with pytest.raises(StopJob, match="the lease is lost"):
        trainer.run(
            _long(_train_job(base, reviews, start_blob)),
            {"state": start_blob},
            beat_seconds=0.1,
            on_beat=beat,
        )
    assert time.monotonic() - started_at < 5
    assert all(0.09 < later - earlier < 1 for earlier, later in pairwise(beats))
    assert trainer.pid == pid, "a trainer that stops in time is kept"
    assert trainer.run({"kind": "inspect", "path": base["path"]}).result["facts"]["n_layers"] == 2


def test_an_error_of_the_callers_own_cancels_too(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    def fail(event: dict[str, Any]) -> None:
        raise ZeroDivisionError

    pid = trainer.pid
    with pytest.raises(ZeroDivisionError):
        trainer.run(_long(_train_job(base, reviews, start_blob)), {"state": start_blob}, on_event=fail)
    assert trainer.pid == pid
    assert trainer.run({"kind": "inspect", "path": base["path"]}).result["facts"]["n_layers"] == 2


def test_the_child_gets_no_secret_of_the_platform(trainer: ResidentTrainer) -> None:
    environment = Path(f"/proc/{trainer.pid}/environ").read_bytes()
    assert b"PRELUDE_TRAINING_THREADS=1" in environment
    assert b"DATABASE_URL" not in environment


def test_a_trainer_whose_input_ends_exits_at_once_in_the_middle_of_a_job(
    base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    environment = {**os.environ, "PRELUDE_TRAINING_THREADS": "1", "PRELUDE_TRAINING_DTYPE": "float32"}
    process = subprocess.Popen(
        [sys.executable, "-m", "training_workers.trainer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin is not None
    assert isinstance(process.stdout, io.BufferedReader)
    job = _long(_train_job(base, reviews, start_blob))
    write_frame(process.stdin, {"type": "job", "job_id": 1, "job": job}, {"state": start_blob})  # type: ignore[arg-type]
    while (frame := read_frame(process.stdout)) is not None and frame[0]["phase"] != "training":
        assert frame[0]["event"] == "progress"
    process.stdin.close()
    assert process.wait(5) == 0
    process.stdout.close()


def test_a_killed_trainer_is_reported_and_replaced(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes
) -> None:
    def kill(event: dict[str, Any]) -> None:
        if event["phase"] == "training" and event["step"] == 2:
            assert trainer.pid is not None
            os.kill(trainer.pid, signal.SIGKILL)

    with pytest.raises(TrainerDied, match="signal 9") as caught:
        trainer.run(_long(_train_job(base, reviews, start_blob)), {"state": start_blob}, on_event=kill)
    assert caught.value.exit_code == -signal.SIGKILL
    assert not trainer.is_alive
    assert trainer.pid is None
    assert trainer.run({"kind": "inspect", "path": base["path"]}).result["facts"]["n_layers"] == 2
    assert trainer.is_alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_stops_all_processes_of_a_service_ends_no_job(
    trainer: ResidentTrainer, base: dict[str, str], reviews: list[Example], start_blob: bytes, number: int
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["phase"] == "training" and event["step"] == 2:
            assert trainer.pid is not None
            os.kill(trainer.pid, number)

    answer = trainer.run(_train_job(base, reviews, start_blob), {"state": start_blob}, on_event=stop)
    assert answer.result["metrics"]["n_examples"] == 24


def test_a_trainer_that_does_not_stop_in_time_is_killed(base: dict[str, str]) -> None:
    impatient = ResidentTrainer(grace_seconds=0.0)

    def stop() -> None:
        raise StopJob("no time")

    with pytest.raises(StopJob):
        impatient.run({"kind": "inspect", "path": base["path"]}, beat_seconds=0.01, on_beat=stop)
    assert not impatient.is_alive
    impatient.close()


def test_a_closed_trainer_is_gone_and_closing_twice_does_no_harm(base: dict[str, str]) -> None:
    short_lived = ResidentTrainer()
    assert (short_lived.is_alive, short_lived.pid) == (False, None)
    short_lived.close()
    short_lived.run({"kind": "inspect", "path": base["path"]})
    pid = short_lived.pid
    assert pid is not None
    short_lived.close()
    short_lived.close()
    assert not short_lived.is_alive
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_trainer_does_not_outlive_a_killed_worker(base: dict[str, str]) -> None:
    script = (
        "import os, signal, sys; from training_workers.resident import ResidentTrainer; "
        "trainer = ResidentTrainer(); trainer.run({'kind': 'inspect', 'path': sys.argv[1]}); "
        "print(trainer.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    worker = subprocess.run(
        [sys.executable, "-c", script, base["path"]], check=False, capture_output=True, text=True
    )
    assert worker.returncode == -signal.SIGKILL
    trainer_directory = Path(f"/proc/{int(worker.stdout.split()[-1])}")
    give_up_at = time.monotonic() + 5
    while _is_running(trainer_directory) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert not _is_running(trainer_directory)


def _is_running(directory: Path) -> bool:
    """Whether the process exists and is more than an entry that nobody has waited for."""
    try:
        return (directory / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
