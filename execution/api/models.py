"""The bodies of requests and answers, for validation and for OpenAPI."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from execution.domain.state import ExecutionState


class _Document(BaseModel):
    """What the service answers; made from `execution.presentation`, these classes describe it."""

    model_config = ConfigDict(extra="forbid")


class ProgressDocument(_Document):
    """How far an execution says it is."""

    percentage: float = Field(ge=0, le=100)
    message: str | None
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


class ExecutionDocument(_Document):
    """An execution at one version."""

    id: UUID
    kind: str
    state: ExecutionState
    version: int = Field(ge=1)
    agent_id: str | None
    task_id: str | None
    parameters: dict[str, Any]
    progress: ProgressDocument
    result: dict[str, Any] | None
    error: ErrorDocument | None
    priority: int
    attempt: int = Field(ge=1)
    run_at: datetime
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    completed_at: datetime | None
    links: Links
