"""One supervisor a directory: the kernel's file lock ends with its holder, kill -9 included."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded.errors import PlatformAlreadyRunning


@contextmanager
def sole_supervisor(directory: Path) -> Iterator[None]:
    """Hold the directory's lock.

    Raises: PlatformAlreadyRunning with the process id of the holder.
    """
    with (directory / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise PlatformAlreadyRunning(directory=directory, pid=file.read().strip()) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
