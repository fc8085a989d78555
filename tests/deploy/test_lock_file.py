"""`requirements.lock`: constraints that hold on any machine."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"^[a-z0-9][a-z0-9._-]*==[^\s+]+( ; .+)?$")


def locked() -> list[str]:
    """The lines that pin something."""
    return [
        line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")
    ]


def test_every_line_pins_one_package_and_names_no_path_index_or_local_build() -> None:
    assert [line for line in locked() if not PINNED.match(line)] == []


def test_no_gpu_package_is_forced_upon_a_machine_without_one() -> None:
    assert [line for line in locked() if line.startswith(("nvidia", "cuda", "triton"))] == []


def test_every_requirement_of_the_project_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    pins = {pin.name: pin for pin in map(Requirement, locked()) if not pin.marker or pin.marker.evaluate()}
    for requirement in map(Requirement, texts):
        [pin] = pins[requirement.name].specifier
        assert requirement.specifier.contains(pin.version), requirement
