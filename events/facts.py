"""The payloads of the events that leave this service. Consumers may rely on every field here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """What every event says: of which execution, at which version of it, and when it happened."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    event_type: ClassVar[str]

    execution_id: UUID
    agent_id: str | None
    task_id: str | None
    version: int
    occurred_at: datetime


class StateChangedFact(Fact):
    """`agent.execution.state_changed`. `previous_state` is null for an execution's first event."""

    event_type = "agent.execution.state_changed"

    previous_state: str | None
    new_state: str
    reason: str | None


class ProgressFact(Fact):
    """`agent.execution.progress`. `percentage` is 0 to 100; `context` is the whole context, not the difference."""

    event_type = "agent.execution.progress"

    percentage: float
    message: str | None
    context: dict[str, Any]


class CompletedFact(Fact):
    """`agent.execution.completed`: it reached a terminal state. `duration_seconds` is of the last attempt."""

    event_type = "agent.execution.completed"

    state: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None


class PauseRequestedFact(Fact):
    """`agent.execution.pause_requested`: a running execution was asked to pause, or no longer."""

    event_type = "agent.execution.pause_requested"

    requested: bool
    reason: str | None


class RecordedFact(Fact):
    """`agent.execution.recorded`: something was said of it that changes no state. What `data` holds goes by `name`."""

    event_type = "agent.execution.recorded"

    name: str
    data: dict[str, Any]


FACTS: dict[str, type[Fact]] = {
    fact.event_type: fact for fact in (StateChangedFact, ProgressFact, CompletedFact, PauseRequestedFact, RecordedFact)
}
"""Every event type and the model of its payload."""
