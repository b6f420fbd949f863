"""Entries of the log as they are read from it, of executions that never were in one."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from execution.domain.events import Event
from execution.repository.event_log import LoggedEvent
from execution.repository.records import to_json


class Facts(Protocol):
    """What is told of an execution with each of its events."""

    @property
    def id(self) -> UUID: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def agent_id(self) -> str | None: ...
    @property
    def task_id(self) -> str | None: ...


def logged_event(execution: Facts, event: Event, trace_context: str | None = None) -> LoggedEvent:
    """The event as an entry of the log."""
    data: Any = to_json(event.data)
    return LoggedEvent(
        execution_id=execution.id,
        version=event.version,
        type=event.type.value,
        occurred_at=event.occurred_at,
        tenant_id=execution.tenant_id,
        actor=event.actor,
        data=data,
        kind=execution.kind,
        agent_id=execution.agent_id,
        task_id=execution.task_id,
        trace_context=trace_context,
    )
