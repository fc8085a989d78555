"""What becomes of a trainer and of the jobs that it is given."""

import signal
from collections.abc import Sequence

from tenants.errors import PreludeError


class JobCancelled(PreludeError):
    """The job was called off; nothing of it is used."""

    code = "job_cancelled"

    def __init__(self) -> None:
        super().__init__("The job was cancelled before it was done.")


class JobUnknown(PreludeError):
    """The trainer got a job that it does not know, or one without what it needs."""

    code = "job_unknown"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"The trainer cannot take the job: {reason}")


class FrameBroken(PreludeError):
    """The bytes between the worker and its trainer are no frame."""

    code = "frame_broken"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"A frame between the worker and its trainer cannot be read: {reason}")


class TrainerLost(PreludeError):
    """The trainer is gone in the middle of a job; the next job starts a new one.

    `log_tail` is what it wrote last on standard error: for operators, since a library may have quoted its input.
    """

    code = "trainer_lost"

    def __init__(self, text: str, *, log_tail: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.log_tail = list(log_tail)


class TrainerDied(TrainerLost):
    """The trainer's process ended by itself, or was ended from outside."""

    code = "trainer_died"

    def __init__(self, *, exit_code: int | None, log_tail: Sequence[str] = ()) -> None:
        if exit_code is None:
            how = "without an exit code"
        elif exit_code == -signal.SIGKILL:  # so the kernel ends a process that takes the last of the memory
            how = "by signal 9 (killed, perhaps for lack of memory)"
        elif exit_code < 0:
            how = f"by signal {-exit_code}"
        else:
            how = f"with exit code {exit_code}"
        super().__init__(f"The trainer's process ended {how} before its job was done.", log_tail=log_tail)
        self.exit_code = exit_code


class WorkerStalled(TrainerLost):
    """The trainer lived and did nothing, as one that hangs in a library does; its worker has ended it."""

    code = "worker_stalled"

    def __init__(self, *, seconds: float, log_tail: Sequence[str] = ()) -> None:
        super().__init__(
            f"The trainer made no progress for {seconds:g} seconds and was ended.", log_tail=log_tail
        )


class TrainerFailed(PreludeError):
    """The trainer could not do the job: `refusal_code` says why; unexpected is what is no refusal of ours."""

    code = "trainer_failed"

    def __init__(self, *, refusal_code: str, detail: str, is_unexpected: bool) -> None:
        super().__init__(detail)
        self.refusal_code = refusal_code
        self.detail = detail
        self.is_unexpected = is_unexpected
