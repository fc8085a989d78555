"""Named places at which the fault loops end a process with SIGKILL. Off unless `PRELUDE_FAIL_POINTS` names a directory.

A file in that directory arms the point of its name: the first process that gets there renames the file and dies, so
that the process that takes its place passes. `make faults` does this; nothing else should.
"""

import logging
import os
import random
import signal
from enum import StrEnum
from pathlib import Path
from typing import Final

VARIABLE: Final = "PRELUDE_FAIL_POINTS"
REACHED: Final = ".reached"
SCATTER: Final = "scatter"  # while a file of this name is there, every message is sent so often, in no order
N_SCATTERED: Final = 5
SCATTERED_OVER_SECONDS: Final = 1.0
SUBMITTED: Final = "submitted"  # details of COMMITTED and SENT: what the coordinator is told of
SCORED: Final = "scored"


class FailPoint(StrEnum):
    """Steps of a round; each name says what has just been done."""

    # Web, and the ticker where a schedule opens the round.
    REQUEST_RECEIVED = "request_received"
    ROUND_OPENED = "round_opened"  # not committed
    ROLLED_BACK = "rolled_back"  # not committed
    REQUEST_COMMITTED = "request_committed"  # not answered
    SCHEDULE_LOCKED = "schedule_locked"
    TAKEN_BACK = "taken_back"  # an expired lease, not committed
    # Any process that sends; the detail is the kind of row that waits for a worker, or the coordinator's task.
    COMMITTED = "committed"  # not sent
    SENT = "sent"
    # Training worker.
    RECEIVED = "received"
    CLAIMED = "claimed"  # the detail is the row's kind
    TRAINER_STARTED = "trainer_started"
    JOB_GIVEN = "job_given"
    UPDATE_RECEIVED = "update_received"
    UPDATE_STORED = "update_stored"
    UPDATE_SUBMITTED = "update_submitted"  # not committed
    EVALUATION_COMPLETED = "evaluation_completed"  # not committed
    # Trainer.
    TRAINING_BEGUN = "training_begun"
    STEP_TAKEN = "step_taken"  # the detail is the step's number
    JOB_DONE = "job_done"  # not told to the worker; the detail is the job's kind
    # Coordinator.
    CHECK_BEGUN = "check_begun"
    VERDICT_WRITTEN = "verdict_written"  # not committed
    VERDICT_COMMITTED = "verdict_committed"
    TRAINING_CLOSED = "training_closed"  # not committed
    AGGREGATION_PLANNED = "aggregation_planned"
    UPDATE_LOADED = "update_loaded"
    CANDIDATE_SUMMED = "candidate_summed"
    CANDIDATE_STORED = "candidate_stored"
    CANDIDATE_ADOPTED = "candidate_adopted"  # not committed
    GATE_DECIDED = "gate_decided"  # not committed
    ROUND_CONCLUDED = "round_concluded"


_DIRECTORY: Final = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
if _DIRECTORY is not None:
    logging.getLogger(__name__).warning("Fail points are on: %s=%s", VARIABLE, _DIRECTORY)


def reach(point: FailPoint, detail: str = "") -> None:
    """End this process here if the point is armed, for every detail or for this one."""
    if _DIRECTORY is not None and _is_armed(_DIRECTORY / point, detail):
        os.kill(os.getpid(), signal.SIGKILL)


def delays(usual_seconds: float | None) -> list[float | None]:
    """In how many seconds each copy of a message is to be sent: one, as usual, unless messages are scattered."""
    if _DIRECTORY is None or not (_DIRECTORY / SCATTER).exists():
        return [usual_seconds]
    return [random.uniform(0, SCATTERED_OVER_SECONDS) for _ in range(N_SCATTERED)]  # noqa: S311 - no secret


def _is_armed(armed: Path, detail: str) -> bool:
    try:
        if armed.read_text() not in ("", detail):
            return False
        armed.rename(armed.with_suffix(REACHED))  # of several processes here, one succeeds
    except FileNotFoundError:
        return False
    return True
