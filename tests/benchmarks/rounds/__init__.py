"""The same no-op round on Prelude and on the field's platforms: `python -m tests.benchmarks.rounds`."""
