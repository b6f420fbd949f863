"""`evolve`: the state after an event. Together with `decide` this is the whole state machine."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from execution.domain.events import Event, EventType
from execution.domain.execution import NO_PROGRESS, Execution, Progress
from execution.domain.retry import RetryPolicy
from execution.domain.state import STATES, TERMINAL_STATES, ExecutionState


def evolve(execution: Execution | None, event: Event) -> Execution:
    """The execution after one more event; None before the first."""
    return fold((event,), execution)


def fold(events: Iterable[Event], execution: Execution | None = None) -> Execution:
    """The execution after all these events, in version order."""
    remaining = iter(events)
    if execution is None:
        first = next(remaining, None)
        if first is None:
            raise ValueError("an execution without events does not exist")
        after = Execution.from_fields(_created(first))
    else:
        after = execution.copied()
    advance(after, remaining)
    return after


def advance(copy: Execution, events: Iterable[Event]) -> None:
    """Bring a copy that nobody else knows yet to the state after these events, in place: one copy does for them all."""
    fields = copy.__dict__
    for event in events:
        fields.update(_CHANGES[event.type](copy, event))


_PLAIN_FACTS = ("attempt", "rescues", "lease_epoch", "idempotent", "error")


def _created(event: Event) -> dict[str, Any]:
    """The submission's facts are fields by their names; what it leaves out has its default."""
    fields = dict(event.data["submission"])
    fields["id"] = _id(fields["id"])
    fields["run_at"] = _time(fields["run_at"])
    if "parent_id" in fields:
        fields["parent_id"] = _id(fields["parent_id"])
    if "retry_policy" in fields:
        fields["retry_policy"] = RetryPolicy.from_json(fields["retry_policy"])
    fields["state"] = ExecutionState.CREATED
    fields["version"] = event.version
    fields["created_at"] = fields["updated_at"] = event.occurred_at
    fields["progress"] = NO_PROGRESS
    return fields


def _state_changed(execution: Execution, event: Event) -> dict[str, Any]:
    data = event.data
    new_state = STATES[data["new_state"]]
    changes: dict[str, Any] = {
        "state": new_state,
        "version": event.version,
        "updated_at": event.occurred_at,
        # A deadline belongs to a state, so each change of state sets or clears it.
        "deadline": _time(data.get("deadline")),
    }
    for fact in _PLAIN_FACTS:
        if fact in data:
            changes[fact] = data[fact]
    if new_state is ExecutionState.RUNNING:
        changes |= _running(execution, event)
    elif new_state is ExecutionState.PENDING:
        changes |= _pending(execution, event)
    elif new_state in TERMINAL_STATES:
        changes |= {"completed_at": event.occurred_at, "worker_id": None, "pause_requested": False}
    elif new_state is ExecutionState.PAUSED:
        changes["pause_requested"] = False
    return changes


def _running(execution: Execution, event: Event) -> dict[str, Any]:
    """A start names who runs it and starts the clock; going on after a pause does neither."""
    if execution.state is not ExecutionState.PENDING:
        return {}
    return {"worker_id": _id(event.data.get("worker_id")), "started_at": event.occurred_at, "error": None}


def _pending(execution: Execution, event: Event) -> dict[str, Any]:
    """Waiting again: nobody holds it, and a new attempt starts with nothing of the last one but its error."""
    changes: dict[str, Any] = {
        "worker_id": None,
        "pause_requested": False,
        "started_at": None,
        "run_at": _time(event.data.get("run_at")) or execution.run_at,
    }
    if event.data.get("attempt", execution.attempt) != execution.attempt:
        changes |= {"progress": NO_PROGRESS, "result": None, "completed_at": None}
    return changes


def _progressed(execution: Execution, event: Event) -> dict[str, Any]:
    data = event.data
    progress = Progress(percentage=data["percentage"], message=data["message"], context=data["context"])
    return {"progress": progress, "version": event.version, "updated_at": event.occurred_at}


def _completed(execution: Execution, event: Event) -> dict[str, Any]:
    return {
        "result": event.data["result"],
        "error": event.data["error"],
        "version": event.version,
        "updated_at": event.occurred_at,
    }


def _pause_requested(execution: Execution, event: Event) -> dict[str, Any]:
    return {
        "pause_requested": event.data["requested"],
        "version": event.version,
        "updated_at": event.occurred_at,
    }


def _time(value: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _id(value: UUID | str | None) -> UUID | None:
    return UUID(value) if isinstance(value, str) else value


_CHANGES = {
    EventType.STATE_CHANGED: _state_changed,
    EventType.PROGRESS: _progressed,
    EventType.COMPLETED: _completed,
    EventType.PAUSE_REQUESTED: _pause_requested,
}
