"""`ExecutionEventEmitter`: turns what is in the log into messages on the bus, one method per type.

In production the relay drives it. No other code publishes: what is not in the log was not said.
"""

from __future__ import annotations

from typing import Any

from events.bus import EventBus
from events.facts import FACTS, CompletedFact, Fact, ProgressFact, StateChangedFact
from execution.domain.events import EventType
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.repository.event_log import LoggedEvent


class ExecutionEventEmitter:
    """Publishes execution events."""

    def __init__(self, event_bus: EventBus) -> None:
        self.event_bus = event_bus

    async def emit(self, logged: LoggedEvent) -> None:
        """Publish one entry of the log."""
        await self._publish(fact_of(logged))

    async def emit_state_changed(
        self, execution: Execution, previous_state: ExecutionState | None, reason: str | None = None
    ) -> None:
        """Publish that the execution went from `previous_state` to the state it has."""
        facts = {"previous_state": previous_state, "new_state": execution.state, "reason": reason}
        await self._publish(StateChangedFact(**_identity(execution), **facts))

    async def emit_progress_updated(self, execution: Execution) -> None:
        """Publish the progress the execution has."""
        progress = execution.progress
        facts = {"percentage": progress.percentage, "message": progress.message, "context": progress.context}
        await self._publish(ProgressFact(**_identity(execution), **facts))

    async def emit_execution_completed(self, execution: Execution) -> None:
        """Publish what came of a terminal execution."""
        facts = {
            "state": execution.state,
            "result": execution.result,
            "error": execution.error,
            "started_at": execution.started_at,
            "completed_at": execution.completed_at,
            "duration_seconds": execution.duration_seconds,
        }
        await self._publish(CompletedFact(**_identity(execution), **facts))

    async def _publish(self, fact: Fact) -> None:
        await self.event_bus.publish_event(fact.event_type, fact.model_dump(mode="json"))


def fact_of(logged: LoggedEvent) -> Fact:
    """What an entry of the log tells other services: the fields of its type, and nothing else (no parameters)."""
    event = logged.event
    model = FACTS[EventType(event.type)]
    own_fields = model.model_fields.keys() - Fact.model_fields.keys()
    return model(
        execution_id=logged.execution_id,
        agent_id=logged.agent_id,
        task_id=logged.task_id,
        version=event.version,
        occurred_at=event.occurred_at,
        **{name: event.data.get(name) for name in own_fields},
    )


def _identity(execution: Execution) -> dict[str, Any]:
    return {
        "execution_id": execution.id,
        "agent_id": execution.agent_id,
        "task_id": execution.task_id,
        "version": execution.version,
        "occurred_at": execution.updated_at,
    }
