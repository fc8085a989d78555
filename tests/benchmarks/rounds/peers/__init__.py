"""The peers: their own documented way to do the same round, run in environments of their own."""
