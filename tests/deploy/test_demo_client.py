"""What the demo makes once, and goes on with when it is run again."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from deploy.demo.client import Api, find_or_create


class Federations:
    """A platform with one federation in a state."""

    def __init__(self, state: str) -> None:
        self.rows = [{"id": "first", "name": "Reviews", "state": state}]

    def list(self, _path: str) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def post(self, _path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.rows.append({"id": "second", "state": "preparing", **body})
        return self.rows[-1]


@pytest.mark.parametrize(
    ("state", "name", "found"),
    [
        ("ready", "Reviews", "first"),
        ("ready", "Topics", "second"),
        (
            "refused",
            "Reviews",
            "second",
        ),  # such as where its files were cut off: a run with whole ones goes on
    ],
)
def test_what_was_refused_is_made_again(state: str, name: str, found: str) -> None:
    api = cast("Api", Federations(state))
    assert find_or_create(api, "/federations", key="name", body={"name": name})["id"] == found
