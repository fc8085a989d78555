"""Become a supervised child, then turn into the command: `enter.py PARENT DEATH_SIGNAL IDENTITY COMMAND...`.

A script of the standard library alone, because what it does must happen between fork and exec in a process
with one thread: Python's own `preexec_fn` is unsafe in a supervisor that has several.
"""

import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
NOBODY_ID = 65534


def call_libc(name: str, *arguments: int) -> None:
    """Call a function of the C library that returns 0 for success.

    Raises: OSError with the C library's error number.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def enter_user_namespace() -> None:
    """Be `nobody` to oneself and root to the files: PostgreSQL starts, in root's own directories."""
    own_user, own_group = os.getuid(), os.getgid()
    call_libc("unshare", CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY_ID} {own_user} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY_ID} {own_group} 1")


def become_nobody() -> None:
    """Give up root for good, where user namespaces are refused."""
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


def die_with_parent(*, parent_pid: int, death_signal: int) -> None:
    """Ask the kernel for a signal when the supervisor's thread ends, however it ends (Linux only).

    Comes after every change of identity, since those clear the request.
    """
    if sys.platform != "linux":
        return
    call_libc("prctl", PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent_pid:
        raise SystemExit("The supervisor ended before its child began.")


def main(arguments: list[str]) -> None:
    """Enter the identity, tie the life to the parent's, and exec."""
    parent_pid, death_signal, identity, *command = arguments
    if identity == "user_namespace":
        enter_user_namespace()
    elif identity == "nobody":
        become_nobody()
    die_with_parent(parent_pid=int(parent_pid), death_signal=int(death_signal))
    # Python ignores these two; what is ignored stays so across exec, and servers rely on the default.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
