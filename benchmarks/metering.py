"""Reads, before and after a load, what the service's processes and PostgreSQL have used so far."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import asyncpg
import psutil

from benchmarks.usage import Usage

# Backends hand in these times once a second: up to that much of the end of a load is missing.
_WRITTEN = """
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8 AS wal_bytes,
    (SELECT sum(write_time + fsync_time) / 1000 FROM pg_stat_io WHERE object = 'wal')::float8 AS wal_io_seconds
"""


@dataclass(frozen=True, kw_only=True)
class Meter:
    """What is metered: the service's processes by role, and the server (its first process)."""

    connection: asyncpg.Connection
    server: int
    service: Mapping[str, int]

    async def metered(self, load: Callable[[], Awaitable[int]]) -> Usage:
        """Run the load, which returns how many executions it was."""
        before = await self._read()
        executions = await load()
        after = await self._read()
        postgres = sum(after.postgres.values()) - sum(before.postgres.values())
        service = {role: spent - before.service[role] for role, spent in after.service.items()}
        alive = {pid: spent - before.postgres.get(pid, 0.0) for pid, spent in after.postgres.items()}
        return Usage(
            executions=executions,
            seconds=after.moment - before.moment,
            processors=psutil.cpu_count() or 1,
            service=service,
            postgres=postgres,
            busiest_postgres=max(spent for pid, spent in alive.items() if pid != self.server),
            others=max(0.0, after.machine - before.machine - postgres - sum(service.values())),
            wal_bytes=after.wal_bytes - before.wal_bytes,
            wal_io_seconds=after.wal_io_seconds - before.wal_io_seconds,
        )

    async def _read(self) -> _Reading:
        written = await self.connection.fetchrow(_WRITTEN)
        assert written is not None
        return _Reading(
            moment=time.perf_counter(),
            service={role: _spent(psutil.Process(pid)) for role, pid in self.service.items()},
            postgres=_spent_by_server(psutil.Process(self.server)),
            machine=_spent_by_all(),
            wal_bytes=written["wal_bytes"],
            wal_io_seconds=written["wal_io_seconds"],
        )


@dataclass(frozen=True, kw_only=True)
class _Reading:
    moment: float
    service: dict[str, float]
    postgres: dict[int, float]
    machine: float
    wal_bytes: int
    wal_io_seconds: float


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _spent_by_server(server: psutil.Process) -> dict[int, float]:
    """By process. The first one's includes what those of its processes spent that have ended."""
    times = server.cpu_times()
    spent = {server.pid: times.user + times.system + times.children_user + times.children_system}
    for process in server.children():
        try:
            spent[process.pid] = _spent(process)
        except psutil.NoSuchProcess:
            continue  # ended just now, so the first process has its time
    return spent


def _spent_by_all() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
