"""Rounds of a real platform under faults, judged one by one: `make faults`, and a short version in `make test`."""
