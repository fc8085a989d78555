"""The peers' environments under var/, each installed once, in the versions that are named here."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.rounds.cases import System

# flwr asks for certificates that are days old, which registries that lag do not have. Nothing here uses them.
OVERRIDES: Final = "certifi>=2026.1\n"
WANTED: Final[Mapping[str, str]] = {"flower": "flwr[simulation]==1.42.0", "nvflare": "nvflare==2.9.0"}
ENVIRONMENT_OF: Final[Mapping[System, str]] = {
    System.FLOWER_SIMULATION: "flower",
    System.FLOWER_DEPLOYED: "flower",
    System.NVFLARE: "nvflare",
}
LISTED: Final = ("flwr", "ray", "nvflare", "grpcio", "numpy")


@dataclass(frozen=True)
class Environment:
    """A peer's Python, or why there is none."""

    python: Path
    versions: str
    problem: str = ""


def install(directory: Path, name: str) -> Environment:
    """Make the environment if it is not there; what the installer said is in `NAME.log`."""
    python = directory / name / "bin" / "python"
    done = directory / name / ".complete"
    log = directory / f"{name}.log"
    if not done.exists() or done.read_text() != WANTED[name]:
        directory.mkdir(parents=True, exist_ok=True)
        overrides = directory / "overrides.txt"
        overrides.write_text(OVERRIDES)
        uv: list[Path | str] = [Path(sys.executable).with_name("uv"), "pip", "install", "--python", python]
        with log.open("w") as output:
            venv: list[Path | str] = [sys.executable, "-m", "venv", directory / name]
            for command in (venv, [*uv, "--overrides", overrides, WANTED[name]]):
                if subprocess.run(command, stdout=output, stderr=output, env=_following_pip()).returncode:
                    return Environment(python, "", problem=f"not installed: {log.read_text()[-600:].strip()}")
        done.write_text(WANTED[name])
    return Environment(python, _versions(python))


def _following_pip() -> dict[str, str]:
    """uv does not read pip's configuration: a registry that is set there holds for both."""
    pip = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    index = subprocess.run(pip, capture_output=True, text=True).stdout.strip()
    return {**os.environ, **({"UV_DEFAULT_INDEX": index} if index else {})}


def _versions(python: Path) -> str:
    script = (
        "from importlib.metadata import version, PackageNotFoundError\n"
        f"for name in {LISTED!r}:\n"
        "    try: print(name, version(name))\n"
        "    except PackageNotFoundError: pass\n"
    )
    found = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout
    return ", ".join(found.splitlines())
