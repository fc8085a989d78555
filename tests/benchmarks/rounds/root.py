"""The root of a session's processes: `python root.py COMMAND…`. Whatever loses its parent becomes its child.

So nothing that a session starts is lost to the count of CPU seconds, or survives it.
"""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the command, wait for it, and end all that it left."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    session = subprocess.Popen(sys.argv[1:], env={**os.environ, "BENCH_ROOT": str(os.getpid())})
    while True:
        pid, status = os.wait()
        if pid == session.pid:
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
