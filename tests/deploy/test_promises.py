"""The page of promises names what is there."""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "docs" / "promises.md"


def test_every_test_that_is_named_exists_and_every_promise_names_one() -> None:
    promises = [
        line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "held by" not in line
    ]
    assert promises
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)`", promise)
        assert named, f"nothing holds: {promise}"
        missing = [name for name in named if not (PROJECT / name).is_file()]
        assert not missing, f"{missing} of: {promise}"
