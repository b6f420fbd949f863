"""What must hold of one execution's log, and of its row against it."""

from __future__ import annotations

from collections.abc import Sequence

from execution.domain.events import Event, EventType
from execution.domain.evolve import evolve
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState, ExecutionStateTransitionValidator

Appends = Sequence[Sequence[Event]]
"""A log as it was written: the events of each append together."""


def check_log(row: Execution, appends: Appends) -> None:
    """The row is the fold of its log; every step of the log was allowed; every worker's write was the holder's."""
    versions = [event.version for events in appends for event in events]
    assert versions == list(range(1, len(versions) + 1)), f"{row.id}: versions have a gap: {versions}"
    execution: Execution | None = None
    for events in appends:
        if execution is not None:
            _check_writer(execution, events)
        execution = _after(execution, events)
    assert execution == row, f"{row.id}: the fold of its log is not its row"


def _after(execution: Execution | None, events: Sequence[Event]) -> Execution:
    ended_here = False
    for event in events:
        after = evolve(execution, event)
        if execution is not None:
            _check_step(execution, event, after, ended_here=ended_here)
        ended_here = after.is_terminal and event.type is EventType.STATE_CHANGED
        execution = after
    assert execution is not None, "an append without events"
    assert not ended_here, f"{_where(execution, events[-1])}: its end is not told in a `completed` event"
    return execution


def _check_writer(before: Execution, events: Sequence[Event]) -> None:
    """No worker writes but the holder. (Whose claim it was decides at the append's beginning: it may end the hold.)"""
    first, writer = events[0], events[0].actor or ""
    assert all((event.actor or "") == writer for event in events), (
        f"{_where(before, first)}: one append, several actors"
    )
    if not writer.startswith("worker:"):
        return
    claimed_by = events[0].data.get("worker_id")
    if claimed_by is None:
        assert writer == f"worker:{before.worker_id}", (
            f"{_where(before, first)}: written by {writer}, held by {before.worker_id}"
        )
    else:
        assert before.worker_id is None, f"{_where(before, first)}: claimed while {before.worker_id} held it"
        assert writer == f"worker:{claimed_by}", f"{_where(before, first)}: {writer} claimed it for {claimed_by}"
        assert events[0].data["lease_epoch"] == before.lease_epoch + 1, (
            f"{_where(before, first)}: its claim did not raise the epoch"
        )


def _check_step(before: Execution, event: Event, after: Execution, *, ended_here: bool) -> None:
    assert after.lease_epoch >= before.lease_epoch, f"{_where(before, event)}: its lease epoch fell"
    assert event.occurred_at >= before.updated_at, f"{_where(before, event)}: it is earlier than what went before"
    if event.type is EventType.STATE_CHANGED:
        _check_transition(before, event, after)
    else:
        assert after.state is before.state, f"{_where(before, event)}: {event.type} changed its state"
        assert ended_here == (event.type is EventType.COMPLETED), f"{_where(before, event)}: {event.type} out of place"
        assert ended_here or not before.is_terminal, f"{_where(before, event)}: {event.type} after its end"


def _check_transition(before: Execution, event: Event, after: Execution) -> None:
    allowed = ExecutionStateTransitionValidator.VALID_TRANSITIONS[before.state]
    assert after.state in allowed, f"{_where(before, event)}: {before.state} was followed by {after.state}"
    if before.is_terminal:
        is_retry = after.state is ExecutionState.PENDING and after.attempt == before.attempt + 1
        assert is_retry, f"{_where(before, event)}: left its end without a retry"


def _where(execution: Execution, event: Event) -> str:
    return f"{execution.id} at version {event.version}"
