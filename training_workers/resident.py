"""The worker's handle on its trainer: a child process that holds the base model and does one job at a time.

No torch here. The child is a process of its own because a fork after torch has computed hangs, because its
death must not take the worker with it, and because the worker has to keep its lease alive while the child
computes.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import structlog

from tenants.failpoints import VARIABLE, FailPoint, reach
from training_workers.errors import FrameBroken, TrainerDied, TrainerFailed
from training_workers.frames import read_frame, write_frame

PROJECT_ROOT = Path(__file__).resolve().parents[1]
# What the child needs of the environment; the platform's secrets are none of it.
ENVIRONMENT_NAMES = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", VARIABLE)
ENVIRONMENT_PREFIXES = ("PRELUDE_TRAINING_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "TORCH", "LC_", "PYTHON")
CLOSING_SECONDS = 5.0

log = structlog.get_logger(__name__)
Frame = tuple[dict[str, Any], dict[str, bytes]]


class StopJob(Exception):
    """Raised by `on_beat` or `on_event` to call the running job off."""


@dataclass(frozen=True)
class TrainerResult:
    """A finished job's answer."""

    result: dict[str, Any]
    blob: bytes | None


@dataclass(frozen=True)
class _Child:
    """A running trainer; `frames` gets what it sends, and None once it has closed its side."""

    process: "subprocess.Popen[bytes]"
    input: BinaryIO
    frames: "queue.Queue[Frame | None]"


class ResidentTrainer:
    """Starts the trainer at the first job and keeps it between jobs.

    Call `run` from a thread that outlives the trainer: on Linux the child dies with the thread that started
    it.
    """

    def __init__(self, *, grace_seconds: float = 5.0) -> None:
        self._grace_seconds = grace_seconds
        self._child: _Child | None = None
        self._job_id = 0
        self._one_job = threading.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether the trainer's process runs."""
        return self._child is not None and self._child.process.poll() is None

    @property
    def pid(self) -> int | None:
        """The trainer's process, None where there is none."""
        return self._child.process.pid if self._child is not None and self.is_alive else None

    def run(
        self,
        job: Mapping[str, Any],
        blobs: Mapping[str, bytes] | None = None,
        *,
        on_event: Callable[[dict[str, Any]], None] = lambda _event: None,
        beat_seconds: float = 5.0,
        on_beat: Callable[[], None] = lambda: None,
    ) -> TrainerResult:
        """Does one job; `on_event` gets its progress, `on_beat` is called at least every `beat_seconds`.

        Either of the two may raise, `StopJob` or anything else: the job is called off, and the exception goes
        on.

        Raises:
            TrainerFailed: the trainer refused the job or failed.
            TrainerDied: its process ended; the next job starts a new one.
            FrameBroken: the job is larger than a trainer takes.
        """
        with self._one_job:
            child = self._ready_child()
            self._job_id += 1
            self._send(child, {"type": "job", "job_id": self._job_id, "job": dict(job)}, blobs)
            reach(FailPoint.JOB_GIVEN)
            try:
                return self._follow(child, on_event, beat_seconds, on_beat)
            except (TrainerFailed, TrainerDied):
                raise
            except BaseException:
                self._call_off(child)
                raise

    def close(self) -> None:
        """Ends the trainer; it notices that its input is closed, and is killed where it does not."""
        child, self._child = self._child, None
        if child is None:
            return
        _close_input(child)
        try:
            child.process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()

    def _ready_child(self) -> _Child:
        if self._child is None or not self.is_alive:
            self.close()
            self._child = _spawn()
            reach(FailPoint.TRAINER_STARTED)
        return self._child

    def _send(
        self, child: _Child, message: Mapping[str, Any], blobs: Mapping[str, bytes] | None = None
    ) -> None:
        try:
            write_frame(child.input, message, blobs)
        except (BrokenPipeError, ValueError) as error:
            if isinstance(error, ValueError) and child.process.poll() is None:
                raise
            raise self._death(child) from error

    def _follow(
        self,
        child: _Child,
        on_event: Callable[[dict[str, Any]], None],
        beat_seconds: float,
        on_beat: Callable[[], None],
    ) -> TrainerResult:
        beat_due_at = time.monotonic() + beat_seconds
        while True:
            frame = self._next_frame(child, timeout=max(0.0, beat_due_at - time.monotonic()))
            if frame is not None:
                message, blobs = frame
                if message["event"] == "done":
                    return TrainerResult(result=message["result"], blob=blobs.get("result"))
                if message["event"] == "failed":
                    raise TrainerFailed(
                        refusal_code=message["code"],
                        detail=message["detail"],
                        is_unexpected=message["is_unexpected"],
                    )
                on_event(message)
            if time.monotonic() >= beat_due_at:
                on_beat()
                beat_due_at = time.monotonic() + beat_seconds

    def _next_frame(self, child: _Child, *, timeout: float) -> Frame | None:
        """The next frame of this job, None once the time is up or for one of a job called off."""
        try:
            frame = child.frames.get(timeout=timeout)
        except queue.Empty:
            return None
        if frame is None:
            raise self._death(child)
        return frame if frame[0].get("job_id") == self._job_id else None

    def _call_off(self, child: _Child) -> None:
        """Asks the trainer to stop, waits, and kills it where it does not."""
        try:
            self._send(child, {"type": "cancel", "job_id": self._job_id})
            give_up_at = time.monotonic() + self._grace_seconds
            while (left := give_up_at - time.monotonic()) > 0:
                frame = self._next_frame(child, timeout=left)
                if frame is not None and frame[0]["event"] in ("done", "failed"):
                    return
        except TrainerDied:
            return
        log.warning(
            "training_workers.trainer_killed", pid=child.process.pid, reason="it did not stop in time"
        )
        child.process.kill()
        self.close()

    def _death(self, child: _Child) -> TrainerDied:
        """What is known of a trainer that is gone, or that writes no frames any more and is ended here."""
        try:
            child.process.wait(1.0)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        _close_input(child)
        self._child = None
        return TrainerDied(exit_code=child.process.returncode)


def _spawn() -> _Child:
    process = subprocess.Popen(
        [sys.executable, "-m", "training_workers.trainer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    frames: queue.Queue[Frame | None] = queue.Queue()
    threading.Thread(target=_read_frames, args=(cast(BinaryIO, process.stdout), frames), daemon=True).start()
    log.info("training_workers.trainer_started", pid=process.pid)
    return _Child(process=process, input=cast(BinaryIO, process.stdin), frames=frames)


def _read_frames(output: BinaryIO, frames: "queue.Queue[Frame | None]") -> None:
    try:
        while (frame := read_frame(output)) is not None:
            frames.put(frame)
    except FrameBroken as error:
        log.warning("training_workers.trainer_frame_broken", reason=str(error))
    finally:
        output.close()
        frames.put(None)


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ENVIRONMENT_NAMES or name.startswith(ENVIRONMENT_PREFIXES)
    }
    search_path = [str(PROJECT_ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(search_path)}


def _close_input(child: _Child) -> None:
    try:
        child.input.close()
    except BrokenPipeError:
        log.debug("training_workers.trainer_input_was_closed", pid=child.process.pid)
