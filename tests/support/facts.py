"""Whole events, as the service would publish them, of executions that never were."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from events.envelope import Envelope
from events.facts import FACTS

PROGRESS = "agent.execution.progress"
AT = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
_NAMES = UUID("01970000-0000-7000-8000-000000000000")
_DATA: dict[str, dict[str, Any]] = {
    "agent.execution.state_changed": {"previous_state": None, "new_state": "CREATED", "reason": None},
    PROGRESS: {"percentage": 40.0, "message": "page 4", "context": {"page": 4}},
    "agent.execution.completed": {
        "state": "COMPLETED",
        "result": {"pages": 10},
        "error": None,
        "started_at": "2025-06-01T11:59:00Z",
        "completed_at": "2025-06-01T12:00:00Z",
        "duration_seconds": 60.0,
    },
    "agent.execution.pause_requested": {"requested": True, "reason": None},
    "agent.execution.recorded": {"name": "step.started", "data": {"step": 1}},
}


def execution_called(name: str) -> str:
    """The id of an execution, the same for the same name."""
    return str(uuid5(_NAMES, name))


def fact_payload(
    execution: str = "one", version: int = 1, *, event_type: str = PROGRESS, **data: Any
) -> dict[str, Any]:
    """The data of an event, all of it."""
    assert event_type in FACTS
    return {
        "execution_id": execution_called(execution),
        "agent_id": None,
        "task_id": None,
        "version": version,
        "occurred_at": AT.isoformat().replace("+00:00", "Z"),
        **_DATA[event_type],
        **data,
    }


def fact_envelope(
    execution: str = "one",
    version: int = 1,
    *,
    event_type: str = PROGRESS,
    traceparent: str | None = None,
    **data: Any,
) -> Envelope:
    """The event, as the relay hands it to the bus."""
    payload = fact_payload(execution, version, event_type=event_type, **data)
    return Envelope(
        type=event_type,
        source="/test",
        subject=payload["execution_id"],
        sequence=version,
        time=AT,
        data=payload,
        tenant="default",
        traceparent=traceparent,
    )
