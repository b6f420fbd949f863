"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much of each measure, and how often."""

    rounds: int
    published: int
    """Executions whose events are published in one round, eight events each."""
    paced_seconds: float
    executions: int
    """Run in one round, beside a relay and without one."""


FULL = Extent(rounds=3, published=12_000, paced_seconds=15.0, executions=40_000)
QUICK = Extent(rounds=1, published=2_000, paced_seconds=3.0, executions=4_000)
