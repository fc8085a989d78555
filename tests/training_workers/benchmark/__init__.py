"""The benchmark of learning: its plan, and runs on a tiny base."""
