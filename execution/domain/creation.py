"""The first events of an execution: its submission, as its log will always say it."""

from __future__ import annotations

from datetime import datetime, timedelta
from operator import attrgetter

from execution.domain.commands import Claim, Create
from execution.domain.events import Event, EventType
from execution.domain.execution import JsonObject
from execution.domain.state import States

_OPTIONAL_FIELDS = ("agent_id", "task_id", "schedule_to_start", "start_to_close", "parent_id", "trace_context")
_optional_values = attrgetter(*_OPTIONAL_FIELDS)
_NOT_GIVEN = (None,) * len(_OPTIONAL_FIELDS)
_STATE_CHANGED = EventType.STATE_CHANGED
LONGEST_BEGINNING = 3
"""Events of a creation at most: it exists, it waits, and where a worker starts it at once, it runs."""


def created(command: Create, now: datetime, actor: str | None, claim: Claim | None = None) -> list[Event]:
    """The events of a new execution: it exists, unless `start` is false it waits, and with a claim it runs.

    Raises:
        ValueError: there is a claim, and it does not wait or is not due.
    """
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
    if claim is not None:
        if not command.start or run_at > now:
            raise ValueError("only what waits and is due can be claimed")
        facts = facts_of_claim(claim, 1, command.start_to_close, now)
        run = {"previous_state": States.PENDING, "new_state": States.RUNNING, "reason": None, **facts}
        events.append(Event(_STATE_CHANGED, 3, now, run))
    return events


def facts_of_claim(claim: Claim, lease_epoch: int, start_to_close: float | None, now: datetime) -> JsonObject:
    """What a change to RUNNING sets: who runs it under which lease, and until when."""
    facts: JsonObject = {"worker_id": claim.worker_id, "lease_epoch": lease_epoch, "idempotent": claim.idempotent}
    if start_to_close is not None:
        facts["deadline"] = now + timedelta(seconds=start_to_close)
    return facts
