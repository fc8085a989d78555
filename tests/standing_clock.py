"""The clock by which a process remembers for a moment: it stands still until a test lets time pass."""


class StandingClock:
    """Seconds since the test began, as it says."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
