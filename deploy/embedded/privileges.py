"""As whom PostgreSQL runs: it refuses root, and a quick start in a container is often root."""

import hashlib
import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from deploy.embedded.errors import DirectoryOfAnotherUser
from deploy.embedded.processes import Identity, entering

PUBLIC_PARENT: Final = Path("/var/tmp")  # noqa: S108 - see place_for
DO_NOTHING: Final = "/bin/true"
NOBODY: Final = "nobody"


@cache
def fitting_identity() -> Identity:
    """The user that we are, unless that is root: then a user namespace, or `nobody` where that is refused."""
    if os.geteuid() != 0:
        return Identity.SAME
    can_enter = run_as(Identity.USER_NAMESPACE, [DO_NOTHING]).returncode == 0
    return Identity.USER_NAMESPACE if can_enter else Identity.NOBODY


def run_as(identity: Identity, command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a short command to its end with this identity; its output is captured and its status not judged."""
    entry = entering(identity=identity, death_signal=signal.SIGKILL)
    environment = {"LANG": "C.UTF-8"}
    return subprocess.run(  # noqa: S603 - our own words
        [*entry, *command], capture_output=True, text=True, check=False, cwd="/", env=environment
    )


def place_for(directory: Path, *, identity: Identity) -> Path:
    """Where this identity can keep the data of a directory: in it, or for `nobody` in a place of its own.

    `nobody` cannot pass the private directories above (root's home is one), and opening those would be worse.
    Raises: DirectoryOfAnotherUser.
    """
    if identity is not Identity.NOBODY:
        return directory
    digest = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
    place = PUBLIC_PARENT / f"prelude-{digest}"
    place.mkdir(mode=0o700, exist_ok=True)
    # Anybody may create names in that parent; a directory that somebody else made first is a trap.
    if place.is_symlink() or place.owner() not in (NOBODY, "root"):
        raise DirectoryOfAnotherUser(directory=place, owner=place.owner())
    shutil.chown(place, user=NOBODY)
    return place


def runnable_copy(package: Path, *, probe: str, version: str, place: Path, identity: Identity) -> Path:
    """The package's directory if the identity can run the program `probe` in it, else a copy that it can run.

    The libraries beside the package (`<package>.libs`) come along: the programs find them by a relative path.
    """
    if run_as(identity, [str(package / probe), "--version"]).returncode == 0:
        return package
    copies = place / f"programs-{version}"
    skip = shutil.ignore_patterns("include")
    for source in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, copies / source.name, dirs_exist_ok=True, ignore=skip)
    return copies / package.name
