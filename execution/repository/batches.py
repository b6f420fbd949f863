"""A batch of appends as the array parameters of its statement, one array per column."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from execution.repository.records import to_json

if TYPE_CHECKING:
    from execution.repository.lanes import Append


def creation_arguments(batch: Sequence[Append]) -> list[Any]:
    """The parameters of `create_executions`."""
    new = [append.execution for append in batch]
    return [
        [one.id for one in new],
        [one.tenant_id for one in new],
        [one.kind for one in new],
        [one.state for one in new],
        [one.version for one in new],
        [one.priority for one in new],
        [one.agent_id for one in new],
        [one.task_id for one in new],
        [one.parent_id for one in new],
        [one.trace_context for one in new],
        [to_json(one.parameters) for one in new],
        [to_json(one.retry_policy.to_json()) if one.retry_policy else None for one in new],
        [one.schedule_to_start for one in new],
        [one.start_to_close for one in new],
        [one.deadline for one in new],
        [one.run_at for one in new],
        [one.created_at for one in new],
        *_event_arguments(batch),
    ]


def change_arguments(batch: Sequence[Append]) -> list[Any]:
    """The parameters of `append_events`."""
    after = [append.execution for append in batch]
    return [
        [one.id for one in after],
        [append.expected_version for append in batch],
        [append.lease_epoch for append in batch],
        [one.state for one in after],
        [one.version for one in after],
        [one.lease_epoch for one in after],
        [one.worker_id for one in after],
        [one.attempt for one in after],
        [one.rescues for one in after],
        [one.idempotent for one in after],
        [one.pause_requested for one in after],
        [to_json(one.result) for one in after],
        [to_json(one.error) for one in after],
        [one.progress.percentage for one in after],
        [one.progress.message for one in after],
        [to_json(one.progress.context) if one.progress.context else None for one in after],
        [one.deadline for one in after],
        [one.run_at for one in after],
        [one.updated_at for one in after],
        [one.started_at for one in after],
        [one.completed_at for one in after],
        *_event_arguments(batch),
    ]


def _event_arguments(batch: Sequence[Append]) -> list[list[Any]]:
    ids: list[UUID] = []
    versions: list[int] = []
    types: list[str] = []
    times: list[datetime] = []
    actors: list[str | None] = []
    commands: list[UUID] = []
    data: list[str] = []
    for append in batch:
        for event in append.events:
            ids.append(append.execution.id)
            versions.append(event.version)
            types.append(event.type)
            times.append(event.occurred_at)
            actors.append(event.actor)
            commands.append(append.command_id)
            data.append(orjson.dumps(event.data).decode())
    return [ids, versions, types, times, actors, commands, data]
