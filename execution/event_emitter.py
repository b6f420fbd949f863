"""`ExecutionEventEmitter`: turns what is in the log into messages on the bus, one method per type.

In production the relay drives it. No other code publishes: what is not in the log was not said.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from msgspec import Raw, defstruct
from msgspec.json import Decoder, Encoder

from events.bus import EventBus
from events.envelope import DATA_VERSIONS, WrittenEnvelope
from events.facts import FACTS, CompletedFact, Fact, ProgressFact, StateChangedFact
from execution.domain.events import EventType
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.repository.event_log import LoggedEvent

SOURCE = "/execution-service"
"""Who says so, where the settings do not name anybody else."""

_NULL = Raw(b"null")
_TIME = datetime | None
_encoder = Encoder()


def _reader(model: type[Fact]) -> Decoder[Any]:
    """What reads the fields of a fact's own from an event's data, as the JSON they are, and leaves the others. Only
    times are read: in the log they stand with an offset, outside with a Z.
    """
    own_fields: list[tuple[str, Any, Any]] = [
        (name, field.annotation, None) if field.annotation == _TIME else (name, Raw, _NULL)
        for name, field in model.model_fields.items()
        if name not in Fact.model_fields
    ]
    return Decoder(defstruct(model.__name__, own_fields, frozen=True, gc=False))


_READERS = {event_type: _reader(model) for event_type, model in FACTS.items()}


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


def document_of(logged: LoggedEvent) -> bytes:
    """The same as JSON. What the log holds of it is passed on as it stands, and never made into objects: a validated
    model of each entry would halve the relay's rate, and so would a dictionary.
    """
    own = _encoder.encode(_READERS[logged.type].decode(logged.data))
    return b'{"execution_id":"%b","agent_id":%b,"task_id":%b,"version":%d,"occurred_at":%b,%b' % (
        str(logged.execution_id).encode(),
        _text(logged.agent_id),
        _text(logged.task_id),
        logged.version,
        _encoder.encode(logged.occurred_at),
        own[1:],
    )


def envelope_of(logged: LoggedEvent, source: str) -> WrittenEnvelope:
    """An entry of the log as it leaves the service."""
    return WrittenEnvelope(
        type=logged.type,
        source=source,
        subject=str(logged.execution_id),
        sequence=logged.version,
        time=logged.occurred_at,
        document=document_of(logged),
        tenant=logged.tenant_id,
        traceparent=logged.trace_context,
        data_version=DATA_VERSIONS.get(logged.type, 1),
    )


def _text(value: str | None) -> bytes:
    return b"null" if value is None else _encoder.encode(value)


def _identity(execution: Execution) -> dict[str, Any]:
    return {
        "execution_id": execution.id,
        "agent_id": execution.agent_id,
        "task_id": execution.task_id,
        "version": execution.version,
        "occurred_at": execution.updated_at,
    }
