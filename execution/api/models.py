"""The bodies of answers, for OpenAPI. (`command_models.py` has those of commands.)"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from execution.domain.execution import JsonObject
from execution.domain.state import ExecutionState

# Answers: made by `execution.presentation`; these classes describe them.

_ID = "01890000-0000-7000-8000-000000000001"
_LISTED = {
    "id": _ID,
    "kind": "text.analyze",
    "state": "COMPLETED",
    "version": 5,
    "agent_id": None,
    "task_id": "T-17",
    "progress": {"percentage": 100.0, "message": "9 words"},
    "error": None,
    "priority": 0,
    "attempt": 1,
    "run_at": "2026-01-01T09:00:00.000000+00:00",
    "created_at": "2026-01-01T09:00:00.000000+00:00",
    "started_at": "2026-01-01T09:00:00.004000+00:00",
    "updated_at": "2026-01-01T09:00:00.012000+00:00",
    "completed_at": "2026-01-01T09:00:00.012000+00:00",
    "links": {
        "self": f"/v1/executions/{_ID}",
        "history": f"/v1/executions/{_ID}/history",
        "events": f"/v1/executions/{_ID}/events",
    },
}
_EXECUTION = _LISTED | {
    "parameters": {"path": "letter.txt"},
    "progress": {"percentage": 100.0, "message": "9 words", "context": {}},
    "result": {"words": 9, "sentences": 2},
}
_ENTRY = {
    "execution_id": _ID,
    "version": 2,
    "type": "agent.execution.state_changed",
    "occurred_at": "2026-01-01T09:00:00.000000+00:00",
    "actor": "client",
    "data": {"previous_state": "CREATED", "new_state": "PENDING", "reason": None},
}


def _shown(*examples: JsonObject) -> ConfigDict:
    """A document that has no other members, with examples."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": list(examples)})


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ListedProgress(_Document):
    """How far an execution says it is."""

    percentage: float = Field(ge=0, le=100)
    message: str | None


class ProgressDocument(ListedProgress):
    """The same with what the handler keeps beside it."""

    context: dict[str, Any]


class ErrorDocument(BaseModel):
    """Why an execution failed; further members are the handler's."""

    model_config = ConfigDict(extra="allow")

    type: str
    message: str


class Links(_Document):
    """Where to go on from an execution."""

    self: str
    history: str
    events: str


class ListedExecution(_Document):
    """An execution as one item of a list."""

    model_config = _shown(_LISTED)

    id: UUID
    kind: str
    state: ExecutionState
    version: int = Field(ge=1)
    agent_id: str | None
    task_id: str | None
    progress: ListedProgress
    error: ErrorDocument | None
    priority: int
    attempt: int = Field(ge=1)
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    completed_at: datetime | None
    links: Links


class ExecutionDocument(ListedExecution):
    """An execution at one version."""

    model_config = _shown(_EXECUTION)

    parameters: dict[str, Any]
    progress: ProgressDocument
    result: dict[str, Any] | None


class ExecutionList(_Document):
    """Part of a list, newest first. The members with a default are there in pages by number only."""

    model_config = _shown({"items": [_LISTED], "next_cursor": None})

    items: list[ListedExecution]
    next_cursor: str | None = Field(description="Where to go on; null at the end of the list.")
    total: int | None = None
    page: int | None = None
    page_size: int | None = None


class HistoryEntry(_Document):
    """One numbered entry of an execution's log."""

    model_config = _shown(_ENTRY)

    execution_id: UUID
    version: int = Field(ge=1)
    type: str
    occurred_at: datetime
    actor: str | None
    data: dict[str, Any]


class HistoryPage(_Document):
    """Part of an execution's log, in order."""

    model_config = _shown({"items": [_ENTRY], "next": f"/v1/executions/{_ID}/history?after_version=2&limit=1"})

    items: list[HistoryEntry]
    next: str | None = Field(description="Where to go on; null where the log ends for now.")


class Problem(BaseModel):
    """Why a request was refused or failed (RFC 9457). Further members tell programs what `detail` tells people."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="What kind of problem; stable. docs/problems.md lists them.")
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What happened in this case, and what to do.")
    code: str = Field(description="The last part of `type`.")
    retriable: bool = Field(description="May the same request succeed later?")
    instance: str | None = Field(default=None, description="The path of the request.")
    request_id: str | None = Field(default=None, description="What the service's log calls the request.")
