"""The worker's handle on its trainer: a child process that holds the base model and does one job at a time.

No torch here. The child is a process of its own because a fork after torch has computed hangs, because its
death must not take the worker with it, and because the worker has to keep its lease alive while the child
computes.
"""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import structlog

from tenants.failpoints import VARIABLE, FailPoint, reach
from training_workers.errors import FrameBroken, TrainerDied, TrainerFailed, TrainerLost, WorkerStalled
from training_workers.frames import read_frame, write_frame
from training_workers.trainer import STACK_SIGNAL

PROJECT_ROOT = Path(__file__).resolve().parents[1]
# What the child needs of the environment; the platform's secrets are none of it.
ENVIRONMENT_NAMES = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", VARIABLE)
ENVIRONMENT_PREFIXES = ("PRELUDE_TRAINING_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "TORCH", "LC_", "PYTHON")
CLOSING_SECONDS = 5.0
STALL_SECONDS = 600.0
STACK_SECONDS = 1.0
# How much of what a trainer wrote last is kept: a stack of a model's layers fits.
MAX_TAIL_LINES = 40
MAX_TAIL_LINE_BYTES = 300

log = structlog.get_logger(__name__)
Frame = tuple[dict[str, Any], dict[str, bytes]]


class StopJob(Exception):
    """Raised by `on_beat` or `on_event` to call the running job off."""


@dataclass(frozen=True)
class TrainerResult:
    """A finished job's answer."""

    result: dict[str, Any]
    blobs: Mapping[str, bytes]


@dataclass(frozen=True)
class _Child:
    """A running trainer; `frames` gets what it sends, and None once it has closed its side.

    `tail` is what it wrote last on standard error, complete once `teller` has ended.
    """

    process: "subprocess.Popen[bytes]"
    input: BinaryIO
    frames: "queue.Queue[Frame | None]"
    tail: deque[str]
    teller: threading.Thread


class ResidentTrainer:
    """Starts the trainer at the first job and keeps it between jobs; ends it when it is silent for `stall_seconds`.

    Call `run` from a thread that outlives the trainer: on Linux the child dies with the thread that started
    it.
    """

    def __init__(self, *, grace_seconds: float = 5.0, stall_seconds: float = STALL_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        self._stall_seconds = stall_seconds
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
            WorkerStalled: it was silent for too long, and was ended; the next job starts a new one.
            FrameBroken: the job is larger than a trainer takes.
        """
        with self._one_job:
            child = self._ready_child()
            self._job_id += 1
            child.tail.clear()  # what it wrote in another job is not this one's fault
            self._send(child, {"type": "job", "job_id": self._job_id, "job": dict(job)}, blobs)
            reach(FailPoint.JOB_GIVEN)
            try:
                return self._follow(child, on_event, beat_seconds, on_beat)
            except (TrainerFailed, TrainerLost):
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
        # One that hangs reads nothing, and a write to it would never end.
        watch = threading.Timer(self._stall_seconds, child.process.kill)
        watch.daemon = True
        watch.start()
        began_at = time.monotonic()
        try:
            write_frame(child.input, message, blobs)
        except (BrokenPipeError, ValueError) as error:
            if isinstance(error, ValueError) and child.process.poll() is None:
                raise
            is_stalled = time.monotonic() - began_at >= self._stall_seconds
            raise (self._stall(child) if is_stalled else self._death(child)) from error
        finally:
            watch.cancel()

    def _follow(
        self,
        child: _Child,
        on_event: Callable[[dict[str, Any]], None],
        beat_seconds: float,
        on_beat: Callable[[], None],
    ) -> TrainerResult:
        heard_at = time.monotonic()
        beat_due_at = heard_at + beat_seconds
        while True:
            look_at = min(beat_due_at, heard_at + self._stall_seconds)
            frame = self._next_frame(child, timeout=max(0.0, look_at - time.monotonic()))
            if frame is None:
                # Only now that nothing was waiting: a beat may take long, and what came meanwhile counts.
                if time.monotonic() - heard_at >= self._stall_seconds:
                    raise self._stall(child)
            else:
                heard_at = time.monotonic()
                message, blobs = frame
                if message["event"] == "done":
                    return TrainerResult(result=message["result"], blobs=blobs)
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
        except TrainerLost:
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
        return TrainerDied(exit_code=child.process.returncode, log_tail=self._forget(child))

    def _stall(self, child: _Child) -> WorkerStalled:
        """Ends a trainer that makes no progress, once it has written down where it is."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.send_signal(STACK_SIGNAL)
            child.process.wait(STACK_SECONDS)
        child.process.kill()
        child.process.wait()
        return WorkerStalled(seconds=self._stall_seconds, log_tail=self._forget(child))

    def _forget(self, child: _Child) -> list[str]:
        """Lets go of a trainer that has ended. Returns what it wrote last."""
        _close_input(child)
        self._child = None
        child.teller.join(1.0)  # a process of its own that it left behind may hold the pipe open
        return list(child.tail)


def _spawn() -> _Child:
    process = subprocess.Popen(
        [sys.executable, "-m", "training_workers.trainer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    frames: queue.Queue[Frame | None] = queue.Queue()
    threading.Thread(target=_read_frames, args=(cast(BinaryIO, process.stdout), frames), daemon=True).start()
    tail: deque[str] = deque(maxlen=MAX_TAIL_LINES)
    teller = threading.Thread(target=_tell, args=(cast(BinaryIO, process.stderr), tail), daemon=True)
    teller.start()
    log.info("training_workers.trainer_started", pid=process.pid)
    return _Child(
        process=process, input=cast(BinaryIO, process.stdin), frames=frames, tail=tail, teller=teller
    )


def _read_frames(output: BinaryIO, frames: "queue.Queue[Frame | None]") -> None:
    try:
        while (frame := read_frame(output)) is not None:
            frames.put(frame)
    except FrameBroken as error:
        log.warning("training_workers.trainer_frame_broken", reason=str(error))
    finally:
        output.close()
        frames.put(None)


def _tell(errors: BinaryIO, tail: deque[str]) -> None:
    """Passes on what the trainer writes on standard error, and keeps the end of it."""
    with errors:
        while line := errors.readline(MAX_TAIL_LINE_BYTES):
            tail.append(line.decode(errors="replace").replace("\0", "").rstrip())
            # Where nothing can be written, as on a full disk, the trainer must not be held up.
            with contextlib.suppress(OSError):
                os.write(2, line)


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
