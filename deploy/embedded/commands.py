"""`manage.py` on an embedded platform: the same commands, with the environment that its processes have."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from deploy.embedded import layout
from deploy.embedded.environment import inherited
from deploy.embedded.errors import PlatformNeverStarted
from deploy.embedded.private import write_private

FILE: Final = "environment.json"


def keep_environment(directory: Path, variables: Mapping[str, str]) -> None:
    """Keep what the platform's processes read, for commands that are given beside it."""
    write_private(directory / FILE, json.dumps(variables, indent=2))


def manage(directory: Path, words: Sequence[str]) -> NoReturn:
    """Become `manage.py` with these words. Raises PlatformNeverStarted."""
    path = directory.resolve() / FILE
    if not path.exists():
        raise PlatformNeverStarted(directory=directory)
    environment = {**inherited(), **json.loads(path.read_text())}
    os.execve(layout.MANAGE[0], [*layout.MANAGE, *words], environment)  # noqa: S606 - no shell, our own program
