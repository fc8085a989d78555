"""`python -m deploy.embedded up` keeps the platform running; `… manage WORDS` gives it a command of manage.py."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

from deploy.embedded.commands import manage
from deploy.embedded.platform import Platform
from tenants.errors import PreludeError

DEFAULT_DIRECTORY: Final = Path("var/platform")
WELCOME: Final = """
Prelude runs at {url} (console: {url}/console/, API: {url}/api/v1/docs). Logs: {logs}
In another terminal, each shown once:
  .venv/bin/python -m deploy.embedded manage create_operator_key --name me
  .venv/bin/python -m deploy.embedded manage create_operator --email me@example.com
Ctrl-C stops everything; the data stays.
"""
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start everything and keep it running")
    up.add_argument("--gpu-workers", type=_between(1, 64), metavar="N", help="default: one a GPU, or two")
    up.add_argument(
        "--port", type=_between(1, 65_535), metavar="P", help="default: as last time, at first 8000"
    )
    given = commands.add_parser("manage", help="run a command of manage.py on a platform that runs")
    for command in (up, given):
        command.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="default: %(default)s")
    given.add_argument("words", nargs=argparse.REMAINDER, help="such as: create_operator_key --name me")
    return parser.parse_args(arguments)


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"from {least} to {most}, not {text}")
        return int(text)

    return number


def stop_once(_number: int, _frame: FrameType | None) -> None:
    """Leave every `with` block, and let no second Ctrl-C interrupt that."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    options = parse(arguments)
    try:
        return manage(options.directory, options.words) if options.command == "manage" else up(options)
    except PreludeError as refusal:
        print(f"{refusal.code}: {refusal}", file=sys.stderr)
        return 1


def up(options: argparse.Namespace) -> int:
    """Keep the platform running until Ctrl-C or SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for number in STOP_SIGNALS:
        signal.signal(number, stop_once)
    with suppress(KeyboardInterrupt):
        platform = Platform(options.directory, n_gpu_workers=options.gpu_workers, port=options.port)
        with platform:
            print(WELCOME.format(url=platform.url, logs=platform.logs), flush=True)
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
