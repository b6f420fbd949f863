"""`evolve`: the state after an event. Together with `decide` this is the whole state machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec.structs import force_setattr

from execution.domain.events import Event, EventType
from execution.domain.execution import NO_PROGRESS, Execution, Progress
from execution.domain.retry import RetryPolicy
from execution.domain.state import STATE_BY_WORD, TERMINAL_STATES, ExecutionState, States


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
        after = Execution(**_created(first))
    else:
        after = execution.copied()
    event = None
    for event in remaining:
        EFFECTS[event.type](after, event)
    if event is not None:
        stamp(after, event)
    return after


def stamp(copy: Execution, last: Event) -> None:
    """After the effects of events on a copy: it is at the version, and of the time, of the last one."""
    force_setattr(copy, "version", last.version)
    force_setattr(copy, "updated_at", last.occurred_at)


_BARE_CHANGE = ("previous_state", "new_state", "reason")
"""What every change of state says; most say nothing else."""
_PLAIN_FACTS = frozenset({"attempt", "rescues", "lease_epoch", "idempotent", "error"})


def _created(event: Event) -> dict[str, Any]:
    """The submission's facts are fields by their names; what it leaves out has its default."""
    fields = dict(event.data["submission"])
    fields["id"] = _id(fields["id"])
    fields["run_at"] = _time(fields["run_at"])
    if "parent_id" in fields:
        fields["parent_id"] = _id(fields["parent_id"])
    if "retry_policy" in fields:
        fields["retry_policy"] = RetryPolicy.from_json(fields["retry_policy"])
    fields["state"] = States.CREATED
    fields["version"] = event.version
    fields["created_at"] = fields["updated_at"] = event.occurred_at
    fields["progress"] = NO_PROGRESS
    return fields


def _state_changed(copy: Execution, event: Event) -> None:
    data = event.data
    previous, new_state = copy.state, STATE_BY_WORD[data["new_state"]]
    force_setattr(copy, "state", new_state)
    # A deadline belongs to a state, so each change of state sets or clears it.
    if "deadline" in data or copy.deadline is not None:
        force_setattr(copy, "deadline", _time(data.get("deadline")))
    if new_state is States.RUNNING:
        _run(copy, event, previous)
    elif new_state is States.PENDING:
        _wait(copy, event)
    elif new_state in TERMINAL_STATES:
        force_setattr(copy, "completed_at", event.occurred_at)
        force_setattr(copy, "worker_id", None)
        force_setattr(copy, "pause_requested", False)
    elif new_state is States.PAUSED:
        force_setattr(copy, "pause_requested", False)
    if len(data) > len(_BARE_CHANGE):
        for fact in data:
            if fact in _PLAIN_FACTS:
                force_setattr(copy, fact, data[fact])


def _run(copy: Execution, event: Event, previous: ExecutionState) -> None:
    """A start names who runs it and starts the clock; going on after a pause does neither."""
    if previous is States.PENDING:
        force_setattr(copy, "worker_id", _id(event.data.get("worker_id")))
        force_setattr(copy, "started_at", event.occurred_at)
        force_setattr(copy, "error", None)


def _wait(copy: Execution, event: Event) -> None:
    """Waiting again: nobody holds it, and a new attempt starts with nothing of the last one but its error."""
    data = event.data
    force_setattr(copy, "worker_id", None)
    force_setattr(copy, "started_at", None)
    force_setattr(copy, "pause_requested", False)
    if "run_at" in data:
        force_setattr(copy, "run_at", _time(data["run_at"]))
    if "attempt" in data and data["attempt"] != copy.attempt:
        force_setattr(copy, "progress", NO_PROGRESS)
        force_setattr(copy, "result", None)
        force_setattr(copy, "completed_at", None)


def _progressed(copy: Execution, event: Event) -> None:
    data = event.data
    progress = Progress(percentage=data["percentage"], message=data["message"], context=data["context"])
    force_setattr(copy, "progress", progress)


def _completed(copy: Execution, event: Event) -> None:
    force_setattr(copy, "result", event.data["result"])
    force_setattr(copy, "error", event.data["error"])


def _pause_requested(copy: Execution, event: Event) -> None:
    force_setattr(copy, "pause_requested", event.data["requested"])


def _recorded(copy: Execution, event: Event) -> None:
    """A fact is of the execution, not in it: nothing but its version changes."""


def _time(value: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _id(value: UUID | str | None) -> UUID | None:
    return UUID(value) if isinstance(value, str) else value


EFFECTS: dict[EventType, Callable[[Execution, Event], None]] = {
    EventType.STATE_CHANGED: _state_changed,
    EventType.PROGRESS: _progressed,
    EventType.COMPLETED: _completed,
    EventType.PAUSE_REQUESTED: _pause_requested,
    EventType.RECORDED: _recorded,
}
"""What an event of each type changes in a copy that nobody else knows yet; `stamp` it after the last one."""
