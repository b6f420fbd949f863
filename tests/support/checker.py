"""What must hold of a whole database at any time, whatever happened to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import asyncpg

from execution.domain.events import Event, EventType
from execution.domain.evolve import evolve
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState, ExecutionStateTransitionValidator
from execution.repository.records import event_from_row, execution_from_row
from tests.support.stored import AnyConnection, open_transactions
from tests.support.waiting import eventually

_SETTLE_SECONDS = 10.0


async def check_database(url: str) -> Counter[str]:
    """Every execution against its log; returns how many are in which state.

    Versions 1..n without a gap, the fold of the log is the row, every transition is declared, a terminal state is left
    by a retry only, lease epochs never fall; and no session was left inside a transaction.
    """
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            states = await _check_executions(connection)
        await eventually(lambda: _nothing_is_open(connection), within=_SETTLE_SECONDS, what="every transaction ends")
        return states
    finally:
        await connection.close()


async def check_all_ended(url: str) -> Counter[str]:
    """As `check_database`, and nothing is left under way."""
    states = await check_database(url)
    assert all(ExecutionState(state).is_terminal for state in states), f"not everything ended: {dict(states)}"
    return states


async def _check_executions(connection: AnyConnection) -> Counter[str]:
    states: Counter[str] = Counter()
    logs: dict[object, list[Event]] = {}
    for row in await connection.fetch("SELECT * FROM execution_events ORDER BY execution_id, version"):
        logs.setdefault(row["execution_id"], []).append(event_from_row(row))
    for row in await connection.fetch("SELECT * FROM executions"):
        execution = execution_from_row(row)
        check_log(execution, logs.pop(execution.id, []))
        states[execution.state.value] += 1
    assert not logs, f"events without an execution: {sorted(map(str, logs))}"
    return states


def check_log(row: Execution, log: Sequence[Event]) -> None:
    """One execution's row against its log."""
    assert [event.version for event in log] == list(range(1, len(log) + 1)), f"{row.id}: versions have a gap"
    before: Execution | None = None
    for event in log:
        after = evolve(before, event)
        if before is not None:
            _check_step(before, event, after)
        before = after
    assert before == row, f"{row.id}: the fold of its log is not its row"


def _check_step(before: Execution, event: Event, after: Execution) -> None:
    where = f"{before.id} at version {event.version}"
    assert after.lease_epoch >= before.lease_epoch, f"{where}: its lease epoch fell"
    if event.type is EventType.STATE_CHANGED:
        allowed = ExecutionStateTransitionValidator.VALID_TRANSITIONS[before.state]
        assert after.state in allowed, f"{where}: {before.state} was followed by {after.state}"
        assert not before.is_terminal or after.attempt == before.attempt + 1, f"{where}: left its end without a retry"
    else:
        assert after.state is before.state, f"{where}: {event.type} changed its state"


async def _nothing_is_open(connection: AnyConnection) -> bool:
    return await open_transactions(connection) == 0
