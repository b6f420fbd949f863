"""A batch of appends as its statement and the parameters of that: one array per column, or of one append its values.

Encoding an array costs the driver a good part of a microsecond per element, and that is most of what a batch costs this
process. So nothing travels that PostgreSQL can know: an append's events are one JSON array, from which the statement
takes the version, the parameters and the result; its time is a number, which costs a third of a time; and of the other
columns the arrays are as short as they can be. The columns come in three groups:

| group | the array | what the statement makes of it |
|---|---|---|
| each append's own | one element per append | each has its value |
| shared as a rule | one element, or one per append | every append of the batch has this value |
| rare | none (NULL), or one per append | no append has a value; where the statement says so, every row keeps its own |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from execution.keyed_answer import KeyedAnswer
from execution.repository.append import Append
from execution.repository.records import to_json
from execution.repository.statements import statement

Values = tuple[Any, ...]

NO_EPOCH = -1
"""Stands for a write that is not a worker's: no execution has this epoch."""
_EACH, _SHARED_BY_CREATIONS, _SHARED_BY_CHANGES = 3, 11, 18
"""Where the groups end."""


def creation(batch: Sequence[Append]) -> list[Any]:
    """The statement that creates them, and its parameters."""
    return _query("create_execution", "create_executions", batch, _values_of_creation, _SHARED_BY_CREATIONS)


def change(batch: Sequence[Append]) -> list[Any]:
    """The statement that appends them to what exists, and its parameters."""
    return _query("append_to_execution", "append_events", batch, _values_of_change, _SHARED_BY_CHANGES)


def answer_arguments(answers: Sequence[KeyedAnswer]) -> list[list[Any]]:
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


def _query(
    one: str, many: str, batch: Sequence[Append], values: Callable[[Append], Values], shared_until: int
) -> list[Any]:
    if len(batch) == 1:
        return [statement(one), *values(batch[0])]
    columns = list(zip(*map(values, batch), strict=True))
    return [
        statement(many),
        *columns[:_EACH],
        *map(_shared, columns[_EACH:shared_until]),
        *map(_sparse, columns[shared_until:]),
    ]


def _values_of_creation(append: Append) -> Values:
    new = append.execution
    return (
        new.id,
        new.created_at.timestamp(),
        append.events,
        # shared as a rule
        new.tenant_id,
        new.kind,
        new.state,
        new.priority,
        new.idempotent,
        append.command_id,
        append.actor,
        new.worker_id,
        # rare
        new.agent_id,
        new.task_id,
        new.parent_id,
        new.trace_context,
        to_json(new.retry_policy.to_json()) if new.retry_policy else None,
        new.schedule_to_start,
        new.start_to_close,
        new.deadline,
        new.run_at if new.run_at != new.created_at else None,
    )


def _values_of_change(append: Append) -> Values:
    before, after, progress = append.before, append.execution, append.execution.progress
    assert before is not None  # or it were a creation
    keeps_start = after.started_at == before.started_at
    return (
        after.id,
        after.updated_at.timestamp(),
        append.events,
        # shared as a rule
        before.version,
        NO_EPOCH if append.lease_epoch is None else append.lease_epoch,
        after.state,
        after.completed_at is not None,
        after.lease_epoch,
        after.attempt,
        after.rescues,
        after.idempotent,
        after.pause_requested,
        progress.percentage,
        keeps_start,
        append.command_id,
        append.actor,
        after.worker_id,
        progress.message,
        # rare
        to_json(progress.context) if progress.context else None,
        to_json(after.error),
        after.deadline,
        None if after.run_at == before.run_at else after.run_at,
        None if keeps_start else after.started_at,
    )


def _shared(column: Values) -> Values:
    return column[:1] if column.count(column[0]) == len(column) else column


def _sparse(column: Values) -> Values | None:
    return None if column.count(None) == len(column) else column
