"""A batch of appends as the array parameters of its statement, one array per column.

Encoding an array costs the driver a good part of a microsecond per element, which is what a batch costs this process.
So an append's events travel as one JSON array, and a column without any value as no array at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from execution.repository.records import to_json

if TYPE_CHECKING:
    from execution.repository.lanes import Append

Column = list[Any] | None


def creation_arguments(batch: Sequence[Append]) -> list[Column]:
    """The parameters of `create_executions`."""
    new = [append.execution for append in batch]
    return [
        [one.id for one in new],
        [one.tenant_id for one in new],
        [one.kind for one in new],
        [one.state for one in new],
        [one.version for one in new],
        [one.priority for one in new],
        _sparse([one.agent_id for one in new]),
        _sparse([one.task_id for one in new]),
        _sparse([one.parent_id for one in new]),
        _sparse([one.trace_context for one in new]),
        [to_json(one.parameters) for one in new],
        _sparse([to_json(one.retry_policy.to_json()) if one.retry_policy else None for one in new]),
        _sparse([one.schedule_to_start for one in new]),
        _sparse([one.start_to_close for one in new]),
        _sparse([one.deadline for one in new]),
        [one.run_at for one in new],
        [one.created_at for one in new],
        *_event_arguments(batch),
    ]


def change_arguments(batch: Sequence[Append]) -> list[Column]:
    """The parameters of `append_events`."""
    after = [append.execution for append in batch]
    return [
        [one.id for one in after],
        [append.expected_version for append in batch],
        _sparse([append.lease_epoch for append in batch]),
        [one.state for one in after],
        [one.version for one in after],
        [one.lease_epoch for one in after],
        _sparse([one.worker_id for one in after]),
        [one.attempt for one in after],
        [one.rescues for one in after],
        [one.idempotent for one in after],
        [one.pause_requested for one in after],
        _sparse([to_json(one.result) for one in after]),
        _sparse([to_json(one.error) for one in after]),
        [one.progress.percentage for one in after],
        _sparse([one.progress.message for one in after]),
        _sparse([to_json(one.progress.context) if one.progress.context else None for one in after]),
        _sparse([one.deadline for one in after]),
        [one.run_at for one in after],
        [one.updated_at for one in after],
        _sparse([one.started_at for one in after]),
        _sparse([one.completed_at for one in after]),
        *_event_arguments(batch),
    ]


def _event_arguments(batch: Sequence[Append]) -> list[Column]:
    """Who caused the events, and the events: every event of one append has its time and its actor in common."""
    return [
        [append.command_id for append in batch],
        _sparse([append.events[0].actor for append in batch]),
        [orjson.dumps([[event.type, event.data] for event in append.events]).decode() for append in batch],
    ]


def _sparse(column: list[Any]) -> Column:
    return None if column.count(None) == len(column) else column
