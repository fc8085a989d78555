"""What every fuzzing of the API shares: the committed document, what it promises, and requests that are helped on."""

import json
import random
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as rules
from schemathesis import checks

from tests.factories import SPECIFICATION

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "openapi.json"
PROMISES = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.unsupported_method,
]
PRECONDITIONS = ("If-Match", "If-None-Match")  # made up, they let nothing through
MOSTLY = 0.8  # the share of requests, or of their ids, that is helped to reach further
SOUND = {
    "specification": SPECIFICATION,
    "url": "https://hooks.example.com/prelude",
    "kinds": ["round.published"],
}
Ids = dict[str, list[str]]


def closed_document() -> dict[str, Any]:
    """The document as it binds us: clients have to bear new fields, but none is answered that is not declared."""
    document: dict[str, Any] = json.loads(DOCUMENT.read_text())
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return document


def by_a_fixed_seed(*, n_examples: int) -> rules:
    """How many requests are made up for each operation.

    Some still differ from run to run: Hypothesis takes constants from those of our modules that are loaded by then.
    """
    return rules(
        max_examples=n_examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def help_on(case: schemathesis.Case[Any], ids: Ids, chance: random.Random, *, surely: bool) -> None:
    """Put ids of rows, and values that are sound, in the place of most of those that were made up.

    Surely: of all of them, and ids that the caller may see. Few cases are made where there is little to make up.
    """
    for values in (case.path_parameters, case.query, case.body):
        _fill(values, ids, chance, surely=surely)
    if surely or chance.random() < MOSTLY:
        for name in PRECONDITIONS:
            case.headers.pop(name, None)


def _fill(values: object, ids: Ids, chance: random.Random, *, surely: bool) -> None:
    if not isinstance(values, MutableMapping):
        return
    for name in values:
        found = ids.get(name.removesuffix("_id")) if isinstance(name, str) else None
        if found and surely:
            values[name] = found[0]
        elif found and chance.random() < MOSTLY:
            values[name] = chance.choice(found)
        elif name in SOUND and (surely or chance.random() < MOSTLY):
            values[name] = SOUND[name]
