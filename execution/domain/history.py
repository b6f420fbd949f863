"""The log as it is shown: to watchers, in histories, on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson

from execution.domain.events import Event, EventType
from execution.domain.execution import JsonObject
from execution.domain.state import ExecutionState


@dataclass(frozen=True, kw_only=True)
class HistoryItem:
    """One numbered entry of one execution's log."""

    execution_id: UUID
    version: int
    type: str
    occurred_at: datetime
    actor: str | None
    data: JsonObject

    @property
    def is_final(self) -> bool:
        """Is it the `completed` event, after which nothing follows unless somebody retries?"""
        return self.type == EventType.COMPLETED

    def to_event(self) -> Event:
        """The entry as the event that `evolve` takes."""
        return Event(EventType(self.type), self.version, self.occurred_at, self.data, self.actor)

    def to_json(self) -> dict[str, Any]:
        """The entry as one JSON object."""
        return {
            "execution_id": str(self.execution_id),
            "version": self.version,
            "type": self.type,
            "occurred_at": self.occurred_at.isoformat(),
            "actor": self.actor,
            "data": self.data,
        }

    @cached_property
    def encoded(self) -> bytes:
        """That object as JSON text: made once, however many it is sent to."""
        return orjson.dumps(self.to_json())


@dataclass(frozen=True, kw_only=True)
class StateHistoryItem:
    """One change of state. `version` and `occurred_at` are the log's; they are None until it is recorded."""

    execution_id: UUID
    previous_state: ExecutionState | None
    new_state: ExecutionState
    reason: str | None = None
    version: int | None = None
    occurred_at: datetime | None = None
    actor: str | None = None

    @classmethod
    def from_history(cls, item: HistoryItem) -> StateHistoryItem:
        """The change of state that a `state_changed` entry records."""
        return cls.from_event(item.execution_id, item.to_event())

    @classmethod
    def from_event(cls, execution_id: UUID, event: Event) -> StateHistoryItem:
        """The same from the event itself."""
        previous = event.data["previous_state"]
        return cls(
            execution_id=execution_id,
            previous_state=ExecutionState(previous) if previous else None,
            new_state=ExecutionState(event.data["new_state"]),
            reason=event.data.get("reason"),
            version=event.version,
            occurred_at=event.occurred_at,
            actor=event.actor,
        )
