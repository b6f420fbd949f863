"""Between rows and domain objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pgproto import pgproto

from execution.domain.events import Event, EventType
from execution.domain.execution import NO_PROGRESS, Execution, Progress
from execution.domain.history import HistoryItem
from execution.domain.retry import RetryPolicy
from execution.domain.state import STATE_BY_WORD, ExecutionState
from execution.errors import DatabaseError

_TYPES = {one.value: one for one in EventType}
"""By text: an enum's own look-up is a Python function."""

_text_of_id = pgproto.UUID.__str__
"""The driver gives ids of a class of its own, which the encoder does not know. Of anything else this is a TypeError."""

Row = Mapping[str, Any] | asyncpg.Record


def execution_from_row(row: Row) -> Execution:
    """The execution a row of `executions` holds."""
    values = dict(row.items())
    values["state"] = STATE_BY_WORD[values["state"]]
    values["result"] = from_json(values["result"])
    values["error"] = from_json(values["error"])
    return _execution(values)


def claimed_execution(row: Row, worker_id: UUID, *, idempotent: bool) -> Execution:
    """The execution a row of `claim_executions` tells of."""
    values = dict(row.items())
    values["state"] = ExecutionState.RUNNING
    values["worker_id"] = worker_id
    values["idempotent"] = idempotent
    values["updated_at"] = values["started_at"]
    return _execution(values)


def _execution(values: dict[str, Any]) -> Execution:
    percentage = values.pop("progress_percentage")
    message = values.pop("progress_message")
    context = values.pop("progress_context")
    values["progress"] = (
        Progress(percentage=percentage, message=message, context=from_json(context) or {})
        if percentage or message is not None or context
        else NO_PROGRESS
    )
    values["parameters"] = from_json(values["parameters"])
    policy = from_json(values["retry_policy"])
    values["retry_policy"] = RetryPolicy.from_json(policy) if policy else None
    return Execution(**values)


def event_from_row(row: Row) -> Event:
    """The event a row of `execution_events` holds."""
    return event_of(row["type"], row["version"], row["occurred_at"], row["data"], row["actor"])


def event_of(event_type: str, version: int, occurred_at: datetime, data: Any, actor: str | None) -> Event:
    """The event of these columns of `execution_events`."""
    return Event(_TYPES[event_type], version, occurred_at, from_json(data), actor)


def history_item_from_row(row: Row) -> HistoryItem:
    """The same event as people and clients see it."""
    return HistoryItem(
        execution_id=row["execution_id"],
        version=row["version"],
        type=row["type"],
        occurred_at=row["occurred_at"],
        actor=row["actor"],
        data=from_json(row["data"]),
    )


def to_json(value: Any) -> str | None:
    """A JSON text for a `jsonb` parameter, times and ids in it as texts; None stays NULL."""
    return None if value is None else orjson.dumps(value, default=_text_of_id).decode()


def events_to_json(execution_id: UUID, events: Iterable[Event]) -> str:
    """The events of one append as its statement takes them.

    Raises:
        DatabaseError: they hold what JSON cannot say.
    """
    try:
        return orjson.dumps([[event.type, event.data] for event in events], default=_text_of_id).decode()
    except orjson.JSONEncodeError as error:
        raise DatabaseError(f"Appending to execution {execution_id}", str(error)) from None


def from_json(text: Any) -> Any:
    """The value of a `jsonb` column, whether the driver gave its text or its value."""
    return orjson.loads(text) if isinstance(text, str) else text
