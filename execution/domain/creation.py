"""The first events of an execution: its submission, as its log will always say it."""

from __future__ import annotations

from datetime import datetime, timedelta
from operator import attrgetter

from execution.domain.commands import Create
from execution.domain.events import Event, EventType
from execution.domain.execution import JsonObject
from execution.domain.state import States

_OPTIONAL_FIELDS = ("agent_id", "task_id", "schedule_to_start", "start_to_close", "parent_id", "trace_context")
_optional_values = attrgetter(*_OPTIONAL_FIELDS)
_NOT_GIVEN = (None,) * len(_OPTIONAL_FIELDS)
_STATE_CHANGED = EventType.STATE_CHANGED


def created(command: Create, now: datetime, actor: str | None) -> list[Event]:
    """The events of a new execution: it exists, and unless `start` is false it waits."""
    run_at = max(command.run_at, now) if command.run_at else now
    submission: JsonObject = {
        "id": command.id,
        "tenant_id": command.tenant_id,
        "kind": command.kind,
        "parameters": command.parameters,
        "run_at": run_at,
    }
    if (values := _optional_values(command)) != _NOT_GIVEN:  # most give none
        given = zip(_OPTIONAL_FIELDS, values, strict=True)
        submission.update((name, value) for name, value in given if value is not None)
    if command.priority:
        submission["priority"] = command.priority
    if command.retry_policy:
        submission["retry_policy"] = command.retry_policy.to_json()
    data = {"previous_state": None, "new_state": States.CREATED, "reason": None, "submission": submission}
    events = [Event(_STATE_CHANGED, 1, now, data, actor)]
    if command.start:
        started: JsonObject = {
            "previous_state": States.CREATED,
            "new_state": States.PENDING,
            "reason": None,
        }
        if command.schedule_to_start is not None:
            started["deadline"] = run_at + timedelta(seconds=command.schedule_to_start)
        events.append(Event(_STATE_CHANGED, 2, now, started, actor))
    return events
