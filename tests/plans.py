"""How PostgreSQL carried out a statement, from `EXPLAIN (ANALYZE, FORMAT JSON)`."""

from typing import Any


def most_read(node: dict[str, Any]) -> float:
    """The most rows that a part of the plan has met."""
    met: float = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return max([met, *(most_read(part) for part in node.get("Plans", []))])
