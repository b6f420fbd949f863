"""A batch of appends as its statement and the array parameters of that, one array per column.

Encoding an array costs the driver a good part of a microsecond per element, and that is most of what a batch costs this
process. So nothing travels that PostgreSQL can know: an append's events are one JSON array, from which the statement
takes the version, the parameters and the result; and of the other columns the arrays are as short as they can be.

| array | what the statement makes of it |
|---|---|
| one element per append | each has its own value |
| one element | every append of the batch has this value |
| none (NULL) | no append has a value; where the statement says so: every row keeps the one it has |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from execution.keyed_answer import KeyedAnswer
from execution.repository.append import Append
from execution.repository.records import to_json
from execution.repository.statements import statement

Column = list[Any] | None

NO_EPOCH = -1
"""Stands for a write that is not a worker's: no execution has this epoch."""


def creation(batch: Sequence[Append]) -> list[Any]:
    """The statement that creates them, and its parameters."""
    new = [append.execution for append in batch]
    return _written(
        batch,
        "create_execution",
        "create_executions",
        [one.id for one in new],
        _shared([one.tenant_id for one in new]),
        _shared([one.kind for one in new]),
        _shared([one.state for one in new]),
        _shared([one.priority for one in new]),
        _sparse([one.agent_id for one in new]),
        _sparse([one.task_id for one in new]),
        _sparse([one.parent_id for one in new]),
        _sparse([one.trace_context for one in new]),
        _sparse([to_json(one.retry_policy.to_json()) if one.retry_policy else None for one in new]),
        _sparse([one.schedule_to_start for one in new]),
        _sparse([one.start_to_close for one in new]),
        _sparse([one.deadline for one in new]),
        _sparse([one.run_at if one.run_at != one.created_at else None for one in new]),
        [one.created_at for one in new],
        *_event_arguments(batch),
        _shared([one.worker_id for one in new]),
        _shared([one.idempotent for one in new]),
    )


def change(batch: Sequence[Append]) -> list[Any]:
    """The statement that appends them to what exists, and its parameters."""
    after = [append.execution for append in batch]
    keeps_start = [append.keeps("started_at") for append in batch]
    return _written(
        batch,
        "append_to_execution",
        "append_events",
        [one.id for one in after],
        _shared([append.expected_version for append in batch]),
        _shared([NO_EPOCH if append.lease_epoch is None else append.lease_epoch for append in batch]),
        _shared([one.state for one in after]),
        _shared([one.completed_at is not None for one in after]),
        _shared([one.lease_epoch for one in after]),
        _shared([one.worker_id for one in after]),
        _shared([one.attempt for one in after]),
        _shared([one.rescues for one in after]),
        _shared([one.idempotent for one in after]),
        _shared([one.pause_requested for one in after]),
        _sparse([to_json(one.error) for one in after]),
        _shared([one.progress.percentage for one in after]),
        _shared([one.progress.message for one in after]),
        _sparse([to_json(one.progress.context) if one.progress.context else None for one in after]),
        _sparse([one.deadline for one in after]),
        _sparse([None if append.keeps("run_at") else append.execution.run_at for append in batch]),
        None if all(keeps_start) else [one.started_at for one in after],
        [one.updated_at for one in after],
        *_event_arguments(batch),
        _shared(keeps_start),
    )


def answer_arguments(answers: Sequence[KeyedAnswer]) -> list[Column]:
    """The parameters of `answer_idempotency_keys`, in the order in which all lock them."""
    batch = sorted(answers, key=lambda one: (one.reservation.tenant_id, one.reservation.key))
    return [
        [one.reservation.tenant_id for one in batch],
        [one.reservation.key for one in batch],
        [one.reservation.lock_token for one in batch],
        [one.answer.status for one in batch],
        [to_json(dict(one.answer.headers)) for one in batch],
        [one.answer.body for one in batch],
        [one.is_provisional for one in batch],
    ]


def _written(batch: Sequence[Append], one: str, many: str, *columns: Column) -> list[Any]:
    """By the statement for many, or by the one for a single append, which takes values instead of arrays of one."""
    if len(batch) == 1:
        return [statement(one), *(None if column is None else column[0] for column in columns)]
    return [statement(many), *columns]


def _event_arguments(batch: Sequence[Append]) -> list[Column]:
    """Who caused the events, and the events: every event of one append has its time and its actor in common."""
    return [
        _shared([append.command_id for append in batch]),
        _shared([append.actor for append in batch]),
        [append.events for append in batch],
    ]


def _shared(column: list[Any]) -> Column:
    """The column of a value that most batches have in common."""
    return column[:1] if column.count(column[0]) == len(column) else column


def _sparse(column: list[Any]) -> Column:
    """The column of a value that most appends do not have."""
    return None if column.count(None) == len(column) else column
