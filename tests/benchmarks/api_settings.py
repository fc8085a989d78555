"""The platform's settings, and the bare views beside its own."""

from typing import Any

from deploy.settings import *  # noqa: F403 - Django reads names from this module
from deploy.settings.django import DATABASES

ROOT_URLCONF = "tests.benchmarks.bare_views"

# A bare view has no tenant in force: its connections see all rows from their start on.
_BARE: dict[str, Any] = dict(DATABASES["default"])
_BARE["OPTIONS"] = {**_BARE["OPTIONS"], "options": "-c role=prelude_platform"}
DATABASES["bare"] = _BARE
