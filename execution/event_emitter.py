"""`ExecutionEventEmitter`: turns what is in the log into messages on the bus, one method per type.

In production the relay drives it. No other code publishes: what is not in the log was not said.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

from events.bus import EventBus
from events.envelope import DATA_VERSIONS, Envelope
from events.facts import FACTS, CompletedFact, Fact, ProgressFact, StateChangedFact
from execution.domain.events import EventType
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.repository.event_log import LoggedEvent

SOURCE = "/execution-service"
"""Who says so, where the settings do not name anybody else."""

_OWN_FIELDS = {
    EventType(event_type): tuple(name for name in model.model_fields if name not in Fact.model_fields)
    for event_type, model in FACTS.items()
}
_TIMES = frozenset({"started_at", "completed_at"})


class ExecutionEventEmitter:
    """Publishes execution events."""

    def __init__(self, event_bus: EventBus, source: str = SOURCE) -> None:
        self.event_bus = event_bus
        self._source = source

    async def emit(self, logged: LoggedEvent) -> None:
        """Publish one entry of the log."""
        await self.emit_all((logged,))

    async def emit_all(self, entries: Iterable[LoggedEvent]) -> None:
        """Publish entries of the log, in order; returns when the bus has all of them.

        Raises:
            EventBusError: it may have some of them; they have to be published again before what follows.
        """
        await self.event_bus.publish([envelope_of(logged, self._source) for logged in entries])

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


def payload_of(logged: LoggedEvent) -> dict[str, Any]:
    """The same as JSON holds it. Made by hand: a validated model of each entry would halve the relay's rate."""
    event = logged.event
    data = event.data
    payload: dict[str, Any] = {
        "execution_id": str(logged.execution_id),
        "agent_id": logged.agent_id,
        "task_id": logged.task_id,
        "version": event.version,
        "occurred_at": _written(event.occurred_at),
    }
    for name in _OWN_FIELDS[event.type]:
        value = data.get(name)
        payload[name] = _written(value) if name in _TIMES and value is not None else value
    return payload


def envelope_of(logged: LoggedEvent, source: str) -> Envelope:
    """An entry of the log as it leaves the service."""
    event = logged.event
    payload = payload_of(logged)
    return Envelope(
        type=event.type,
        source=source,
        subject=payload["execution_id"],
        sequence=event.version,
        time=event.occurred_at,
        data=payload,
        tenant=logged.tenant_id,
        traceparent=logged.trace_context,
        data_version=DATA_VERSIONS.get(event.type, 1),
    )


@lru_cache(maxsize=4_096)
def _written(time: datetime | str) -> str:
    """ISO 8601 with a Z; in the log it is written with an offset, which is always that of UTC. Kept, because events
    that are written together have the same.
    """
    text = time if isinstance(time, str) else time.isoformat()
    return text.replace("+00:00", "Z")


def _identity(execution: Execution) -> dict[str, Any]:
    return {
        "execution_id": execution.id,
        "agent_id": execution.agent_id,
        "task_id": execution.task_id,
        "version": execution.version,
        "occurred_at": execution.updated_at,
    }
