"""What must hold of a whole database at any time, whatever happened to it: the checker that runs after every fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import UUID

import asyncpg

from execution.domain.events import EventType
from execution.domain.evolve import evolve
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.repository.records import event_from_row, execution_from_row
from tests.support.log_checker import Appends, check_log
from tests.support.progress_checker import check_progress_or_reason
from tests.support.stored import AnyConnection, open_transactions
from tests.support.waiting import eventually

_SETTLE_SECONDS = 10.0
AT_ONCE = 200
"""So many executions are read together, each with its whole log: what is checked may be larger than memory."""


@dataclass(kw_only=True)
class Acknowledged:
    """What a client was told of one execution.

    `answers`: the executions that its commands returned. `entered`: how often its commands brought it into a state.
    """

    answers: list[Execution] = field(default_factory=list)
    entered: Mapping[ExecutionState, int] = field(default_factory=dict)


async def check_database(url: str, *, within: float = _SETTLE_SECONDS) -> Counter[str]:
    """Every execution against its log; returns how many are in which state.

    Versions are 1..n without a gap, and their fold is the row. Every transition is declared, an end is left by a retry
    only. No worker wrote but the holder, lease epochs never fell. What has not ended moves on or has a reason not to,
    and no session stays inside a transaction: both may take `within` seconds to become so.
    """
    async with _connected(url) as connection:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            states = await _check_executions(connection)
        await check_progress_or_reason(connection, within=within)
        await eventually(lambda: _nothing_is_open(connection), within=within, what="every transaction ends")
        return states


async def check_all_ended(url: str) -> Counter[str]:
    """As `check_database`, and nothing is left under way."""
    states = await check_database(url)
    assert all(ExecutionState(state).is_terminal for state in states), f"not everything ended: {dict(states)}"
    return states


async def check_acknowledged(url: str, acknowledged: Mapping[UUID, Acknowledged]) -> None:
    """Every acknowledged command has its effect, once: the log contains each answer, and no change a second time."""
    ids = list(acknowledged)
    async with _connected(url) as connection:
        for first in range(0, len(ids), AT_ONCE):
            together = ids[first : first + AT_ONCE]
            logs = await _logs(connection, together)
            for execution_id in together:
                assert execution_id in logs, f"{execution_id}: acknowledged, and not in the log"
                _check_facts(execution_id, acknowledged[execution_id], logs[execution_id])


def _check_facts(execution_id: UUID, facts: Acknowledged, appends: Appends) -> None:
    events = [event for events in appends for event in events]
    folds: list[Execution] = []
    for event in events:
        folds.append(evolve(folds[-1] if folds else None, event))
    for answer in facts.answers:
        assert answer.version <= len(folds), f"{execution_id}: version {answer.version} was acknowledged, and is lost"
        assert folds[answer.version - 1] == answer, f"{execution_id}: not what version {answer.version} was said to be"
    entered = Counter(event.data["new_state"] for event in events if event.type is EventType.STATE_CHANGED)
    for state, times in facts.entered.items():
        assert entered[state] == times, f"{execution_id}: {state} {entered[state]} times instead of {times}"


async def _check_executions(connection: AnyConnection) -> Counter[str]:
    states: Counter[str] = Counter()
    cursor = await connection.cursor("SELECT * FROM executions ORDER BY id")
    while rows := await cursor.fetch(AT_ONCE):
        logs = await _logs(connection, [row["id"] for row in rows])
        for execution in map(execution_from_row, rows):
            check_log(execution, logs.get(execution.id, []))
            states[execution.state.value] += 1
    orphans = await connection.fetch(
        "SELECT DISTINCT execution_id FROM execution_events AS event"
        " WHERE NOT EXISTS (SELECT FROM executions WHERE id = event.execution_id) ORDER BY execution_id LIMIT 10"
    )
    assert not orphans, f"events without an execution: {[str(row['execution_id']) for row in orphans]}"
    return states


async def _logs(connection: AnyConnection, ids: Sequence[UUID]) -> dict[UUID, Appends]:
    """The logs of these executions, append by append: each append is a transaction of its own."""
    rows = await connection.fetch(
        "SELECT execution_id, version, type, occurred_at, actor, xid, data FROM execution_events"
        " WHERE execution_id = ANY($1) ORDER BY execution_id, version",
        ids,
    )
    logs: dict[UUID, Any] = {}
    for (execution_id, _), together in groupby(rows, key=lambda row: (row["execution_id"], row["xid"])):
        logs.setdefault(execution_id, []).append([event_from_row(row) for row in together])
    return logs


async def _nothing_is_open(connection: AnyConnection) -> bool:
    return await open_transactions(connection) == 0


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[AnyConnection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
