"""Executions as rows hold them, for whoever only passes them on: JSON columns stay the text that PostgreSQL gave."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
from msgspec import Struct
from orjson import Fragment

from execution.domain.state import STATE_BY_WORD, ExecutionState

STORED_COLUMNS = (
    "id",
    "kind",
    "state",
    "version",
    "agent_id",
    "task_id",
    "progress_percentage",
    "progress_message",
    "error",
    "priority",
    "attempt",
    "run_at",
    "created_at",
    "started_at",
    "updated_at",
    "completed_at",
)
"""What lists show, in the order of a row of theirs. One execution has `STORED_DOCUMENTS` besides."""
STORED_DOCUMENTS = ("parameters", "result", "progress_context")


class StoredProgress(Struct, frozen=True, gc=False):
    """As `Progress`."""

    percentage: float
    message: str | None
    context: Fragment


class StoredExecution(Struct, frozen=True, gc=False):
    """As `Execution`, with the fields that clients are shown. In a list without parameters, result and context."""

    id: UUID
    kind: str
    state: ExecutionState
    version: int
    agent_id: str | None
    task_id: str | None
    progress: StoredProgress
    error: Fragment | None
    priority: int
    attempt: int
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    completed_at: datetime | None
    parameters: Fragment
    result: Fragment | None


def listed_from_row(row: asyncpg.Record) -> StoredExecution:
    """The execution of a row with `STORED_COLUMNS`."""
    return _stored(row, _EMPTY, None, _EMPTY)


def stored_from_row(row: asyncpg.Record) -> StoredExecution:
    """The execution of a row with `STORED_COLUMNS` and `STORED_DOCUMENTS`."""
    context = row["progress_context"]
    return _stored(
        row, Fragment(row["parameters"]), _fragment(row["result"]), _EMPTY if context is None else Fragment(context)
    )


def _stored(row: asyncpg.Record, parameters: Fragment, result: Fragment | None, context: Fragment) -> StoredExecution:
    # By position: by name, each column of each row of a list would be looked up.
    return StoredExecution(
        row[0],
        row[1],
        STATE_BY_WORD[row[2]],
        row[3],
        row[4],
        row[5],
        StoredProgress(row[6], row[7], context),
        _fragment(row[8]),
        row[9],
        row[10],
        row[11],
        row[12],
        row[13],
        row[14],
        row[15],
        parameters,
        result,
    )


def _fragment(text: str | None) -> Fragment | None:
    return None if text is None else Fragment(text)


_EMPTY = Fragment("{}")
