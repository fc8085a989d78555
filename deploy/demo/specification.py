"""What the demo's tenants agree on."""

from collections.abc import Mapping
from typing import Any, Final

from federation.specification import EXAMPLE

FEDERATION_NAME: Final = "Sentiment of short texts"

TENANT_NAMES: Final[Mapping[str, str]] = {
    "movies": "Movies",
    "shop": "Shop",
    "newspaper": "Newspaper",
    "tweets": "Tweets",
}

SPECIFICATION: Final[dict[str, Any]] = {
    **EXAMPLE.as_json(),
    # Three rounds, as people watch them: longer ones, with the scores before and after each tenant's training.
    "training": {"n_steps": 12},
    "evaluation": {},
    "round": {"quorum": 2, "deadline_seconds": 900},
}
