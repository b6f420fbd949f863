"""What a load used of the machine, and which part of it was the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUSY = 0.9
"""A process (or the machine) this busy has nothing left to give; the rest is lost between its turns."""
MOSTLY = 0.5
"""Nobody is busy, but the log is being written and synced for most of the time."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Processor time in seconds, of a load that took `seconds`; the service's by the role of each process."""

    executions: int
    seconds: float
    processors: int
    service: Mapping[str, float]
    postgres: float
    busiest_postgres: float
    others: float
    wal_bytes: int
    wal_io_seconds: float

    @property
    def per_second(self) -> float:
        return self.executions / self.seconds

    @property
    def all_service(self) -> float:
        return sum(self.service.values())

    def to_json(self) -> dict[str, Any]:
        """Per second and per execution; `..._busy` in processors."""
        microseconds = 1_000_000 / self.executions
        return {
            "per_second": round(self.per_second, 1),
            "service_cpu_us": round(self.all_service * microseconds, 1),
            "postgres_cpu_us": round(self.postgres * microseconds, 1),
            "wal_bytes": round(self.wal_bytes / self.executions),
            "service_busy": {role: round(spent / self.seconds, 2) for role, spent in self.service.items()},
            "postgres_busy": round(self.postgres / self.seconds, 2),
            "busiest_postgres_busy": round(self.busiest_postgres / self.seconds, 2),
            "wal_io_busy": round(self.wal_io_seconds / self.seconds, 2),
            "others_busy": round(self.others / self.seconds, 2),
            "bottleneck": bottleneck(self),
        }


def bottleneck(usage: Usage) -> str:
    """What keeps the throughput from being higher; the first that holds.

    The machine first: where all processors are taken, a busy process is no reason to add another one.
    """
    role, busiest = max(usage.service.items(), key=lambda item: item[1])
    if usage.all_service + usage.postgres >= BUSY * usage.processors * usage.seconds:
        return "all processors"
    if busiest >= BUSY * usage.seconds:
        return f"Python in the {role}"
    if usage.busiest_postgres >= BUSY * usage.seconds:
        return "one PostgreSQL process"
    if usage.all_service + usage.postgres + usage.others >= BUSY * usage.processors * usage.seconds:
        return "other programs"
    if usage.wal_io_seconds >= MOSTLY * usage.seconds:
        return "writing and syncing the WAL"
    return "waiting: round trips one after another"
