"""Directories for files that only pass through, which are removed even where the process that made one was killed.

Each is locked by the process that uses it, and the kernel lets a lock go with its process, however that ends: whoever
gets the lock may remove the directory. The system's temporary directory has to be of a file system that knows locks.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "prelude-staged-"


@contextmanager
def directory() -> Iterator[Path]:
    """A new directory, which is gone after the block."""
    place, lock = _make()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)


def sweep() -> None:
    """Remove what dead processes of this user left in the system's temporary directory."""
    for place in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or no directory
            lock = _lock(place)
            if lock is not None:
                shutil.rmtree(place, ignore_errors=True)
                os.close(lock)


def _make() -> tuple[Path, int]:
    while True:
        place = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _lock(place)
        if lock is not None:
            return place, lock
        # Another process has swept it away between the two lines.


def _lock(place: Path) -> int | None:
    """What holds this directory from now on; None where another process holds it, or it is no more."""
    with ExitStack() as closing, suppress(BlockingIOError, FileNotFoundError):
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        closing.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(descriptor)
        if held.st_uid == os.geteuid() and os.path.samestat(held, os.lstat(place)):
            closing.pop_all()
            return descriptor
    return None
