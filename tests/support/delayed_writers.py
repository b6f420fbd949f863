"""Writers whose transactions commit late, out of order, or not at all: what a reader of the log has to cope with."""

from __future__ import annotations

import asyncio
from random import Random
from uuid import UUID

import asyncpg

from execution.ids import new_id
from tests.support.stored import AnyConnection

_INSERT = """
    INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, data)
    SELECT id, version, 'agent.execution.progress', clock_timestamp(), 'default',
        jsonb_build_object('percentage', 1.0, 'message', NULL, 'context', '{}'::jsonb)
    FROM unnest($1::uuid[], $2::int[]) AS t (id, version)
"""
_EXECUTIONS_EACH = 20
_EVENTS_AT_ONCE = 10
_ROLLED_BACK = 0.2


class Rollback(Exception):  # noqa: N818 - a signal within this module
    """The transaction of this round is not to be committed."""


class DelayedWriters:
    """Some writers, each with executions of its own, until they have committed so many events together.

    They wake nobody, like a process that ends right after its commit: a reader finds out by polling.
    """

    def __init__(self, url: str, chance: Random, *, events: int, writers: int = 16, delay: float = 0.02) -> None:
        self._url = url
        self._chance = chance
        self._events = events
        self._writers = writers
        self._delay = delay
        self.committed = 0
        self.rolled_back = 0

    async def run(self) -> None:
        """Write until there is enough."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._writers):
                group.create_task(self._write())

    async def _write(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            versions = {new_id(): 0 for _ in range(_EXECUTIONS_EACH)}
            while self.committed < self._events:
                await self._write_some(connection, versions)
        finally:
            await connection.close()

    async def _write_some(self, connection: AnyConnection, versions: dict[UUID, int]) -> None:
        chosen = self._chance.choices(list(versions), k=self._chance.randint(1, _EVENTS_AT_ONCE))
        after = dict(versions)
        rows = []
        for one in chosen:
            after[one] += 1
            rows.append((one, after[one]))
        try:
            async with connection.transaction():
                await connection.execute(_INSERT, [row[0] for row in rows], [row[1] for row in rows])
                await asyncio.sleep(self._chance.random() * self._delay)
                if self._chance.random() < _ROLLED_BACK:
                    raise Rollback
        except Rollback:
            self.rolled_back += 1
        else:
            versions.update(after)
            self.committed += len(rows)


async def log_of(sql: AnyConnection) -> set[tuple[str, int]]:
    """Everything in the log: execution and version."""
    rows = await sql.fetch("SELECT execution_id, version FROM execution_events")
    return {(str(row["execution_id"]), row["version"]) for row in rows}
