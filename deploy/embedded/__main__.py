"""`python -m deploy.embedded up` keeps the platform running until Ctrl-C or SIGTERM."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Final

from deploy.embedded.platform import Platform
from tenants.errors import PreludeError

DEFAULT_DIRECTORY: Final = Path("var/platform")
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything and keep it running")
    up.add_argument("--gpu-workers", type=int, metavar="N", help="default: one a GPU, or two")
    up.add_argument("--port", type=int, metavar="P", help="default: as last time, at first 8000")
    up.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="default: %(default)s")
    return parser.parse_args(arguments)


def stop_once(_number: int, _frame: FrameType | None) -> None:
    """Leave every `with` block, and let no second Ctrl-C interrupt that."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for number in STOP_SIGNALS:
        signal.signal(number, stop_once)
    try:
        with Platform(options.directory, n_gpu_workers=options.gpu_workers, port=options.port) as platform:
            print(
                f"\nPrelude runs at {platform.url}\nLogs: {platform.logs}\nStop it with Ctrl-C.\n", flush=True
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except PreludeError as refusal:
        print(f"{refusal.code}: {refusal}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
