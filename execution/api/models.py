"""The bodies of requests and answers, for validation and for OpenAPI."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from execution.domain.state import ExecutionState
from execution.domain.text import MAX_REASON_LENGTH

# Requests


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CommandRequest(_Request):
    """What may be said with a command."""

    reason: str | None = Field(
        default=None, max_length=MAX_REASON_LENGTH, description="Why; it is recorded.", examples=["superseded"]
    )


class ProgressRequest(_Request):
    """How far an execution is, from whoever runs it."""

    percentage: float = Field(ge=0, le=100, strict=True, description="Never falls within an attempt.", examples=[40])
    message: str | None = Field(default=None, max_length=MAX_REASON_LENGTH, examples=["page 4 of 10"])
    context: dict[str, Any] | None = Field(default=None, description="Merged into what earlier reports gave.")


class ReportedError(BaseModel):
    """Why an execution failed; further members are kept, too."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(default="failed", min_length=1, max_length=200, examples=["PageMissing"])
    message: str = Field(default="", max_length=MAX_REASON_LENGTH, examples=["page 7 cannot be read"])


class ResultRequest(_Request):
    """How an execution ended: with a result, an error, or (`partial`) part of a result and what is missing from it."""

    result: dict[str, Any] | None = Field(default=None, examples=[{"pages": 10}])
    error: ReportedError | None = None
    partial: bool = Field(default=False, strict=True, description="End PARTIAL_SUCCESS.")

    @model_validator(mode="after")
    def _is_one_end(self) -> Self:
        if self.result is not None and self.error is not None and not self.partial:
            raise ValueError("a result and an error together are part of a result: say partial")
        return self


# Answers: made by `execution.presentation`; these classes describe them.


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

    parameters: dict[str, Any]
    progress: ProgressDocument
    result: dict[str, Any] | None


class ExecutionList(_Document):
    """Part of a list, newest first. The members with a default are there in pages by number only."""

    items: list[ListedExecution]
    next_cursor: str | None = Field(description="Where to go on; null at the end of the list.")
    total: int | None = None
    page: int | None = None
    page_size: int | None = None


class HistoryEntry(_Document):
    """One numbered entry of an execution's log."""

    execution_id: UUID
    version: int = Field(ge=1)
    type: str
    occurred_at: datetime
    actor: str | None
    data: dict[str, Any]


class HistoryPage(_Document):
    """Part of an execution's log, in order."""

    items: list[HistoryEntry]
    next: str | None = Field(description="Where to go on; null where the log ends for now.")
