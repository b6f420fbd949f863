"""Fills a database with finished executions, each with the row and the events of one that really ran."""

from __future__ import annotations

from uuid import UUID

import asyncpg

PER_STATEMENT = 50_000
STATEMENT_SECONDS = 120.0

# The ids inside the documents stay those of the original, which changes neither their size nor their number.
_COPY = """
WITH copy AS (
    INSERT INTO executions
    SELECT made.* FROM generate_series($2::int, $3::int) AS number
    CROSS JOIN executions AS original
    CROSS JOIN LATERAL jsonb_populate_record(
        original, jsonb_build_object('id', uuidv7(make_interval(secs => -0.05 * number)))
    ) AS made
    WHERE original.id = $1
    RETURNING id
)
INSERT INTO execution_events (execution_id, version, type, occurred_at, tenant_id, actor, command_id, data)
SELECT copy.id, event.version, event.type, event.occurred_at, event.tenant_id, event.actor, event.command_id, event.data
FROM copy CROSS JOIN execution_events AS event WHERE event.execution_id = $1
"""


async def add_copies(url: str, original: UUID, copies: int) -> None:
    """So many copies of a finished execution, older than it, 50 ms apart by their ids; then vacuumed."""
    connection = await asyncpg.connect(url, command_timeout=STATEMENT_SECONDS)
    try:
        for newest in range(1, copies + 1, PER_STATEMENT):
            await connection.execute(_COPY, original, newest, min(newest + PER_STATEMENT - 1, copies))
        await connection.execute("VACUUM (ANALYZE) executions, execution_events")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
