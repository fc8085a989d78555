"""Where the demo keeps its files: all of them below one directory, `var/` by default."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Paths:
    """The demo's files and directories below `var`."""

    var: Path

    @property
    def packages(self) -> Path:
        """The packages that hold the base model and the texts, as downloaded."""
        return self.var / "packages"

    @property
    def base_models(self) -> Path:
        """The root of base models that the embedded platform reads."""
        return self.platform / "base_models"

    @property
    def platform(self) -> Path:
        """The embedded platform's own data, the same that `make up` goes on with."""
        return self.var / "platform"

    @property
    def demo(self) -> Path:
        """What the demo leaves for people: data, versions, report and plot."""
        return self.var / "demo"

    @property
    def data(self) -> Path:
        """One file of examples a tenant."""
        return self.demo / "data"

    @property
    def texts(self) -> Path:
        """The benchmark's texts: a directory a task, a file a domain."""
        return self.var / "benchmark" / "texts"

    @property
    def versions(self) -> Path:
        """The prefix versions, downloaded and unpacked."""
        return self.demo / "versions"

    @property
    def keys(self) -> Path:
        """The API keys, which are shown only once, for the next run."""
        return self.demo / "state.json"

    @property
    def report(self) -> Path:
        """Scores, bytes and seconds as JSON."""
        return self.demo / "report.json"

    @property
    def plot(self) -> Path:
        """Scores by version as a picture."""
        return self.demo / "rounds.png"


def shown(path: Path) -> str:
    """A path for people and reports: from the project's root where it lies below it."""
    resolved = path.resolve()
    return str(resolved.relative_to(PROJECT) if resolved.is_relative_to(PROJECT) else resolved)
