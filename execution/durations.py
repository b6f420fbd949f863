"""Durations counted by bucket: what a histogram is made of."""

from __future__ import annotations

from bisect import bisect_left


class Durations:
    """How many durations lay within each bound, in seconds. `counts` has one more, for those beyond the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds
