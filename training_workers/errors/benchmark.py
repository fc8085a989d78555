"""Refusals of the benchmark."""

from tenants.errors import PreludeError


class BenchmarkFilesMissing(PreludeError):
    """Texts or a base model that the benchmark needs are not there."""

    code = "benchmark_files_missing"

    def __init__(self, *, path: str) -> None:
        super().__init__(
            f"The benchmark finds nothing at {path}; `python -m deploy.demo.materials` puts its texts and "
            "base models there."
        )


class BenchmarkRunning(PreludeError):
    """Another benchmark writes to the same results."""

    code = "benchmark_running"

    def __init__(self, *, path: str) -> None:
        super().__init__(
            f"Another benchmark writes to {path}. Wait for it, give another --output, or take --report-only."
        )


class SplitImpossible(PreludeError):
    """Rows that cannot be split among the benchmark's tenants as asked."""

    code = "split_impossible"

    def __init__(self, *, split: str, reason: str) -> None:
        super().__init__(f"The rows cannot be split as {split}: {reason}.")
