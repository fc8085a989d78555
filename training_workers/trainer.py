"""The trainer: a resident child process, one job at a time, spoken to over standard input and output.

Run as `python -m training_workers.trainer` by `training_workers.resident`; see `frames.py` for the bytes. It
gets `{"type": "job", "job_id": …, "job": {"kind": …}}` and `{"type": "cancel", "job_id": …}`, and answers
with frames that carry the `job_id` and an `event`: `progress`, then `done` (with `result`) or `failed`
(`code`, `detail`). When its input ends, its worker is gone, and it exits at once.
"""

import ctypes
import faulthandler
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from tenants.errors import PreludeError
from tenants.failpoints import FailPoint, reach
from training_workers.base_models import inspect_directory
from training_workers.errors import FrameBroken
from training_workers.frames import read_frame, write_frame

if TYPE_CHECKING:
    from training_workers.jobs import Workshop

UNEXPECTED_CODE = "trainer_error"
# At which the trainer writes its stack to standard error, wherever it is: names and lines, no values.
STACK_SIGNAL = signal.SIGUSR1
PR_SET_PDEATHSIG = 1
# Texts of other exceptions may quote what was being worked on, and a tenant's rows are quoted nowhere.
QUOTABLE_ERRORS = (RuntimeError, MemoryError, OSError)
MAX_QUOTED_CHARACTERS = 300


class Inbox:
    """Reads frames in a thread of its own, so that a cancel is noticed in the middle of a job."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._jobs: queue.Queue[tuple[int, dict[str, Any], dict[str, bytes]]] = queue.Queue()
        self._cancelled_id = 0

    def start(self) -> None:
        """Begins to read."""
        threading.Thread(target=self._read, daemon=True).start()

    def next_job(self) -> tuple[int, dict[str, Any], dict[str, bytes]]:
        """Waits for a job: its id, what it is, and its blobs."""
        return self._jobs.get()

    def is_cancelled(self, job_id: int) -> bool:
        """Whether this job was called off; ids only ever grow."""
        return job_id <= self._cancelled_id

    def _read(self) -> None:
        # By os._exit: the main thread may be deep in a product of matrices, and nobody waits for it.
        try:
            while (frame := read_frame(self._source)) is not None:
                message, blobs = frame
                if message["type"] == "cancel":
                    self._cancelled_id = message["job_id"]
                else:
                    self._jobs.put((message["job_id"], message["job"], blobs))
        except FrameBroken as error:
            sys.stderr.write(f"{error}\n")
            os._exit(2)
        except BaseException as error:  # noqa: BLE001 - out of memory, say: a trainer that hears nothing is of no use
            _tell_uncaught(type(error), error.__traceback__)
            os._exit(3)
        os._exit(0)


def main() -> None:
    """Serves jobs until the input ends."""
    output = _claim_output()
    _die_with_parent()
    _tell_of_faults()
    # A terminal's interrupt reaches the whole group, and who stops a service tells all of its processes. The worker
    # decides when its trainer ends: after its work.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    inbox = Inbox(os.fdopen(os.dup(0), "rb"))
    inbox.start()
    while True:
        _serve(inbox, output, *inbox.next_job())


@cache
def _workshop() -> "Workshop":
    """Made at the first job that needs torch, whose import takes seconds: inspecting a directory does not."""
    from training_workers.jobs import Workshop

    return Workshop()


def _serve(inbox: Inbox, output: BinaryIO, job_id: int, job: dict[str, Any], blobs: dict[str, bytes]) -> None:
    def report(event: dict[str, Any]) -> None:
        write_frame(output, {"job_id": job_id, "event": "progress", **event})

    try:
        result, made = _do(job, blobs, report, should_stop=lambda: inbox.is_cancelled(job_id))
    except PreludeError as refusal:
        write_frame(output, _failure(job_id, refusal.code, str(refusal)))
    except Exception as error:  # noqa: BLE001 - the worker must hear of every failure, and the trainer lives on
        sys.stderr.write("".join(traceback.format_tb(error.__traceback__)))
        write_frame(output, _failure(job_id, UNEXPECTED_CODE, _short_text(error), is_unexpected=True))
    else:
        reach(FailPoint.JOB_DONE, str(job["kind"]))
        write_frame(output, {"job_id": job_id, "event": "done", "result": result}, made)


def _do(
    job: dict[str, Any],
    blobs: dict[str, bytes],
    report: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> tuple[dict[str, Any], Mapping[str, bytes]]:
    if job.get("kind") == "inspect" and "path" in job:
        facts = inspect_directory(Path(job["path"]), on_file=lambda: report({"phase": "reading"}))
        return {"facts": facts.to_dict()}, {}
    return _workshop().do(job, blobs, report=report, should_stop=should_stop)


def _failure(job_id: int, code: str, detail: str, *, is_unexpected: bool = False) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "event": "failed",
        "code": code,
        "detail": detail,
        "is_unexpected": is_unexpected,
    }


def _short_text(error: Exception) -> str:
    name = type(error).__name__
    if not isinstance(error, QUOTABLE_ERRORS):
        return f"The trainer met {name}."
    return f"The trainer met {name}: {str(error)[:MAX_QUOTED_CHARACTERS]}"


def _claim_output() -> BinaryIO:
    """Keeps standard output for frames; what any library prints goes to standard error."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return output


def _die_with_parent() -> None:
    """On Linux the kernel ends this process with its worker, even if no thread of it ever runs again."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _tell_of_faults() -> None:
    """What ends the process, or holds it up, is told by where it happened: an exception's text may quote a row."""
    faulthandler.enable()
    faulthandler.register(STACK_SIGNAL, all_threads=False)
    sys.excepthook = lambda kind, _, trace: _tell_uncaught(kind, trace)


def _tell_uncaught(kind: type[BaseException], trace: TracebackType | None) -> None:
    sys.stderr.write("".join(traceback.format_tb(trace)) + f"{kind.__name__}\n")


if __name__ == "__main__":
    main()
