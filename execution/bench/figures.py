"""How much is measured, and what comes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, TypeAlias

Sampler: TypeAlias = Callable[[int], Awaitable[list[float]]]
"""Milliseconds that each of so many executions took, one after the other."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is measured."""

    executions: int
    idle_samples: int
    rounds: int
    queued: int
    idle_seconds: float


FULL = Extent(executions=40_000, idle_samples=1_000, rounds=3, queued=10_000, idle_seconds=60.0)
QUICK = Extent(executions=4_000, idle_samples=100, rounds=1, queued=10_000, idle_seconds=10.0)


@dataclass(frozen=True, kw_only=True)
class Against:
    """The same measure of the service and of the floor, each measured more than once."""

    service: list[float]
    floor: list[float]

    @property
    def medians(self) -> tuple[float, float]:
        """Of service and floor."""
        return median(self.service), median(self.floor)

    @property
    def p99s(self) -> tuple[float, float]:
        """Of service and floor."""
        return quantiles(self.service, n=100)[-1], quantiles(self.floor, n=100)[-1]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What came out. Throughput: one value per round; latencies in milliseconds: one per execution."""

    noop: Against
    progress: Against
    idle: Against
    across: Against
    worker_rss_mib: float
    idle_queries_per_minute: float

    def to_json(self) -> dict[str, Any]:
        """The figures as one JSON object, with the ratios they are for."""
        figures: dict[str, float] = {}
        for name, throughput in (("noop", self.noop), ("progress", self.progress)):
            figures |= _pair(f"{name}_per_second", f"{name}_floor_per_second", f"{name}_ratio", throughput.medians)
        for name, latency in (("idle", self.idle), ("across", self.across)):
            figures |= _pair(f"{name}_p50_ms", f"{name}_floor_p50_ms", f"{name}_p50_ratio", latency.medians)
            figures |= _pair(f"{name}_p99_ms", f"{name}_floor_p99_ms", f"{name}_p99_ratio", latency.p99s)
        figures["worker_rss_mib"] = self.worker_rss_mib
        figures["idle_queries_per_minute"] = self.idle_queries_per_minute
        return {name: round(value, 3) for name, value in figures.items()}


def _pair(service_name: str, floor_name: str, ratio_name: str, pair: tuple[float, float]) -> dict[str, float]:
    service, floor = pair
    return {service_name: service, floor_name: floor, ratio_name: service / floor}
