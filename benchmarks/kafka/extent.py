"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much of each measure, and how often."""

    rounds: int
    """Of throughput."""
    published: int
    """Executions whose events are published in one round, eight events each."""
    paced_seconds: float
    """Of latency."""
    steady_seconds: float
    """Of lag."""
    pairs: int
    """Of rounds beside a relay and without one."""
    executions: int
    """Run in one of these."""


FULL = Extent(rounds=3, published=12_000, paced_seconds=15.0, steady_seconds=8.0, pairs=9, executions=25_000)
QUICK = Extent(rounds=1, published=2_000, paced_seconds=3.0, steady_seconds=2.0, pairs=1, executions=4_000)
