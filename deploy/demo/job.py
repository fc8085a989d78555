"""The main job, driven over HTTP as a user drives it: set up, run rounds, report."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy.demo.keys import Keys
from deploy.demo.paths import Paths, shown
from deploy.demo.plot import draw
from deploy.demo.report import build_report
from deploy.demo.results import Results, collect
from deploy.demo.rounds import run_rounds
from deploy.demo.setting_up import set_up
from deploy.demo.show import show_results, watching


class Stopwatch:
    """Seconds by step of the demo."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, step: str) -> Iterator[None]:
        """Count the block's seconds as those of `step`."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - started


@dataclass(frozen=True)
class Job:
    """The main job against one platform; its results stay below `paths.demo`."""

    platform_url: str
    keys: Keys
    data: Mapping[str, Path]
    paths: Paths
    console: Console

    def run(self, *, n_rounds: int, stopwatch: Stopwatch) -> None:
        """Set up what is missing, run rounds, and leave table, report, plot and versions.

        Raises:
            PreludeError: whatever kept a step from its end; what was reached stays and is gone on with.
        """
        with ExitStack() as resources:
            with stopwatch.timing("set_up"):
                arrangement = set_up(
                    self.platform_url, self.keys, self.data, resources=resources, tell=self.console.print
                )
            with stopwatch.timing("rounds"), watching(self.console) as watcher:
                run_rounds(arrangement, n_rounds, watcher)
            with stopwatch.timing("collect"):
                results = collect(arrangement, self.paths.versions)
        self._leave(results, stopwatch)

    def _leave(self, results: Results, stopwatch: Stopwatch) -> None:
        """Print the table and write report and plot."""
        paths, tenants = self.paths, list(self.data)
        report = build_report(results, stopwatch.seconds)
        paths.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        draw(results, tenants, paths.plot)
        show_results(self.console, results, report, tenants)
        self.console.print(
            f"Report: {shown(paths.report)}, plot: {shown(paths.plot)}, versions: {shown(paths.versions)}"
        )
