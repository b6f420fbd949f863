"""Executions in a real database: submitted and changed as the service does it, and compared with their log."""

from __future__ import annotations

from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from execution.domain.commands import Command
from execution.domain.decide import decide
from execution.domain.evolve import fold
from execution.domain.execution import Execution
from execution.repository.repository import ExecutionRepository
from tests.support.given import Log, submission

AnyConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def submit(repository: ExecutionRepository, *, patience: float | None = None, **changes: Any) -> Execution:
    """A new execution of kind `noop`, PENDING unless `start=False`."""
    events = decide(None, submission(**changes), repository.db.clock.now())
    return await repository.append(None, events, patience=patience)


async def store_log(repository: ExecutionRepository, log: Log) -> Execution:
    """Append a log that was made in memory, decision by decision."""
    execution = None
    for events in log.appends:
        execution = await repository.append(execution, events)
    assert execution is not None
    return execution


async def carry_out(repository: ExecutionRepository, before: Execution, command: Command) -> Execution:
    """Decide a command now and append what comes of it."""
    return await repository.append(before, decide(before, command, repository.db.clock.now()))


async def read(repository: ExecutionRepository, execution_id: UUID) -> Execution:
    """The execution's row, which must exist."""
    execution = await repository.get_by_id(execution_id)
    assert execution is not None
    return execution


async def fold_of_log(repository: ExecutionRepository, execution_id: UUID) -> Execution:
    """The execution as its whole log tells it; its versions must be 1..n."""
    folded: Execution | None = None
    while items := await repository.get_history(execution_id, after_version=folded.version if folded else 0):
        first = folded.version + 1 if folded else 1
        assert [item.version for item in items] == list(range(first, first + len(items)))
        folded = fold([item.to_event() for item in items], folded)
    assert folded is not None
    return folded


async def assert_row_is_fold(repository: ExecutionRepository, execution_id: UUID) -> Execution:
    """The contract of the whole write path; returns the row."""
    row = await read(repository, execution_id)
    assert row == await fold_of_log(repository, execution_id)
    return row


async def versions_by_command(sql: AnyConnection) -> dict[UUID, list[int]]:
    """For each command in the log, the versions it wrote: those of a caller's in one execution, if all is well."""
    rows = await sql.fetch(
        "SELECT command_id, array_agg(version ORDER BY version) AS versions FROM execution_events GROUP BY command_id"
    )
    return {row["command_id"]: row["versions"] for row in rows}


async def kept_with_its_effect(sql: AnyConnection, execution_id: UUID, version: int) -> bytes:
    """The answer kept under the youngest key: the transaction that wrote it must be that of the version's event."""
    written = await sql.fetchval(
        "SELECT xmin::text FROM execution_events WHERE execution_id = $1 AND version = $2", execution_id, version
    )
    (kept,) = await sql.fetch(
        "SELECT xmin::text, body FROM idempotency_keys WHERE answered_at IS NOT NULL ORDER BY created_at DESC LIMIT 1"
    )
    assert kept["xmin"] == written
    return bytes(kept["body"])


async def waiting_sessions(sql: AnyConnection) -> int:
    """How many sessions of this database wait for a lock."""
    await sql.execute("SELECT pg_stat_clear_snapshot()")  # inside a transaction the view would show the same for ever
    waiting: int = await sql.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    return waiting


async def open_transactions(sql: AnyConnection) -> int:
    """Sessions of this database that were left inside a transaction."""
    left_open: int = await sql.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
    )
    return left_open


async def nobody_else_is_connected(sql: AnyConnection) -> bool:
    """Is this the database's only session? One that was closed is seen for a moment yet."""
    return not await sql.fetch(
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def cut_append_lanes(sql: AnyConnection) -> int:
    """Terminate the backends whose last statement was an append; how many there were."""
    cut: int = await sql.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'WITH item AS%'"
    )
    return cut
